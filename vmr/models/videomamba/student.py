"""The side outputs by which a frozen image-text teacher trains the encoder (Li et al. 2023, "Unmasked Teacher").

Shapes: B batch, N visible tokens with CLS first, P all tokens with CLS first, C encoder width, D teacher width,
K taps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vmr.errors import ModelError

LastTap = Literal["before_last_layer", "after_last_layer"]


@dataclass(frozen=True)
class StudentConfig:
    """Which layers are compared with the teacher.

    Attributes:
        teacher_dim: width of the teacher's features.
        num_taps: how many layers are tapped, counted back from the last.
        interval: layers from one tap to the next.
        last_tap: what the last tap reads: the residual stream before the last layer's output is added to it, as
            upstream's fused addition leaves it (all released models were trained so), or after. They differ by a
            third of their norm.
    """

    teacher_dim: int = 512
    num_taps: int = 1
    interval: int = 1
    last_tap: LastTap = "before_last_layer"

    def __post_init__(self) -> None:
        if min(self.teacher_dim, self.num_taps, self.interval) < 1:
            raise ModelError("student: teacher_dim, num_taps and interval must be at least 1")
        if self.last_tap not in ("before_last_layer", "after_last_layer"):
            raise ModelError(f"student: last_tap is {self.last_tap!r}; use before_last_layer or after_last_layer")

    def tapped_layers(self, num_layers: int) -> list[int]:
        """Indices of the tapped layers, from the first to the last."""
        taps = [num_layers - 1 - i * self.interval for i in reversed(range(self.num_taps))]
        if taps[0] < 0:
            raise ModelError(f"student: {self.num_taps} taps {self.interval} apart do not fit {num_layers} layers")
        return taps


class StudentDecoder(nn.Module):
    """Carries one tap (B, N, C) into the teacher's space (B, N, D)."""

    def __init__(self, width: int, teacher_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, teacher_dim)
        self.norm = nn.LayerNorm(teacher_dim)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tap: Tensor) -> Tensor:
        """tap: (B, N, C) -> (B, N, D)."""
        out: Tensor = self.norm(self.head(tap.to(self.head.weight.dtype)))
        return out


def sinusoid(num_positions: int, width: int) -> Tensor:
    """Fixed positions (num_positions, width): sines at even, cosines at odd channels (Vaswani et al. 2017)."""
    channel = torch.arange(width, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / width)
    angle = torch.arange(num_positions, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
