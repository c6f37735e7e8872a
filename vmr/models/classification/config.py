"""Sizes of a classifying network of any kind."""

from dataclasses import dataclass
from typing import Literal, get_args

from vmr.errors import ModelError
from vmr.models.comparators.config import TransformerConfig

Kind = Literal["videomamba", "videomamba_frames", "videomamba_causal", "vit", "timesformer", "vivit", "vim"]

_TRANSFORMERS: tuple[Kind, ...] = ("vit", "timesformer", "vivit")
_MAMBAS: tuple[Kind, ...] = ("videomamba", "videomamba_frames", "videomamba_causal", "vim")
OPTIONS_OF_KINDS: dict[str, tuple[Kind, ...]] = {
    "num_heads": _TRANSFORMERS,
    "num_time_layers": ("vivit",),
    "init": _TRANSFORMERS,
    "dt_init": _MAMBAS,
}
"""A key of `NetworkConfig` -> the kinds that have it; the others leave it at its default."""


@dataclass(frozen=True)
class NetworkConfig(TransformerConfig):
    """Sizes of a network of any kind.

    Attributes:
        kind: `videomamba` (bidirectional, the frames of a clip are one sequence), `videomamba_frames` (each frame as an
            image, features averaged), `videomamba_causal` (forward scans only), `vit` (joint attention over all
            tokens), `timesformer` (attention over time, then over space), `vivit` (a spatial encoder, then a temporal
            one), or `vim` (images, the class token in the middle; the frames of a clip are averaged).

    Raises:
        ModelError: a size is out of range, or two do not fit each other.
    """

    kind: Kind = "videomamba"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in get_args(Kind):
            raise ModelError(f"kind is {self.kind!r}; use one of {', '.join(get_args(Kind))}")
