"""RandAugment and AutoAugment as timm has them, on all frames of a clip alike.

Shapes: T frames, H x W pixels.

timm's augmentations are one file that needs Pillow and numpy only. Importing it as a part of timm would load torch into
each decoding process, which takes four seconds and 700 MB. So the file is loaded by itself. This copy of the module
also has random numbers of its own, which are set to the same state before each frame.
"""

import importlib.util
import random
import re
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.extras import import_extra
from vmr.errors import MissingExtraError, VmrError

Color = tuple[int, int, int]
"""Red, green and blue in [0, 255]."""

GREY: Color = (128, 128, 128)
MEAN_COLOR: Color = (124, 116, 104)
"""The mean of ImageNet's pixels."""

_RAND = re.compile(r"rand(-(m\d+|n\d+|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]))*")
_POLICIES = ("v0", "original")
_ONE_AT_A_TIME = threading.Lock()  # the random state belongs to the module


def check_policy(policy: str) -> None:
    """Check the name of a policy.

    Args:
        policy: timm's string of a RandAugment, such as "rand-m7-n4-mstd0.5-inc1", or "v0" or "original" of AutoAugment.

    Raises:
        VmrError: there is no such policy.
    """
    if policy not in _POLICIES and not _RAND.fullmatch(policy):
        raise VmrError(
            f"no augmentation {policy!r}: use a string of timm, such as rand-m7-n4-mstd0.5-inc1, or "
            f"{' or '.join(_POLICIES)}"
        )


def require_timm() -> None:
    """Check that timm and Pillow are installed. Raises MissingExtraError if not."""
    import_extra("PIL.Image")
    if importlib.util.find_spec("timm") is None:
        raise MissingExtraError("timm", "train")


def augment_frames(frames: NDArray[np.uint8], policy: str, seed: int, fill: Color = GREY) -> NDArray[np.uint8]:
    """Apply a policy to a clip, with one draw for all frames: the same operations, magnitudes and signs.

    Operations that move pixels are bicubic, as upstream has it.

    Args:
        frames: uint8 RGB, (T, 3, H, W).
        policy: see `check_policy`.
        seed: of the draw.
        fill: what operations uncover: upstream has GREY for videos and MEAN_COLOR for images.

    Returns:
        uint8 RGB, (T, 3, H, W).

    Raises:
        MissingExtraError: timm or Pillow is not installed.
    """
    image = import_extra("PIL.Image")
    timm, apply = _module(), _operations(policy, fill)
    changed = np.empty_like(frames)
    with _ONE_AT_A_TIME:
        for number, frame in enumerate(frames):
            timm.random = random.Random(seed)  # type: ignore[attr-defined]
            timm.np.random = np.random.RandomState(seed % 2**32)
            picture = apply(image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))))
            changed[number] = np.asarray(picture).transpose(2, 0, 1)
    return changed


class _Numpy:
    """numpy as timm's file uses it, but with random numbers of its own."""

    def __init__(self) -> None:
        self.random: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@lru_cache(maxsize=1)
def _module() -> ModuleType:
    """Load timm's file of augmentations without timm."""
    require_timm()
    package = importlib.util.find_spec("timm")
    assert package is not None  # see require_timm
    assert package.submodule_search_locations is not None  # it is a package
    file = Path(package.submodule_search_locations[0], "data", "auto_augment.py")
    spec = importlib.util.spec_from_file_location("vmr_timm_auto_augment", file)
    assert spec is not None  # it is a Python file
    assert spec.loader is not None  # likewise
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.np = _Numpy()  # type: ignore[attr-defined]
    operations = module.NAME_TO_OP
    for name in [name for name in operations if name.startswith("Posterize")]:
        operations[name] = partial(_posterize, operations[name])
    return module


def _posterize(operation: Callable[..., Any], picture: Any, bits_to_keep: int, **others: Any) -> Any:
    """Keep the first bits of each colour; 0 bits, which Pillow 13 refuses, are a black picture as in older Pillow."""
    if bits_to_keep < 1:
        return picture.point(lambda _: 0)
    return operation(picture, bits_to_keep, **others)


@lru_cache(maxsize=4)
def _operations(policy: str, fill: Color) -> Callable[[Any], Any]:
    check_policy(policy)
    timm, image = _module(), import_extra("PIL.Image")
    make = timm.rand_augment_transform if policy.startswith("rand") else timm.auto_augment_transform
    operations: Callable[[Any], Any] = make(policy, {"interpolation": image.Resampling.BICUBIC, "img_mean": fill})
    return operations
