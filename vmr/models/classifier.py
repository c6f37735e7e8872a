"""The interface between classifiers and the rest of vmr. The evaluation and `vmr-classify` use only this interface.

Imports no torch. Shapes: B videos, T frames, S pixels a side, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vmr.targets import Target

if TYPE_CHECKING:
    from torch import Tensor


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
        fingerprint: a hash of everything that the logits depend on.
    """

    name: str
    about: str
    labels: tuple[str, ...]
    target: Target
    num_frames: int
    size: int
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
        """
