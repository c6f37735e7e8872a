"""Training augmentation as upstream trains: a random crop, a flip and RandAugment, each the same for all frames.

Shapes: T frames, H x W pixels in, S x S out. The rules are those of OpenGVLab/VideoMamba at f3427e42: torchvision's
RandomResizedCrop, with scale 0.5 to 1 for retrieval and 0.08 to 1 for classes, then a horizontal flip of one clip in
two; and for masked pre-training one of some sizes at one of 13 places. All randomness comes from the generator that is
an argument.
"""

import math
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.resize import resize_bicubic, resize_bilinear
from vmr.data.extras import import_extra
from vmr.errors import VmrError

Box = tuple[int, int, int, int]
"""Top, left, height and width, in pixels."""

FlipRule = bool | Literal["unless_sided"]

Interpolation = Literal["bicubic", "bilinear", "antialiased_bicubic", "antialiased_bilinear"]
"""How a part of a picture is scaled, see `resize_clip`."""

_RATIO = (3 / 4, 4 / 3)  # width over height
_TRIES = 10
_SIDES = (1.0, 0.875, 0.75, 0.66)  # of multi-scale crops, over the short side of the picture
_SAME_SIDE = 3  # a side that differs by fewer pixels from that of the result is taken to be it
_QUARTERS = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3))
# Words that are wrong for the mirrored picture. "counter-clockwise" and "left-handed" are found by their parts.
_SIDED = {
    *("left", "leftmost", "leftward", "leftwards", "lefthand", "clockwise", "counterclockwise"),
    *("right", "rightmost", "rightward", "rightwards", "righthand", "anticlockwise"),
}


def random_box(height: int, width: int, rng: np.random.Generator, scale: tuple[float, float] = (0.5, 1.0)) -> Box:
    """Draw the part of a picture that a training clip shows, as torchvision's RandomResizedCrop draws it.

    Its width over height is between 3/4 and 4/3, uniform in the logarithm. If ten draws do not fit into the picture,
    the largest possible box in its middle is taken.

    Args:
        height: H.
        width: W.
        rng: where the random choices come from.
        scale: the least and the greatest share of the picture's area.
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h, endpoint=True)), int(rng.integers(width - w, endpoint=True)), h, w
    h = min(height, max(1, round(width / _RATIO[0])))
    w = min(width, max(1, round(height * _RATIO[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def multi_scale_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """Draw the part of a picture that masked pre-training shows.

    Its sides are 1, 0.875, 0.75 or 0.66 of the picture's short side; height and width are equal or neighbours in this
    row, all such pairs alike. It is at one of 13 places: the corners, the middle of each side, the middle, and half-way
    from the middle to each corner.

    Args:
        height: H.
        width: W.
        size: S; a side within two pixels of it is S.
        rng: where the random choices come from.
    """
    sides = [int(min(height, width) * share) for share in _SIDES]
    sides = [size if abs(side - size) < _SAME_SIDE and size <= min(height, width) else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for k, w in enumerate(sides) if abs(i - k) <= 1]
    h, w = pairs[rng.integers(len(pairs))]
    right, down = _QUARTERS[rng.integers(len(_QUARTERS))]
    return down * ((height - h) // 4), right * ((width - w) // 4), max(1, h), max(1, w)


def resize_clip(frames: NDArray[np.uint8], size: int, how: Interpolation = "bicubic") -> NDArray[np.uint8]:
    """Resize a clip.

    It is done one frame at a time, because the intermediate results then fit into the processor's cache, which halves
    the time at 720p.

    Args:
        frames: uint8 (T, 3, H, W).
        size: S.
        how: "bicubic" as upstream trains retrieval, "bilinear" as it trains classes of videos, both without
            antialiasing; or with it, by Pillow: "antialiased_bicubic" as it trains on images, "antialiased_bilinear" as
            in its masked pre-training.

    Returns:
        uint8 (T, 3, S, S).

    Raises:
        MissingExtraError: Pillow is not installed, and `how` needs it.
    """
    if how == "bicubic":
        return np.stack([resize_bicubic(frame, (size, size)) for frame in frames])
    pictures = [np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in frames]
    if how == "bilinear":
        scaled = [resize_bilinear(picture, (size, size)) for picture in pictures]
    else:
        image = import_extra("PIL.Image")
        kind = image.Resampling.BICUBIC if how == "antialiased_bicubic" else image.Resampling.BILINEAR
        scaled = [np.asarray(image.fromarray(picture).resize((size, size), kind)) for picture in pictures]
    return np.stack(scaled).transpose(0, 3, 1, 2)


def random_flip(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror all frames left to right with probability 1/2. frames: (T, 3, H, W)."""
    return frames[..., ::-1] if rng.random() < 0.5 else frames


def flip_allowed(caption: str, rule: FlipRule) -> bool:
    """Tell whether a clip with this caption may be mirrored.

    Args:
        caption: of the clip.
        rule: True, False, or "unless_sided": not if the caption holds a word that tells left from right ("left",
            "rightmost", "clockwise", ...). The sense of the word does not matter: "he left" prevents a flip too, which
            costs less than a wrong pair.
    """
    if isinstance(rule, bool):
        return rule
    return _SIDED.isdisjoint(re.findall("[a-z]+", caption.lower()))


def rand_augment(video: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply torchvision's RandAugment with its defaults (two operations of magnitude 9), the same to all frames.

    Upstream applies it before the crop; here it comes after the crop. torchvision draws from torch's global generator,
    which is seeded from `rng` and restored afterwards: call this from the thread that trains.

    Args:
        video: uint8 (T, 3, S, S), one row of a batch.
        rng: where the random choices come from.

    Returns:
        uint8 (T, 3, S, S).

    Raises:
        MissingExtraError: torchvision is not installed.
        VmrError: the video has another shape or type.
    """
    import torch

    transforms = import_extra("torchvision").transforms
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[1] != 3:
        raise VmrError(f"a video to augment must be uint8 (T, 3, S, S), got {video.dtype} {video.shape}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))  # only the CPU's generator
        changed: NDArray[np.uint8] = transforms.RandAugment()(torch.from_numpy(np.ascontiguousarray(video))).numpy()
    return changed
