"""The depthwise convolution in Triton, in one direction or both, with gradients."""

from typing import Any

import torch
import triton
from torch import Tensor

from vmr.ops.gpu.kernels.conv_silu import conv_silu, conv_silu_backward
from vmr.ops.gpu.support import check_batch, on_device_of
from vmr.ops.tensors import needs_grad, with_contiguous_channels

Filter = tuple[Tensor, Tensor | None]  # weight (D, K), bias (D,)
Pair = tuple[Tensor, Tensor]

ROWS, CHANNELS = 16, 128  # of a program's tile: 16-byte accesses in half precision, neighbours from the cache
BACKWARD_ROWS = 8


def causal_conv_silu_triton(x: Tensor, weight: Tensor, bias: Tensor | None, *, reverse: bool) -> Tensor:
    """`causal_conv_silu` on checked tensors of one device. Raises VmrError for too many sequences."""
    check_batch(x)
    if torch.compiler.is_compiling() or needs_grad(x, weight, bias):
        y: Tensor = _differentiable(x, weight, bias, None, None, reverse)[0]
        return y
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _forward(x, (weight, bias), None, (y, y), reverse=reverse)
    return y


def bidirectional_conv_silu_triton(x: Tensor, forward: Filter, backward: Filter, *, out: Pair | None) -> Pair:
    """`bidirectional_conv_silu` on checked tensors of one device. Raises VmrError for too many sequences."""
    check_batch(x)
    forward, backward = _with_bias(forward, backward), _with_bias(backward, forward)
    if torch.compiler.is_compiling() or needs_grad(x, *forward, *backward):
        results = _differentiable(x, *forward, *backward, False)
        return results if out is None else (out[0].copy_(results[0]), out[1].copy_(results[1]))
    if out is None:
        out = x.new_empty(x.shape), x.new_empty(x.shape)
    _forward(x, forward, backward, out, reverse=False)
    return out


def _with_bias(one: Filter, other: Filter) -> Filter:
    """The filter with a bias of zeros where only the other has a bias: a launch has both or none."""
    weight, bias = one
    return (weight, torch.zeros_like(other[1])) if bias is None and other[1] is not None else one


def _forward(x: Tensor, one: Filter, other: Filter | None, out: Pair, *, reverse: bool) -> None:
    x = with_contiguous_channels(x)
    batch, length, channels = x.shape
    with on_device_of(x):
        conv_silu[triton.cdiv(length, ROWS), triton.cdiv(channels, CHANNELS), batch](
            x, *_parameters(one), *_parameters(other or one), *out, length, channels,
            *_strides(x), *_strides(out[0]), *_strides(out[1]),
            ROWS=ROWS, BD=CHANNELS, K=one[0].shape[1], REVERSE=reverse, BOTH=other is not None,
            HAS_BIAS=one[1] is not None, num_warps=4,
        )  # fmt: skip


def _parameters(one: Filter) -> Pair:
    weight, bias = one
    weight = weight.detach().contiguous()
    return weight, weight if bias is None else bias.detach().contiguous()


def _strides(tensor: Tensor) -> tuple[int, int]:
    return tensor.stride(1), tensor.stride(0)


def _differentiable(*arguments: Any) -> Pair:
    """x, two filters' weight and bias, reverse -> both results, the second empty without a second filter."""
    operator = _conv_op if torch.compiler.is_compiling() else _Conv.apply
    y, y_b = operator(*arguments)
    return y, y_b


