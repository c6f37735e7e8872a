"""Sizes of a classifying network of any kind."""

from dataclasses import dataclass
from typing import Literal, get_args

from vmr.errors import ModelError
from vmr.models.videomamba.classifier import ClassifierConfig

Kind = Literal["videomamba", "videomamba_frames", "videomamba_causal", "vit", "timesformer", "vivit", "vim"]


@dataclass(frozen=True)
class NetworkConfig(ClassifierConfig):
    """Sizes of a network: those of `ClassifierConfig`, and what only some kinds have.

    Attributes:
        kind: `videomamba` (bidirectional, the frames of a clip are one sequence), `videomamba_frames` (each frame as an
            image, features averaged), `videomamba_causal` (forward scans only), `vit` (joint attention over all
            tokens), `timesformer` (attention over time, then over space), `vivit` (a spatial encoder, then a temporal
            one), or `vim` (images, the class token in the middle).
        num_heads: attention heads of a transformer; 0 for one for each 64 channels.
        num_time_layers: layers of the temporal encoder of `vivit`.

    Raises:
        ModelError: a size is out of range, or two do not fit each other.
    """

    kind: Kind = "videomamba"
    num_heads: int = 0
    num_time_layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in get_args(Kind):
            raise ModelError(f"kind is {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        if self.num_heads < 0 or self.num_time_layers < 1:
            raise ModelError("num_heads must be at least 0, and num_time_layers at least 1")
