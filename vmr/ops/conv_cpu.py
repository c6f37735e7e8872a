"""The depthwise convolution by the C++ kernel, with gradients."""

from typing import Any

import torch
from torch import Tensor

from vmr.ops import cpu_kernel
from vmr.ops.cpu_kernel import address, parameter, rows
from vmr.ops.tensors import needs_grad, with_contiguous_channels

Filter = tuple[Tensor, Tensor | None]  # weight (D, K), bias (D,)
Pair = tuple[Tensor, Tensor]


def bidirectional_conv_silu_cpu(x: Tensor, forward: Filter, backward: Filter, *, out: Pair | None) -> Pair:
    """Compute `bidirectional_conv_silu` on checked CPU tensors.

    Args:
        x: (B, L, D), float32 or bfloat16.
        forward: weight and bias of the causal filter.
        backward: weight and bias of the reversed filter.
        out: two (B, L, D) tensors to write; only where no gradient is needed.

    Returns:
        Two (B, L, D) tensors in the dtype of `x`.
    """
    if needs_grad(x, *forward, *backward):
        return _differentiable(x, *forward, reverse=False), _differentiable(x, *backward, reverse=True)
    x = with_contiguous_channels(x)
    y = (torch.empty(x.shape, dtype=x.dtype), torch.empty(x.shape, dtype=x.dtype)) if out is None else out
    _run(x, (forward, y[0]), (backward, y[1]))
    return y


def causal_conv_silu_cpu(x: Tensor, weight: Tensor, bias: Tensor | None, *, out: Tensor | None) -> Tensor:
    """Compute `causal_conv_silu` on checked CPU tensors.

    Args:
        x: (B, L, D), float32 or bfloat16.
        weight: (D, K).
        bias: (D,) or None.
        out: (B, L, D) to write; only where no gradient is needed.

    Returns:
        (B, L, D) in the dtype of `x`.
    """
    if needs_grad(x, weight, bias):
        return _differentiable(x, weight, bias, reverse=False)
    y = torch.empty(x.shape, dtype=x.dtype) if out is None else out
    _run(with_contiguous_channels(x), ((weight, bias), y), None)
    return y


def _differentiable(x: Tensor, weight: Tensor, bias: Tensor | None, *, reverse: bool) -> Tensor:
    """One direction in float32, with gradients."""
    y: Tensor = _ConvSilu.apply(x.float(), weight.float(), None if bias is None else bias.float(), reverse)
    return y.to(x.dtype)


def _run(x: Tensor, causal: tuple[Filter, Tensor] | None, reversed_: tuple[Filter, Tensor] | None) -> None:
    """Apply one or both filters to `x`; each is given with the tensor that it writes."""
    args = _shapes(x)
    kept = []  # parameters may be copies, which must stay alive until the call
    for direction, prefix in ((causal, ""), (reversed_, "reverse_")):
        if direction is None:
            continue
        (weight, bias), y = direction
        args.taps = weight.shape[1]
        for name, tensor in (("weight", parameter(weight)), ("bias", parameter(bias))):
            kept.append(tensor)
            setattr(args, prefix + name, address(tensor))
        setattr(args, prefix + "out", rows(y))
    cpu_kernel.call("vmr_conv_silu", args)


def _shapes(x: Tensor) -> cpu_kernel.ConvArgs:
    args = cpu_kernel.ConvArgs()
    args.batch, args.length, args.channels = x.shape
    args.dtype = cpu_kernel.dtype_code(x)
    args.threads, args.isa = torch.get_num_threads(), cpu_kernel.requested_isa()
    args.x = rows(x)
    return args


class _ConvSilu(torch.autograd.Function):
    """One direction in float32; the backward pass filters again instead of saving the input of the SiLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.reverse = reverse
        x = with_contiguous_channels(x)
        y = torch.empty(x.shape, dtype=x.dtype)
        one = ((weight, bias), y)
        _run(x, *((None, one) if reverse else (one, None)))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        x, grad, weight = with_contiguous_channels(x), with_contiguous_channels(grad), weight.contiguous()
        channels, taps = weight.shape
        parts = x.shape[0] * cpu_kernel.library().vmr_conv_parts(x.shape[1])
        grad_x, grad_weight = torch.empty(x.shape), torch.empty(parts, channels, taps + 1)

        args = cpu_kernel.ConvBackwardArgs()
        args.conv = _shapes(x)
        args.conv.taps, args.conv.weight, args.conv.bias = taps, address(weight), address(bias)
        args.reverse = ctx.reverse
        args.grad_out, args.grad_x, args.grad_weight = rows(grad), rows(grad_x), address(grad_weight)
        cpu_kernel.call("vmr_conv_silu_backward", args)
        sums = grad_weight.sum(0)  # (D, K + 1)
        return grad_x, sums[:, :taps], None if bias is None else sums[:, taps], None
