"""Outputs of inner layers that are trained to match a frozen teacher (Li et al. 2023, "Unmasked Teacher").

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
        teacher_dim: D, width of the teacher's features.
        num_taps: K, how many layers are compared, counted back from the last.
        interval: layers from one tap to the next.
        last_tap: what the last tap reads, the residual stream before or after the last layer's output is added to it.
            All released models were trained with `before_last_layer`, a consequence of upstream's fused addition. The
            two differ by a third of their norm.

    Raises:
        ModelError: a setting is out of range.
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
        """List the layers that are compared with the teacher.

        Args:
            num_layers: of the encoder.

        Returns:
            K indices, rising.

        Raises:
            ModelError: the encoder has too few layers.
        """
        taps = [num_layers - 1 - i * self.interval for i in reversed(range(self.num_taps))]
        if taps[0] < 0:
            raise ModelError(f"student: {self.num_taps} taps {self.interval} apart do not fit {num_layers} layers")
        return taps


class StudentDecoder(nn.Module):
    """Projects the tokens of one tap into the teacher's space."""

    def __init__(self, width: int, teacher_dim: int) -> None:
        """Make a decoder with fresh weights.

        Args:
            width: C.
            teacher_dim: D.
        """
        super().__init__()
        self.head = nn.Linear(width, teacher_dim)
        self.norm = nn.LayerNorm(teacher_dim)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tap: Tensor) -> Tensor:
        """Project tokens.

        Args:
            tap: (B, N, C), in any float dtype.

        Returns:
            (B, N, D) in the dtype of the weights.
        """
        out: Tensor = self.norm(self.head(tap.to(self.head.weight.dtype)))
        return out


def sinusoid(num_positions: int, width: int) -> Tensor:
    """Compute fixed positions: sines at even and cosines at odd channels (Vaswani et al. 2017, section 3.5).

    Args:
        num_positions: number of rows.
        width: number of channels.

    Returns:
        float32 (num_positions, width).
    """
    channel = torch.arange(width, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / width)
    angle = torch.arange(num_positions, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
