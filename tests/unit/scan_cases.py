"""Random scans for the tests, and the error measure they share."""

import pytest
import torch
from torch import Tensor

from vmr.ops import ScanInputs, cpu_kernel, selective_scan

needs_kernel = pytest.mark.skipif(
    bool(cpu_kernel.missing_reason()), reason=f"no CPU kernel: {cpu_kernel.missing_reason()}"
)


def random_scan(
    length: int, channels: int, states: int, *, batch: int = 1, rank: int = 0, seed: int = 0
) -> tuple[ScanInputs, Tensor, Tensor]:
    """Inputs like a trained model's, a gate and an addend."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    inputs = ScanInputs(
        u=normal(batch, length, channels),
        delta=normal(batch, length, rank or channels) * 0.5,
        A=-torch.rand(channels, states, generator=random) * 8 - 0.01,
        B=normal(batch, length, states),
        C=normal(batch, length, states),
        D=normal(channels),
        delta_bias=normal(channels) - 2,
        delta_weight=normal(channels, rank) * 0.3 if rank else None,
    )
    return inputs, normal(batch, length, channels), normal(batch, length, channels)


def scan(inputs: ScanInputs, z: Tensor | None = None, addend: Tensor | None = None, **options) -> Tensor:
    """`selective_scan` with a softplus, given its tensors in a bundle."""
    u, delta, A, B, C, D, delta_bias, delta_weight = inputs
    options.setdefault("delta_softplus", True)
    return selective_scan(
        u, delta, A, B, C, D, z, delta_bias, delta_weight=delta_weight, addend=addend, **options
    )  # fmt: skip


def cast(tensors: tuple[Tensor | None, ...], dtype: torch.dtype, *, grad: bool = False) -> list[Tensor | None]:
    """Copies of this dtype, leaves of a graph where `grad`."""
    return [None if t is None else t.detach().to(dtype, copy=True).requires_grad_(grad) for t in tensors]


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected|, in float64."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return ((actual - expected).norm() / expected.norm().clamp_min(1e-300)).item()
