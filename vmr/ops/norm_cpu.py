"""Residual add and RMSNorm by the C++ kernel.

The backward pass is plain PyTorch: a few operations on the narrow residual stream, a small part of a training step.
"""

from typing import Any

import torch
from torch import Tensor

from vmr.ops import cpu_kernel
from vmr.ops.cpu_kernel import address, rows
from vmr.ops.tensors import needs_grad, with_contiguous_channels


def add_rms_norm_cpu(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    *,
    dtype: torch.dtype,
    inplace: bool,
    out: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute `add_rms_norm` on checked CPU tensors.

    Args:
        x: (..., D), float32 or bfloat16.
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
        y, stream = _AddRmsNorm.apply(x.float(), residual, weight.float(), eps)
        return y.to(dtype), stream
    return _run(x, residual, weight, eps, dtype, inplace=inplace, out=out)


def _run(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    dtype: torch.dtype,
    *,
    inplace: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=dtype) if out is None else out
    if residual is None:  # the stream starts as x, which is not copied if it is float32
        x = stream = x.float()
    else:
        stream = residual if inplace and residual.stride(-1) == 1 else torch.empty(x.shape)
    weight_f32 = cpu_kernel.parameter(weight)
    x_rows, residual_rows, stream_rows, y_rows = (_as_rows(t) for t in (x, residual, stream, y))

    args = cpu_kernel.NormArgs()
    assert x_rows is not None
    args.batch, args.length, args.channels = x_rows.shape
    args.x_dtype, args.out_dtype = cpu_kernel.dtype_code(x), cpu_kernel.dtype_code(y)
    args.threads, args.isa = torch.get_num_threads(), cpu_kernel.requested_isa()
    args.x, args.residual, args.out = rows(x_rows), rows(residual_rows), rows(y_rows)
    args.stream = rows(None if residual is None else stream_rows)
    args.weight, args.eps = address(weight_f32), eps
    cpu_kernel.call("vmr_add_rms_norm", args)
    return y, stream


def _as_rows(tensor: Tensor | None) -> Tensor | None:
    """(..., D) as (B, L, D): a view if the tensor has three dimensions or is contiguous."""
    if tensor is None:
        return None
    tensor = with_contiguous_channels(tensor)
    return tensor if tensor.dim() == 3 else tensor.reshape(1, -1, tensor.shape[-1])


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        y, stream = _run(x, residual, weight, eps, torch.float32)
        if residual is None:
            stream = stream.clone()  # an output may not be the input itself
        ctx.save_for_backward(stream, weight)
        ctx.eps = eps
        return y, stream

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
        stream, weight = ctx.saved_tensors
        scale = torch.rsqrt(stream.square().mean(-1, keepdim=True) + ctx.eps)
        normalised = stream * scale
        grad_weight = torch.einsum("...d,...d->d", grad_y, normalised)
        grad_normalised = grad_y * weight
        along = (grad_normalised * normalised).mean(-1, keepdim=True)
        grad_sum = torch.addcmul(grad_stream, grad_normalised - normalised * along, scale)
        return grad_sum, grad_sum if ctx.needs_input_grad[1] else None, grad_weight, None
