"""Training augmentation as upstream trains: a random crop, a flip and RandAugment, each the same for all frames.

Shapes: T frames, H x W pixels in, S x S out. The rules are those of OpenGVLab/VideoMamba at f3427e42
(dataset/__init__.py): torchvision's RandomResizedCrop with scale 0.5 to 1, then a horizontal flip of one clip in two.
All randomness comes from the generator that is handed in.
"""

import math
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.resize import resize_bicubic
from vmr.data.extras import import_extra
from vmr.errors import VmrError

Box = tuple[int, int, int, int]  # top, left, height, width, in pixels
FlipRule = bool | Literal["unless_sided"]

_SCALE = (0.5, 1.0)  # share of the picture's area
_RATIO = (3 / 4, 4 / 3)  # width over height
_TRIES = 10
# Words that are no longer true in a mirror. "counter-clockwise" and "left-handed" are found by their parts.
_SIDED = {
    *("left", "leftmost", "leftward", "leftwards", "lefthand", "clockwise", "counterclockwise"),
    *("right", "rightmost", "rightward", "rightwards", "righthand", "anticlockwise"),
}


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """The part of an H x W picture that a training clip shows, drawn as torchvision's RandomResizedCrop draws it.

    Half to all of the area, width over height between 3/4 and 4/3, uniform in its logarithm. A picture in which ten
    draws find no place gives its middle instead, as much of it as the ratio allows.
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*_SCALE)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h, endpoint=True)), int(rng.integers(width - w, endpoint=True)), h, w
    h = min(height, max(1, round(width / _RATIO[0])))
    w = min(width, max(1, round(height * _RATIO[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def resize_clip(frames: NDArray[np.uint8], size: int, *, antialias: bool = False) -> NDArray[np.uint8]:
    """frames: uint8 (T, 3, H, W) -> (T, 3, size, size), bicubic; antialias False is upstream's.

    One frame at a time: what it makes on the way then fits a processor's cache, which at 720p takes half the time.
    """
    return np.stack([resize_bicubic(frame, (size, size), antialias=antialias) for frame in frames])


def random_flip(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """frames: (T, 3, H, W), mirrored left to right, all of them, one time in two."""
    return frames[..., ::-1] if rng.random() < 0.5 else frames


def flip_allowed(caption: str, rule: FlipRule) -> bool:
    """Whether a clip with this caption may be mirrored.

    rule: True, False, or "unless_sided": not if the caption holds a word that tells left from right ("left",
    "rightmost", "clockwise", ...) in any sense: "he left" costs a flip, a wrong pair costs more.
    """
    if isinstance(rule, bool):
        return rule
    return _SIDED.isdisjoint(re.findall("[a-z]+", caption.lower()))


def rand_augment(video: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """torchvision's RandAugment with its defaults (two operations of magnitude 9), the same for all frames.

    video: uint8 (T, 3, S, S), a row of a batch -> the same. Upstream applies it before the crop, here it comes after.
    It draws from torch's global generator, seeded from `rng` and put back afterwards: call it from the thread that
    trains. Raises MissingExtraError without torchvision.
    """
    import torch

    transforms = import_extra("torchvision").transforms
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[1] != 3:
        raise VmrError(f"a video to augment must be uint8 (T, 3, S, S), got {video.dtype} {video.shape}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))  # the CPU's alone
        changed: NDArray[np.uint8] = transforms.RandAugment()(torch.from_numpy(np.ascontiguousarray(video))).numpy()
    return changed
