"""Checks and timings of the Triton kernels on this GPU, for `vmr-info --check-gpu`."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.ops import ScanInputs, add_rms_norm, bidirectional_conv_silu, bidirectional_scan
from vmr.ops.causal_conv import causal_conv_silu_reference
from vmr.ops.gpu import support
from vmr.ops.rms_norm import add_rms_norm_reference
from vmr.ops.selective_scan import selective_scan_reference

LIMITS = {torch.float32: 3e-5, torch.bfloat16: 2e-2, torch.float16: 1e-2}  # of results and gradients, relative
STATES, RANK = 16, 12
REPEATS = 20


class Check(NamedTuple):
    """One comparison with the definition in float64.

    Attributes:
        name: operation and dtype, for people.
        error: the greatest relative error (L2) of results and gradients.
        limit: the greatest error that is accepted.
    """

    name: str
    error: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the error is within its limit; false for NaN."""
        return self.error <= self.limit


def check_kernels() -> list[Check]:
    """Check results and gradients of every operation in every dtype, on random inputs.

    The first call takes half a minute, most of it for compiling. In Triton's interpreter the inputs are smaller.

    Returns:
        One check for each operation and dtype.
    """
    interpreted = support.interpreted()
    device, length, channels = ("cpu", 9, 40) if interpreted else ("cuda", 197, 384)
    operations = {"scan": _scan, "convolution": _convolution, "add and norm": _norm}
    checks = []
    for dtype, limit in LIMITS.items():
        for name, operation in operations.items():
            error = operation(torch.device(device), length, channels, dtype)
            checks.append(Check(f"{name}, {str(dtype).removeprefix('torch.')}", error, limit))
    return checks


def time_scan(length: int = 1569, channels: int = 1152) -> dict[str, float]:
    """Time the bidirectional scan in bfloat16; by default that of VideoMamba-M on 8 frames.

    Args:
        length: number of tokens.
        channels: width of the scan.

    Returns:
        Milliseconds by backend: "triton" and "reference".
    """
    first, second, z = _random_scans(torch.device("cuda"), length, channels, torch.bfloat16)
    return {
        "triton": _milliseconds(lambda: bidirectional_scan(first, second, z, backend="triton"), REPEATS),
        "reference": _milliseconds(lambda: bidirectional_scan(first, second, z, backend="reference"), 1),
    }


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    with torch.no_grad():
        work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats * 1e3


def _random_scans(
    device: torch.device, length: int, channels: int, dtype: torch.dtype
) -> tuple[ScanInputs, ScanInputs, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    def one() -> ScanInputs:
        low, B, C = normal(1, length, RANK + 2 * STATES).to(dtype).split([RANK, STATES, STATES], dim=-1)
        A = -torch.rand(channels, STATES, device=device) * STATES - 0.5
        u, weight = normal(1, length, channels).to(dtype), normal(channels, RANK) * 0.1
        return ScanInputs(u, low, A, B, C, normal(channels), normal(channels) - 3, weight)

    return one(), one(), normal(1, length, channels).to(dtype)


def _leaves(tensors: tuple[Tensor | None, ...], dtype: torch.dtype | None = None) -> list[Tensor]:
    return [t.detach().to(dtype or t.dtype).clone().requires_grad_() for t in tensors if t is not None]


def _compare(
    ours: list[Tensor], results: tuple[Tensor, ...], exact: list[Tensor], expected: tuple[Tensor, ...]
) -> float:
    """The worst relative error of the results and of the gradients, by random gradients of the results."""
    pairs = list(zip(results, expected, strict=True))
    grads = [torch.randn(y.shape, device=y.device).to(y.dtype) * 64 for y, _ in pairs]  # fp16 would lose small ones
    torch.autograd.backward(results, grads)
    torch.autograd.backward(expected, [g.double() for g in grads])
    pairs += [(a.grad, e.grad) for a, e in zip(ours, exact, strict=True) if a.grad is not None and e.grad is not None]
    errors = [(a.double() - e.double()).norm() / e.double().norm().clamp_min(1e-300) for a, e in pairs]
    return float(torch.stack(errors).detach().max())


def _scan(device: torch.device, length: int, channels: int, dtype: torch.dtype) -> float:
    first, second, z = _random_scans(device, length, channels, dtype)
    size = len(ScanInputs._fields)
    ours, exact = _leaves((*first, *second, z)), _leaves((*first, *second, z), torch.float64)
    y = bidirectional_scan(ScanInputs(*ours[:size]), ScanInputs(*ours[size:-1]), ours[-1], backend="triton")
    expected = sum(
        selective_scan_reference(ScanInputs(*part), delta_softplus=True, reverse=reverse)
        for part, reverse in ((exact[:size], False), (exact[size:-1], True))
    )
    assert isinstance(expected, Tensor)
    return _compare(ours, (y,), exact, (expected * F.silu(exact[-1]),))


def _convolution(device: torch.device, length: int, channels: int, dtype: torch.dtype) -> float:
    x = torch.randn(2, length, channels, device=device).to(dtype)
    filters = [torch.randn(*shape, device=device) for shape in ((channels, 4), (channels,)) * 2]
    ours, exact = _leaves((x, *filters)), _leaves((x, *filters), torch.float64)
    results = bidirectional_conv_silu(ours[0], (ours[1], ours[2]), (ours[3], ours[4]), backend="triton")
    x_exact, weight, bias, weight_b, bias_b = exact
    expected = (
        causal_conv_silu_reference(x_exact, weight, bias),
        causal_conv_silu_reference(x_exact, weight_b, bias_b, reverse=True),
    )
    return _compare(ours, results, exact, expected)


def _norm(device: torch.device, length: int, channels: int, dtype: torch.dtype) -> float:
    x, residual = (torch.randn(2, length, channels, device=device) for _ in range(2))
    x, weight = x.to(dtype), torch.rand(channels, device=device)
    ours, exact = _leaves((x, residual, weight)), _leaves((x, residual, weight), torch.float64)
    results = add_rms_norm(ours[0], ours[1], ours[2], backend="triton")
    return _compare(ours, results, exact, add_rms_norm_reference(exact[0], exact[1], exact[2]))
