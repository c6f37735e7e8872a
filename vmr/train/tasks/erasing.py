"""Random erasing: a rectangle of a clip becomes noise.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import math

import numpy as np
import torch
from torch import Tensor

_AREA = (0.02, 0.33)  # share of the picture's area
_RATIO = (0.3, 3.3)  # height over width
_TRIES = 10

Rectangle = tuple[int, int, int, int]
"""Top, left, height and width, in pixels."""


def random_rectangle(height: int, width: int, rng: np.random.Generator) -> Rectangle | None:
    """Draw the rectangle that is erased: 2 to 33 % of the area, height over width from 0.3 to 3.3, log-uniform.

    Args:
        height: H.
        width: W.
        rng: where the random choices come from.

    Returns:
        The rectangle; None if ten draws did not fit into the picture.
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            return int(rng.integers(height - h, endpoint=True)), int(rng.integers(width - w, endpoint=True)), h, w
    return None


def erase_randomly(video: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Replace a rectangle of some clips by normal noise: one rectangle for all frames of a clip, noise for each frame.

    Args:
        video: normalised pixels, floats, (B, T, C, H, W); changed in place.
        probability: that a clip is changed, in [0, 1].
        rng: decides which clips, which rectangles and, by a seed, the noise.

    Returns:
        The same tensor.
    """
    if not probability:
        return video
    noise = torch.Generator(video.device).manual_seed(int(rng.integers(2**63)))
    for clip in video:
        if rng.random() >= probability:
            continue
        rectangle = random_rectangle(clip.shape[-2], clip.shape[-1], rng)
        if rectangle is not None:
            top, left, height, width = rectangle
            clip[..., top : top + height, left : left + width].normal_(generator=noise)
    return video
