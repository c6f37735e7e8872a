"""An encoder that is denied motion: what it still scores, it does not owe to time.

Shapes: B videos, T frames, S pixels a side.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from vmr.models.encoder import Encoder


def static_order(num_frames: int) -> list[int]:
    """The middle frame, again and again."""
    return [num_frames // 2] * num_frames


def shuffled_order(num_frames: int) -> list[int]:
    """One permutation for all videos, the same for everybody."""
    order: list[int] = np.random.default_rng(0).permutation(num_frames).tolist()
    return order


CONTROLS: dict[str, Callable[[int], list[int]]] = {"static": static_order, "shuffled": shuffled_order}
"""Column of the report -> which frame the encoder sees at each place."""


class WithoutMotion:
    """`encoder` behind its own protocol, shown the frames of each video in the order that `control` says."""

    def __init__(self, encoder: Encoder, control: str) -> None:
        self.encoder = encoder
        self.order = CONTROLS[control]
        self.name = f"{encoder.name} ({control})"
        self.about = encoder.about
        self.embed_dim = encoder.embed_dim
        self.preprocess = encoder.preprocess
        self.fingerprint = f"{encoder.fingerprint}-{control}"  # these vectors are others

    def encode_video(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> float32 vectors (B, D) of length at most 1."""
        return self.encoder.encode_video(video[:, self.order(video.shape[1])])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """As the encoder does."""
        return self.encoder.encode_text(texts)
