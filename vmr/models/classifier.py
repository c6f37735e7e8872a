"""The interface between classifiers and the rest of vmr. The evaluation and `vmr-classify` use only this interface.

To use a classifier of your own, write a class with the attributes and methods of `Classifier`; no base class is needed.

Imports no torch. Shapes: B videos, T frames, S pixels a side, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args, runtime_checkable

from vmr.checks import whole_number
from vmr.errors import ModelError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, RGB, Preprocess
from vmr.targets import FrameRule, Target

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClipInput:
    """The clips that a classifier expects, and how their pixels become floats.

    Attributes:
        num_frames: T, frames of a clip; 1 for classifiers of images.
        size: S, side of the square frames in pixels.
        frames: which frames of a video a clip takes; None where that is not known, for the rule of the data.
        mean: subtracted from the channels, for pixels scaled to [0, 1].
        std: divides the channels after that.

    Raises:
        VmrError: a number is out of range.
        ModelError: the rule is unknown.
    """

    num_frames: int
    size: int
    frames: FrameRule | None = "sparse"
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("num_frames", "size"):
            whole_number(name, getattr(self, name))
        if self.frames is not None and self.frames not in get_args(FrameRule):
            raise ModelError(f"frames is {self.frames!r}; use one of {', '.join(get_args(FrameRule))}")

    def __call__(self, video: Tensor) -> Tensor:
        """Normalise pixels, uint8 (B, T, 3, S, S) -> float32; see `Preprocess`."""
        return Preprocess(self.num_frames, self.size, "crop", self.mean, self.std)(video)


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one video.

    Attributes:
        labels: names of classes, the likeliest first.
        probabilities: of these classes, in [0, 1]; of `single` they sum to 1 over all classes.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@runtime_checkable
class Classifier(Protocol):
    """Turns clips into logits of classes.

    Attributes:
        name: what messages and reports call the classifier.
        about: one line on what it can and cannot do.
        labels: names of the classes, C of them.
        target: what it predicts.
        num_frames: T, frames of a clip.
        size: S, side of a frame in pixels.
        frames: which frames of a video a clip takes; None to take them by the rule of the data.
        fingerprint: a hash of everything that the logits depend on.
    """

    name: str
    about: str
    labels: tuple[str, ...]
    target: Target
    num_frames: int
    size: int
    frames: FrameRule | None
    fingerprint: str

    def logits(self, video: Tensor) -> Tensor:
        """Classify a batch of clips.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 (B, C).
        """

    def classify(self, video: Tensor, k: int = 5) -> list[Prediction]:
        """Name the k likeliest classes of each clip.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).
            k: how many classes, at least 1.

        Returns:
            B predictions.

        Raises:
            ModelError: the classifier predicts a number (`regression`): use `logits`.
        """


def plain_name(name: str) -> str:
    """Reduce the name of a class to what is compared: case, underscores and repeated spaces do not count.

    Args:
        name: as a data set or a classifier writes it.

    Returns:
        The name in small letters, its words parted by one space.
    """
    return " ".join(name.replace("_", " ").casefold().split())


def are_numbers(names: Sequence[str]) -> bool:
    """Tell whether classes have numbers for names: `3`, `class 3`, or Transformers' `LABEL_3`, each in its place.

    Args:
        names: of all classes, in their order.
    """
    return all(re.fullmatch(rf"(class |LABEL_)?{number}", name) for number, name in enumerate(names))
