"""The depthwise convolution in Triton, both directions in one launch, with gradients."""

from typing import Any

import torch
import triton
from torch import Tensor

from vmr.ops.gpu.kernels.conv_silu import conv_silu, conv_silu_backward
from vmr.ops.gpu.support import check_batch, on_device_of
from vmr.ops.tensors import needs_grad, with_contiguous_channels

Filter = tuple[Tensor, Tensor | None]  # weight (D, K), bias (D,)
Pair = tuple[Tensor, Tensor]

ROWS, CHANNELS = 16, 128  # the tile of a program: 16-byte accesses in half precision, shifted rows from the cache
BACKWARD_ROWS = 8


def bidirectional_conv_silu_triton(x: Tensor, forward: Filter, backward: Filter, *, out: Pair | None) -> Pair:
    """Compute `bidirectional_conv_silu` on checked tensors of one device.

    Args:
        x: (B, L, D).
        forward: weight and bias of the causal filter.
        backward: weight and bias of the reversed filter.
        out: two (B, L, D) tensors to write; only where no gradient is needed.

    Returns:
        Two (B, L, D) tensors in the dtype of `x`.

    Raises:
        VmrError: there are too many sequences for one launch.
    """
    check_batch(x)
    forward, backward = _with_bias(forward, backward), _with_bias(backward, forward)
    if torch.compiler.is_compiling() or needs_grad(x, *forward, *backward):
        operator = _conv_op if torch.compiler.is_compiling() else _Conv.apply
        results: Pair = operator(x, *forward, *backward)
        return results if out is None else (out[0].copy_(results[0]), out[1].copy_(results[1]))
    if out is None:
        out = x.new_empty(x.shape), x.new_empty(x.shape)
    _forward(x, forward, backward, out)
    return out


def _with_bias(one: Filter, other: Filter) -> Filter:
    """Return the filter, with a bias of zeros if only the other filter has one: a launch takes two biases or none."""
    weight, bias = one
    return (weight, torch.zeros_like(other[1])) if bias is None and other[1] is not None else one


def _forward(x: Tensor, forward: Filter, backward: Filter, out: Pair) -> None:
    x = with_contiguous_channels(x)
    batch, length, channels = x.shape
    with on_device_of(x):
        conv_silu[triton.cdiv(length, ROWS), triton.cdiv(channels, CHANNELS), batch](
            x, *_parameters(forward), *_parameters(backward), *out, length, channels,
            *_strides(x), *_strides(out[0]), *_strides(out[1]),
            ROWS=ROWS, BD=CHANNELS, K=forward[0].shape[1], HAS_BIAS=forward[1] is not None, num_warps=4,
        )  # fmt: skip


def _parameters(one: Filter) -> Pair:
    weight, bias = one
    weight = weight.detach().contiguous()
    return weight, weight if bias is None else bias.detach().contiguous()


def _strides(tensor: Tensor) -> tuple[int, int]:
    return tensor.stride(1), tensor.stride(0)


class _Conv(torch.autograd.Function):
    """For eager code, because an operator of `torch.library` takes several times as long to call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *filters: Any) -> Pair:
        ctx.save_for_backward(x, *filters)
        return _results(x, filters[:2], filters[2:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_b: Tensor) -> tuple[Tensor | None, ...]:
        x, *filters = ctx.saved_tensors
        return tuple(_gradients((grad, grad_b), x, filters[:2], filters[2:]))


@torch.library.custom_op("vmr::conv_triton", mutates_args=())
def _conv_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, weight_b: Tensor, bias_b: Tensor | None
) -> tuple[Tensor, Tensor]:
    """For compiled code."""
    return _results(x, (weight, bias), (weight_b, bias_b))


@_conv_op.register_fake
def _(x, weight, bias, weight_b, bias_b):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op("vmr::conv_triton_backward", mutates_args=())
def _conv_backward_op(  # noqa: PLR0917 - an operator's arguments are flat
    grad: Tensor,
    grad_b: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weight_b: Tensor,
    bias_b: Tensor | None,
) -> list[Tensor]:
    """The gradients in the order of the forward's tensors; an empty one stands for a tensor that is None."""
    gradients = _gradients((grad, grad_b), x, (weight, bias), (weight_b, bias_b))
    return [x.new_empty(0) if g is None else g.clone(memory_format=torch.contiguous_format) for g in gradients]


@_conv_backward_op.register_fake
def _(grad, grad_b, *tensors):  # type: ignore[no-untyped-def]
    return [grad.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors]


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _autograd_backward(ctx, grad, grad_b):  # type: ignore[no-untyped-def]
    tensors = ctx.saved_tensors
    gradients = _conv_backward_op(grad, grad_b, *tensors)
    return tuple(None if t is None else g for t, g in zip(tensors, gradients, strict=True))


_conv_op.register_autograd(_autograd_backward, setup_context=_setup_context)


def _results(x: Tensor, forward: Filter, backward: Filter) -> Pair:
    out = x.new_empty(x.shape), x.new_empty(x.shape)
    _forward(x, forward, backward, out)
    return out


def _gradients(grads: Pair, x: Tensor, forward: Filter, backward: Filter) -> list[Tensor | None]:
    """The gradients of x and of both filters' weight and bias; None for a bias that is None."""
    x, grad, grad_b = (with_contiguous_channels(t) for t in (x, *grads))
    (batch, length, channels), taps = x.shape, forward[0].shape[1]
    tiles = triton.cdiv(length, BACKWARD_ROWS)
    grad_x = x.new_empty(x.shape)
    partial = x.new_empty(2, batch, tiles, taps + 1, channels, dtype=torch.float32)
    with on_device_of(x):
        conv_silu_backward[tiles, triton.cdiv(channels, CHANNELS), batch](
            grad, grad_b, x, *_parameters(forward), *_parameters(backward), grad_x, partial, length, channels,
            *_strides(grad), *_strides(grad_b), *_strides(x),
            ROWS=BACKWARD_ROWS, BD=CHANNELS, K=taps, HAS_BIAS=forward[1] is not None, num_warps=4,
        )  # fmt: skip
    gradients: list[Tensor | None] = [grad_x]
    sums = partial.sum((1, 2))  # (2, K + 1, D)
    for index, (weight, bias) in enumerate((forward, backward)):
        gradients.append(sums[index, :taps].t().to(weight.dtype))
        gradients.append(None if bias is None else sums[index, taps].to(bias.dtype))
    return gradients
