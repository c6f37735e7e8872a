"""Choose the patches that are hidden from the student in training with a teacher.

Li et al. 2023, "Unmasked Teacher: Towards Training-Efficient Video Foundation Models", section 3.

Shapes: B videos, T frames (time steps of the student), N patches in a frame, K features, D teacher width.

A mask is bool (B, 1 + T*N), frames one after the other, True = dropped; CLS (column 0) is always kept. Every frame
keeps N - int(N * ratio) patches, so that samples can be stacked and each frame can be pooled on its own.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import check_mask

MaskKind = Literal["attention", "tube", "random", "none"]

# Smaller attention is raised to this value: softmax may round a row to zeros, which torch.multinomial refuses.
SMALLEST_WEIGHT = 1e-12


def draw_mask(
    kind: MaskKind,
    ratio: float,
    shape: tuple[int, int, int],
    *,
    attention: Tensor | None = None,
    importance: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """Choose the patches that each video's student does not see.

    Args:
        kind: `attention` draws the kept patches of each frame without replacement, with the teacher's attention as
            weights; `tube` draws patches uniformly and drops the same ones in all frames of a video; `random` draws
            uniformly in each frame; `none` masks nothing.
        ratio: share of each frame's patches to drop, in [0, 1); 0 gives a mask that drops nothing.
        shape: (B, T, N).
        attention: floats (B*T, N), at least 0; rows need not sum to 1. Needed for the kind `attention` only.
        importance: int64 (B*T, N), the patches of each frame, those to keep first; used instead of a random draw. For
            `tube` the caller must give all frames of a video the same row.
        generator: source of randomness, on the device where patches are drawn; default, torch's global one.
        device: where to make the mask, for `tube` and `random`; for `attention` it is the attention's device.

    Returns:
        The mask, bool (B, 1 + T*N); None for the kind `none`.

    Raises:
        ModelError: the kind is unknown, the ratio is out of range, or `attention` or `importance` is missing or does
            not have the shape (B*T, N).
    """
    if kind not in get_args(MaskKind):
        raise ModelError(f"mask kind is {kind!r}; use one of {', '.join(get_args(MaskKind))}")
    if kind == "none":
        return None
    batch, num_frames, num_patches = shape
    if importance is not None:
        order = importance
    elif kind == "attention":
        order = _order_by_attention(attention, generator)
    else:
        rows = batch if kind == "tube" else batch * num_frames
        order = torch.rand(rows, num_patches, generator=generator, device=device).argsort(dim=-1)
        order = order.repeat_interleave(batch * num_frames // rows, dim=0)  # (B*T, N)
    if order.shape != (batch * num_frames, num_patches):
        raise ModelError(f"mask: the teacher looked at {tuple(order.shape)} patches, not {shape}: their grids differ")
    return _keep_first(order, ratio, batch)


def select_visible(features: Tensor, mask: Tensor) -> Tensor:
    """Take the teacher's features of CLS and of the patches that the student sees.

    Args:
        features: (K, B, 1 + T*N, D).
        mask: bool (B, 1 + T*N), True = dropped.

    Returns:
        (K, B, 1 + kept, D).

    Raises:
        ModelError: the mask has another shape or dtype, drops CLS, or keeps different numbers of patches in different
            samples.
    """
    check_mask(mask, features.shape[1], features.shape[2])
    num_features, batch, _, width = features.shape
    return features[:, ~mask].view(num_features, batch, -1, width)


def _order_by_attention(attention: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(B*T, N) -> the patches of each frame in an order drawn by their attention (upstream fact: multinomial)."""
    if attention is None:
        raise ModelError("mask kind 'attention' needs the teacher's attention: train with a teacher, or use 'random'")
    weights = attention.float().clamp_min(SMALLEST_WEIGHT)
    return torch.multinomial(weights, weights.shape[-1], generator=generator)


def _keep_first(order: Tensor, ratio: float, batch: int) -> Tensor:
    """Keep the first patches of each frame's order (B*T, N) -> mask (B, 1 + T*N)."""
    if not 0 <= ratio < 1:
        raise ModelError(f"mask ratio is {ratio}; it must be at least 0 and below 1")
    num_patches = order.shape[-1]
    num_kept = num_patches - int(num_patches * ratio)
    dropped = torch.ones(order.shape, dtype=torch.bool, device=order.device)
    dropped = dropped.scatter(-1, order[:, :num_kept], False).view(batch, -1)  # (B, T*N)
    return torch.cat([dropped.new_zeros(batch, 1), dropped], dim=1)
