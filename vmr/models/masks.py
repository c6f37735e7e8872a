"""Choose the patches that are hidden from the student in training with a teacher.

Li et al. 2023, "Unmasked Teacher: Towards Training-Efficient Video Foundation Models", section 3, and Li et al. 2024,
"VideoMamba", section 3.3, whose scans need rows of patches that stay together.

Shapes: B videos, T frames (time steps of the student), R rows of C columns of patches in a frame, N = R*C patches in a
frame, K features, D teacher width.

A mask is bool (B, 1 + T*N), frames one after the other, True = dropped; CLS (column 0) is always kept. Every sample
keeps the same number of patches, so that samples can be stacked; whether every frame does depends on the kind:

| kind | drawn from | dropped |
|---|---|---|
| `attention`, `random` | the patches of each frame | int(N * ratio) a frame |
| `tube` | the patches of a frame, for all frames of a video alike | int(N * ratio) a frame |
| `clip_random` | the patches of a video | int(T*N * ratio) a video |
| `frame_row` | the rows of each frame | int(R * ratio) whole rows a frame |
| `clip_row` | the rows of a video | T * int(R * ratio) whole rows a video |

int() rounds down once in each of these, so the same ratio drops different numbers of patches: at 0.8, 1254 of 8 x 14 x
14 with `clip_random`, 1248 with `tube`, `random` and `attention`, 1232 with rows. Upstream calls `clip_random` random,
`frame_row` tube_row and `clip_row` random_row; it has no `random` of single frames.

The kind `changed` is not drawn: it hides the patches that repeat earlier ones, see `vmr.models.videomamba.repeats`.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import check_mask
from vmr.models.videomamba.encoder import VideoMambaConfig

MaskKind = Literal["attention", "tube", "random", "clip_random", "frame_row", "clip_row", "changed", "none"]

# Smaller attention is raised to this value: softmax may round a row to zeros, which torch.multinomial refuses.
SMALLEST_WEIGHT = 1e-12

_ROWS = ("frame_row", "clip_row")
_UNEVEN = ("clip_random", "clip_row", "changed")  # frames keep different numbers of patches


class Drawn(NamedTuple):
    """What a mask of a batch is drawn from.

    Attributes:
        groups: how many draws are made, each from its own units.
        units: how many units, which are patches or rows, a group has.
        dropped: how many of them are dropped.
    """

    groups: int
    units: int
    dropped: int


def check_kind(kind: str) -> None:
    """Check the name of a kind of mask.

    Args:
        kind: the name.

    Raises:
        ModelError: there is no such kind.
    """
    if kind not in get_args(MaskKind):
        raise ModelError(f"mask kind is {kind!r}; use one of {', '.join(get_args(MaskKind))}")


def check_student_mask(kind: MaskKind, student: VideoMambaConfig) -> None:
    """Check that an encoder can see the patches that a kind of mask keeps.

    Args:
        kind: how patches are chosen.
        student: sizes of the encoder.

    Raises:
        ModelError: the encoder encodes each frame separately, and the kind keeps different numbers of patches in them.
    """
    if kind in _UNEVEN and not student.across_time:
        raise ModelError(
            f"mask kind {kind!r} keeps different numbers of patches in the frames of a clip, which across_time: false "
            "encodes together: use another kind, such as frame_row or random"
        )


def drawn_from(kind: MaskKind, ratio: float, shape: tuple[int, int, int, int]) -> Drawn:
    """Tell what a mask is drawn from, and how much of it is dropped.

    Args:
        kind: any but `none` and `changed`.
        ratio: share to drop, in [0, 1).
        shape: (B, T, R, C).

    Returns:
        The number of groups, the units of a group and how many of them are dropped.

    Raises:
        ModelError: the kind is unknown, or the ratio is out of range.
    """
    check_kind(kind)
    if kind == "changed":
        raise ModelError("mask kind 'changed' is not drawn: the pixels decide")
    if not 0 <= ratio < 1:
        raise ModelError(f"mask ratio is {ratio}; it must be at least 0 and below 1")
    batch, num_frames, num_rows, num_columns = shape
    num_patches = num_rows * num_columns
    if kind == "frame_row":
        return Drawn(batch * num_frames, num_rows, int(num_rows * ratio))
    if kind == "clip_row":
        return Drawn(batch, num_frames * num_rows, num_frames * int(num_rows * ratio))
    if kind == "clip_random":
        return Drawn(batch, num_frames * num_patches, int(num_frames * num_patches * ratio))
    return Drawn(batch if kind == "tube" else batch * num_frames, num_patches, int(num_patches * ratio))


def draw_mask(
    kind: MaskKind,
    ratio: float,
    shape: tuple[int, int, int, int],
    *,
    attention: Tensor | None = None,
    order: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """Choose the patches that each video's student does not see.

    Args:
        kind: `attention` draws the kept patches of each frame without replacement, with the teacher's attention as
            weights; the others draw evenly, as the table above says; `none` masks nothing.
        ratio: share to drop, in [0, 1); 0 gives a mask that drops nothing.
        shape: (B, T, R, C).
        attention: floats (B*T, N), at least 0; rows need not sum to 1. Needed for the kind `attention` only.
        order: int64 (groups, units) of `drawn_from`, the units of each group, those to keep first; used instead of a
            random draw.
        generator: source of randomness, on the device where patches are drawn; default, torch's global one.
        device: where to make the mask; for `attention` it is the attention's device.

    Returns:
        The mask, bool (B, 1 + T*N); None for the kind `none`.

    Raises:
        ModelError: the kind is unknown, the ratio is out of range, `attention` is missing, or `attention` or `order`
            has another shape.
    """
    if kind == "none":
        return None
    groups, units, num_dropped = drawn_from(kind, ratio, shape)
    if order is None and kind == "attention":
        order = _order_by_attention(attention, generator)
    elif order is None:
        order = torch.rand(groups, units, generator=generator, device=device).argsort(dim=-1)
    if order.shape != (groups, units):
        raise ModelError(
            f"mask kind {kind!r} orders {groups} x {units} units of {shape}, but {tuple(order.shape)} were given: "
            "the grids of teacher and student differ"
        )
    dropped = torch.ones(order.shape, dtype=torch.bool, device=order.device)
    dropped = dropped.scatter(-1, order[:, : units - num_dropped], False).view(shape[0], -1)
    if kind == "tube":
        dropped = dropped.repeat(1, shape[1])
    elif kind in _ROWS:
        dropped = dropped.repeat_interleave(shape[3], dim=1)
    return torch.cat([dropped.new_zeros(len(dropped), 1), dropped], dim=1)  # (B, 1 + T*N)


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
