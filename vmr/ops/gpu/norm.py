"""Residual add and RMSNorm in Triton, with gradients."""

from typing import Any

import torch
import triton
from torch import Tensor

from vmr.ops.gpu.kernels.add_rms_norm import add_rms_norm_backward, add_rms_norm_forward
from vmr.ops.gpu.support import on_device_of
from vmr.ops.tensors import needs_grad, with_contiguous_channels

BACKWARD_PROGRAMS = 1024  # at most; their partial sums of the weight's gradient are always added in the same order


def add_rms_norm_triton(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    *,
    dtype: torch.dtype,
    inplace: bool,
    out: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute `add_rms_norm` on checked tensors of one device.

    Args:
        x: (..., D).
        residual: (..., D) float32, or None.
        weight: (D,).
        eps: added to the mean square.
        dtype: dtype of the result.
        inplace: write the sum into `residual`; only where no gradient is needed.
        out: (..., D) tensor to write; only where no gradient is needed.

    Returns:
        The normalised sum (..., D) and the sum (..., D) in float32.
    """
    if needs_grad(x, residual, weight):
        y, stream = _AddRmsNorm.apply(x, residual, weight, eps, dtype)
        return y, stream
    y = torch.empty(x.shape, dtype=dtype, device=x.device) if out is None else out
    if residual is None:  # the stream starts as x, which is not copied if it is float32
        stream = x.float()
        _forward(stream, None, weight, None, y, eps)
        return y, stream
    stream = residual if inplace else torch.empty(x.shape, dtype=torch.float32, device=x.device)
    _forward(x, residual, weight, stream, y, eps)
    return y, stream


def _forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, stream: Tensor | None, y: Tensor, eps: float
) -> None:  # fmt: skip
    """Write y, which is contiguous, and the sum into `stream`, which may be `residual`."""
    channels = x.shape[-1]
    rows, residual_rows = _as_rows(x), None if residual is None else _as_rows(residual)
    if residual_rows is not None and stream is residual:
        sums = residual_rows
    else:
        sums = (y if stream is None else stream).view(-1, channels)
    with on_device_of(x):
        add_rms_norm_forward[(rows.shape[0],)](
            rows, rows if residual_rows is None else residual_rows, weight.contiguous(), sums, y, channels,
            rows.stride(0), 0 if residual_rows is None else residual_rows.stride(0), sums.stride(0), eps,
            BLOCK=triton.next_power_of_2(channels), HAS_RESIDUAL=residual is not None,
            WRITE_STREAM=stream is not None, num_warps=_warps(channels),
        )  # fmt: skip
    if residual is not None and stream is residual and sums.data_ptr() != residual.data_ptr():
        residual.copy_(sums.view(residual.shape))  # its rows are a copy


def _as_rows(tensor: Tensor) -> Tensor:
    """(..., D) as (rows, D) evenly spaced rows, without a copy if possible."""
    return with_contiguous_channels(tensor).reshape(-1, tensor.shape[-1])


def _warps(channels: int) -> int:
    return 1 if channels <= 256 else 2 if channels <= 1024 else 8


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        y = torch.empty(x.shape, dtype=dtype, device=x.device)
        stream = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        _forward(x, residual, weight, stream, y, eps)
        ctx.save_for_backward(stream, weight.contiguous())
        ctx.eps, ctx.x_dtype, ctx.has_residual = eps, x.dtype, residual is not None
        return y, stream

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
        stream, weight = ctx.saved_tensors
        channels = stream.shape[-1]
        num_rows = stream.numel() // channels
        each = triton.cdiv(num_rows, BACKWARD_PROGRAMS)
        programs = triton.cdiv(num_rows, each)
        grad_sum = torch.empty_like(stream)
        in_half = ctx.x_dtype != torch.float32
        grad_x = torch.empty(stream.shape, dtype=ctx.x_dtype, device=stream.device) if in_half else grad_sum
        partial = stream.new_empty(programs, channels)
        with on_device_of(stream):
            add_rms_norm_backward[(programs,)](
                grad_y.contiguous(), grad_stream.contiguous(), stream, weight, grad_sum, grad_x, partial, num_rows,
                each, channels, ctx.eps, BLOCK=triton.next_power_of_2(channels), WRITE_X=in_half,
                num_warps=_warps(channels),
            )  # fmt: skip
        grad_weight = partial.sum(0).to(weight.dtype)
        return grad_x, grad_sum if ctx.has_residual else None, grad_weight, None, None
