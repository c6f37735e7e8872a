"""Depthwise causal convolution with bias and SiLU, the short filter before each scan (Mamba, section 3.4).

Shapes: B batch, L sequence length, D channels, K taps (4 in every published model).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import VmrError
from vmr.ops.backend import MAX_TAPS, Backend, Choice, choose_backend

Pair = tuple[Tensor, Tensor]


def bidirectional_conv_silu(
    x: Tensor,
    forward: tuple[Tensor, Tensor | None],
    backward: tuple[Tensor, Tensor | None],
    *,
    out: Pair | None = None,
    backend: Backend = "auto",
) -> Pair:
    """Filter every channel with taps that look back, and again with taps that look ahead; then apply SiLU.

        y[0][l] = SiLU(bias + sum_j weight[j] x[l - (K-1) + j])        forward, causal
        y[1][l] = SiLU(bias + sum_j weight[j] x[l + (K-1) - j])        backward, reversed

    where x is zero outside the sequence, and each direction has its own weight and bias. The kernels read `x` once.

    Args:
        x: (B, L, D).
        forward: weight (D, K) and bias (D,) or None of the causal filter; the last tap meets the step itself.
        backward: weight (D, K) and bias (D,) or None of the reversed filter.
        out: two (B, L, D) tensors, which are written and returned. For inference only.
        backend: `auto`, `reference`, `cpu` or `triton`; see `vmr.ops.backend`.

    Returns:
        Two (B, L, D) tensors in the dtype of `x`.

    Raises:
        VmrError: shapes, dtypes or devices disagree, or the backend is absent.
    """
    _check(x, *forward)
    _check(x, *backward)
    if forward[0].shape != backward[0].shape:
        raise VmrError(f"conv: the two filters differ: {tuple(forward[0].shape)} and {tuple(backward[0].shape)}")
    for index, tensor in enumerate(out or ()):
        _check_out(f"out[{index}]", tensor, x, (*forward, *backward))
    choice = _choose(backend, x, forward[0])
    if choice == "cpu":
        from vmr.ops.conv_cpu import bidirectional_conv_silu_cpu

        return bidirectional_conv_silu_cpu(x, forward, backward, out=out)
    if choice == "triton":
        from vmr.ops.gpu.conv import bidirectional_conv_silu_triton

        return bidirectional_conv_silu_triton(x, forward, backward, out=out)
    results = causal_conv_silu_reference(x, *forward), causal_conv_silu_reference(x, *backward, reverse=True)
    return results if out is None else (out[0].copy_(results[0]), out[1].copy_(results[1]))


def causal_conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None, backend: Backend = "auto"
) -> Tensor:
    """Filter every channel with taps that look back, and apply SiLU: the forward half of `bidirectional_conv_silu`.

    On a GPU both halves are computed by the one kernel there is, and the other one is dropped.

    Args:
        x: (B, L, D).
        weight: (D, K); the last tap meets the step itself.
        bias: (D,) or None.
        out: (B, L, D), written and returned. For inference only.
        backend: as for `bidirectional_conv_silu`.

    Returns:
        (B, L, D) in the dtype of `x`.

    Raises:
        VmrError: as for `bidirectional_conv_silu`.
    """
    _check(x, weight, bias)
    if out is not None:
        _check_out("out", out, x, (weight, bias))
    choice = _choose(backend, x, weight)
    if choice == "cpu":
        from vmr.ops.conv_cpu import causal_conv_silu_cpu

        return causal_conv_silu_cpu(x, weight, bias, out=out)
    if choice == "triton":
        from vmr.ops.gpu.conv import bidirectional_conv_silu_triton

        result = bidirectional_conv_silu_triton(x, (weight, bias), (weight, bias), out=None)[0]
    else:
        result = causal_conv_silu_reference(x, weight, bias)
    return result if out is None else out.copy_(result)


def causal_conv_silu_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, reverse: bool = False
) -> Tensor:
    """The definition that the kernels are tested against: one direction, differentiable.

    Args:
        x: (B, L, D).
        weight: (D, K); the last tap meets the step itself.
        bias: (D,).
        reverse: convolve as if the sequence ran from its end to its start.

    Returns:
        (B, L, D) in the dtype of `x`.
    """
    taps = weight.shape[1]
    if reverse:
        weight = weight.flip(1)
    padded = F.pad(x.transpose(1, 2), (0, taps - 1) if reverse else (taps - 1, 0))  # (B, D, L + K - 1)
    bias = None if bias is None else bias.to(x.dtype)
    filtered = F.conv1d(padded, weight[:, None].to(x.dtype), bias, groups=x.shape[2])
    return F.silu(filtered).transpose(1, 2)


def _choose(backend: Backend, x: Tensor, weight: Tensor) -> Choice:
    """Choose the backend. Compiled code on a CPU takes the reference, which the compiler fuses by itself."""
    choice = choose_backend(backend, x, kernel_fits=weight.shape[1] <= MAX_TAPS)
    return "reference" if choice == "cpu" and torch.compiler.is_compiling() else choice


def _check_out(name: str, out: Tensor, x: Tensor, filters: tuple[Tensor | None, ...]) -> None:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *filters)):
        raise VmrError("conv: out= is for inference; use torch.no_grad() or leave it out")
    if out.shape != x.shape or out.dtype != x.dtype or out.device != x.device or out.stride(-1) != 1:
        raise VmrError(
            f"conv: {name} is {tuple(out.shape)} {out.dtype}; needs {tuple(x.shape)} {x.dtype}, channels contiguous"
        )


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if x.dim() != 3 or 0 in x.shape or weight.dim() != 2 or 0 in weight.shape or weight.shape[0] != x.shape[2]:
        raise VmrError(f"conv: needs x (B, L, D) and weight (D, K); got {tuple(x.shape)} and {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise VmrError(f"conv: bias is {tuple(bias.shape)}, but x asks for {tuple(weight.shape[:1])}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (tensor.device != x.device or not tensor.is_floating_point()):
            raise VmrError(f"conv: {name} is {tensor.dtype} on {tensor.device}, but x is {x.dtype} on {x.device}")
