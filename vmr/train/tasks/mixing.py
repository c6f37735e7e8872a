"""Mixup and cutmix of a batch: every clip is mixed with the one in the opposite place of the batch.

As in timm and upstream, the whole batch is mixed in the same way, and cutmix cuts one box out of all frames. timm's own
functions draw from numpy's global generator, which a resumed run would have to restore; newer ones also cut boxes of an
odd size a pixel larger than upstream.

Shapes: B clips, T frames, H x W pixels, C outputs of a classifier.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, bottom, left and right in pixels; bottom and right are outside."""


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed.

    Attributes:
        share: in [0, 1], what remains of each clip and of its target; the rest is that of the other clip.
        box: where cutmix shows the other clip; None for mixup.
    """

    share: float
    box: Box | None = None


def draw_mix(
    rng: np.random.Generator, height: int, width: int, *, mixup: float, cutmix: float, switch: float
) -> Mix | None:
    """Draw how to mix a batch.

    Args:
        rng: draws everything.
        height: H.
        width: W.
        mixup: share of a clip is drawn from Beta(mixup, mixup); 0 for no mixup.
        cutmix: the same for cutmix; 0 for no cutmix.
        switch: the probability of cutmix, if both can be drawn.

    Returns:
        What was drawn; None if neither mixup nor cutmix can be.
    """
    if not (mixup or cutmix):
        return None
    cuts = bool(cutmix) and (not mixup or rng.random() < switch)
    alpha = cutmix if cuts else mixup
    share = float(rng.beta(alpha, alpha))
    if not cuts:
        return Mix(share)
    return cut(height, width, share, (int(rng.integers(height)), int(rng.integers(width))))


def cut(height: int, width: int, share: float, center: tuple[int, int]) -> Mix:
    """Place the box of cutmix.

    Args:
        height: H.
        width: W.
        share: in [0, 1]; the box would have 1 - share of the picture, if the borders did not cut it off.
        center: row and column of its centre.

    Returns:
        The box inside the picture, and the share that remains outside of it.
    """
    side = math.sqrt(1 - share)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = center
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    return mix_by(height, width, (top, bottom, left, right))


def mix_by(height: int, width: int, box: Box) -> Mix:
    """Mix by a box; the share is that of the pixels outside of it.

    Args:
        height: H.
        width: W.
        box: inside the picture.

    Returns:
        How the batch is mixed.
    """
    top, bottom, left, right = box
    return Mix(1 - (bottom - top) * (right - left) / (height * width), box)


def mix_pixels(video: Tensor, mix: Mix) -> Tensor:
    """Mix the clips of a batch.

    Args:
        video: floats (B, ..., H, W).
        mix: how.

    Returns:
        The mixed clips, a new tensor.
    """
    other = video.flip(0)
    if mix.box is None:
        return mix.share * video + (1 - mix.share) * other
    top, bottom, left, right = mix.box
    mixed = video.clone()
    mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return mixed


def mix_targets(targets: Tensor, mix: Mix) -> Tensor:
    """Mix the targets of a batch.

    Args:
        targets: (B, C).
        mix: how.

    Returns:
        The mixed targets, a new tensor.
    """
    return mix.share * targets + (1 - mix.share) * targets.flip(0)