class _Conv(torch.autograd.Function):
    """For eager code: an operator of `torch.library` takes several times as long to call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Pair:
        *filters, ctx.reverse = arguments
        ctx.save_for_backward(x, *filters)
        return _results(x, *_paired(*filters), reverse=ctx.reverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_b: Tensor) -> tuple[Tensor | None, ...]:
        x, *filters = ctx.saved_tensors
        return *_gradients((grad, grad_b), x, *_paired(*filters), reverse=ctx.reverse), None


@torch.library.custom_op("vmr::conv_triton", mutates_args=())
def _conv_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, weight_b: Tensor | None, bias_b: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """For compiled code."""
    return _results(x, *_paired(weight, bias, weight_b, bias_b), reverse=reverse)


@_conv_op.register_fake
def _(x, weight, bias, weight_b, bias_b, reverse):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape), x.new_empty(0 if weight_b is None else x.shape)


@torch.library.custom_op("vmr::conv_triton_backward", mutates_args=())
def _conv_backward_op(  # noqa: PLR0917 - an operator's arguments are flat
    grad: Tensor,
    grad_b: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weight_b: Tensor | None,
    bias_b: Tensor | None,
    reverse: bool,
) -> list[Tensor]:
    """The gradients in the order of the forward's tensors; an empty one stands for a tensor that is None."""
    gradients = _gradients((grad, grad_b), x, *_paired(weight, bias, weight_b, bias_b), reverse=reverse)
    return [x.new_empty(0) if g is None else g.clone(memory_format=torch.contiguous_format) for g in gradients]


@_conv_backward_op.register_fake
def _(grad, grad_b, *tensors):  # type: ignore[no-untyped-def]
    return [grad.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors[:-1]]


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.reverse = inputs
    ctx.save_for_backward(*tensors)


def _autograd_backward(ctx, grad, grad_b):  # type: ignore[no-untyped-def]
    tensors = ctx.saved_tensors
    gradients = _conv_backward_op(grad, grad_b, *tensors, ctx.reverse)
    return (*(None if t is None else g for t, g in zip(tensors, gradients, strict=True)), None)


_conv_op.register_autograd(_autograd_backward, setup_context=_setup_context)


def _results(x: Tensor, one: Filter, other: Filter | None, *, reverse: bool) -> Pair:
    y, y_b = x.new_empty(x.shape), x.new_empty(0 if other is None else x.shape)
    _forward(x, one, other, (y, y if other is None else y_b), reverse=reverse)
    return y, y_b


def _paired(
    weight: Tensor, bias: Tensor | None, weight_b: Tensor | None, bias_b: Tensor | None
) -> tuple[Filter, Filter | None]:
    return (weight, bias), None if weight_b is None else (weight_b, bias_b)


def _gradients(
    grads: Pair, x: Tensor, one: Filter, other: Filter | None, *, reverse: bool
) -> list[Tensor | None]:  # fmt: skip
    """Of x, and of both filters' weight and bias; None for what is None."""
    x, grad = with_contiguous_channels(x), with_contiguous_channels(grads[0])
    grad_b = grad if other is None else with_contiguous_channels(grads[1])
    (batch, length, channels), taps = x.shape, one[0].shape[1]
    tiles = triton.cdiv(length, BACKWARD_ROWS)
    grad_x = x.new_empty(x.shape)
    partial = x.new_empty(1 if other is None else 2, batch, tiles, taps + 1, channels, dtype=torch.float32)
    with on_device_of(x):
        conv_silu_backward[tiles, triton.cdiv(channels, CHANNELS), batch](
            grad, grad_b, x, *_parameters(one), *_parameters(other or one), grad_x, partial, length, channels,
            *_strides(grad), *_strides(grad_b), *_strides(x),
            ROWS=BACKWARD_ROWS, BD=CHANNELS, K=taps, REVERSE=reverse, BOTH=other is not None,
            HAS_BIAS=one[1] is not None, num_warps=4,
        )  # fmt: skip
    gradients: list[Tensor | None] = [grad_x, None, None, None, None]
    sums = partial.sum((1, 2))  # (directions, K + 1, D)
    for index, (weight, bias) in enumerate((one,) if other is None else (one, other)):
        gradients[1 + 2 * index] = sums[index, :taps].t().to(weight.dtype)
        gradients[2 + 2 * index] = None if bias is None else sums[index, taps].to(bias.dtype)
    return gradients
