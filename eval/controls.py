"""Controls: an encoder or a classifier that sees no motion. Its scores show how much of a result needs no motion.

Shapes: B videos, T frames, S pixels a side.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from vmr.models.classifier import Classifier, Prediction
from vmr.models.encoder import Encoder


def static_order(num_frames: int) -> list[int]:
    """Return the order that repeats the middle frame.

    Args:
        num_frames: T.

    Returns:
        T times the number of the middle frame, from 0.
    """
    return [num_frames // 2] * num_frames


def shuffled_order(num_frames: int) -> list[int]:
    """Return one fixed permutation of the frames, the same for every video and on every machine.

    Args:
        num_frames: T.

    Returns:
        The numbers 0 to T - 1 in another order.
    """
    order: list[int] = np.random.default_rng(0).permutation(num_frames).tolist()
    return order


CONTROLS: dict[str, Callable[[int], list[int]]] = {"static": static_order, "shuffled": shuffled_order}
"""For each column of the report, the function that returns the frame numbers, in order, that the encoder sees."""


class WithoutMotion:
    """An encoder that gets the frames of each video in the order of a control.

    Attributes:
        encoder: the encoder itself.
        order: one of the functions in CONTROLS.
        name: the encoder's name, with the control.
        about: the encoder's.
        embed_dim: D, the encoder's.
        preprocess: the encoder's.
        fingerprint: differs from the encoder's, because the vectors differ.
    """

    def __init__(self, encoder: Encoder, control: str) -> None:
        self.encoder = encoder
        self.order = CONTROLS[control]
        self.name = f"{encoder.name} ({control})"
        self.about = encoder.about
        self.embed_dim = encoder.embed_dim
        self.preprocess = encoder.preprocess
        self.fingerprint = f"{encoder.fingerprint}-{control}"

    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos whose frames are put into the order of the control.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 vectors (B, D) of length at most 1.
        """
        return self.encoder.encode_video(video[:, self.order(video.shape[1])])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as the encoder does: B strings -> float32 unit vectors (B, D)."""
        return self.encoder.encode_text(texts)


class ClassifierWithoutMotion:
    """A classifier that gets the frames of each clip in the order of a control.

    Attributes:
        classifier: the classifier itself.
        order: one of the functions in CONTROLS.
        name: the classifier's name, with the control.
        about: the classifier's.
        labels: the classifier's.
        target: the classifier's.
        num_frames: T, the classifier's.
        size: S, the classifier's.
        frames: the classifier's.
        fingerprint: differs from the classifier's, because the logits differ.
    """

    def __init__(self, classifier: Classifier, control: str) -> None:
        self.classifier = classifier
        self.order = CONTROLS[control]
        self.name = f"{classifier.name} ({control})"
        self.about, self.labels, self.target = classifier.about, classifier.labels, classifier.target
        self.num_frames, self.size, self.frames = classifier.num_frames, classifier.size, classifier.frames
        self.fingerprint = f"{classifier.fingerprint}-{control}"

    def logits(self, video: Tensor) -> Tensor:
        """Classify clips whose frames are put into the order of the control.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 (B, C).
        """
        return self.classifier.logits(video[:, self.order(video.shape[1])])

    def classify(self, video: Tensor, k: int = 5) -> list[Prediction]:
        """Name the k likeliest classes of clips whose frames are put into the order of the control."""
        return self.classifier.classify(video[:, self.order(video.shape[1])], k)
