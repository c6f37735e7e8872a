"""Which patches the student does not see, in training with a teacher (Li et al. 2023, "Unmasked Teacher", section 3).

Shapes: B videos, T frames (time steps of the student), N patches in a frame, K features, D teacher width.

A mask is bool (B, 1 + T*N), frames one after the other, True = dropped; CLS (column 0) is kept. Every frame keeps
N - int(N * ratio) patches, so that samples can be stacked and each frame can be pooled on its own.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import check_mask

MaskKind = Literal["attention", "tube", "random", "none"]

# A patch that the teacher's softmax rounded to nothing may still be drawn, and a row of such patches is not an error.
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
        kind: `attention` draws the kept patches by the teacher's attention, each frame for itself, without putting
            back; `tube` drops the same patches, drawn evenly, in all frames of a video; `random` draws evenly in each
            frame for itself; `none` masks nothing and gives None.
        ratio: share of each frame's patches to drop, in [0, 1); 0 gives a mask that drops nothing.
        shape: (B, T, N).
        attention: (B*T, N), at least 0, rows need not sum to 1; for `attention`.
        importance: int64 (B*T, N), the patches of each frame, first to be kept first; in place of any draw (for tubes
            it is the caller who repeats them).
        generator: where the randomness comes from, on the device of what is drawn; torch's own where absent.
        device: of the mask, for `tube` and `random`; `attention` draws where the attention is.

    Raises:
        ModelError: the kind or ratio is none of these, or what `attention` needs is absent or of another shape.
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
    """The teacher's features of the patches that the student sees: (K, B, 1 + T*N, D) -> (K, B, 1 + kept, D).

    mask: bool (B, 1 + T*N), True = dropped. Raises ModelError if it does not fit, or samples keep different numbers.
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
