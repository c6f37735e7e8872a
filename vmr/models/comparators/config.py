"""Sizes that only transformers have."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from vmr.errors import ModelError
from vmr.from_json import LATER
from vmr.models.videomamba.classifier import ClassifierConfig

Init = Literal["published", "scaled"]

HEAD_WIDTH = 64  # channels of an attention head in the published transformers


@dataclass(frozen=True)
class TransformerConfig(ClassifierConfig):
    """Sizes of a transformer: those of `ClassifierConfig`, and its heads.

    Attributes:
        num_heads: attention heads, a divisor of the width; 0 for heads of 64 channels, or of nearly as many where the
            width is no multiple of 64.
        num_time_layers: layers of the temporal encoder of `vivit`.
        init: fresh weights of a transformer. published: deviation 0.02, and positions in time of 0. scaled: matrices by
            their sizes, and positions of deviation 1 in space and time. For widths of about 100, at which the
            published ones are too small to learn from in minutes.

    Raises:
        ModelError: a size is out of range, or two do not fit each other.
    """

    num_heads: int = 0
    num_time_layers: int = 4
    init: Init = field(default="published", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("num_heads", 0), ("num_time_layers", 1)):
            if getattr(self, name) < least:
                raise ModelError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if self.init not in get_args(Init):
            raise ModelError(f"init is {self.init!r}; use one of {', '.join(get_args(Init))}")
        if self.num_heads and self.width % self.num_heads:
            raise ModelError(f"width {self.width} is no multiple of num_heads {self.num_heads}")

    @property
    def heads(self) -> int:
        """Attention heads, at least 1."""
        divisors = [number for number in range(1, self.width + 1) if self.width % number == 0]
        return self.num_heads or min(divisors, key=lambda number: abs(self.width / number - HEAD_WIDTH))
