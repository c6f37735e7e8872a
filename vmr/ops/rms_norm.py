"""Residual add followed by RMSNorm (Zhang & Sennrich 2019, "Root Mean Square Layer Normalization").

Shapes: any leading sizes, then D channels. The residual stream is float32 whatever dtype the layers compute in, because
it sums the outputs of all layers.
"""

import torch
from torch import Tensor

from vmr.errors import VmrError
from vmr.ops.backend import Backend, choose_backend
from vmr.ops.tensors import needs_grad


def add_rms_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    *,
    dtype: torch.dtype | None = None,
    inplace: bool = False,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Add a layer's output to the residual stream and normalise the sum for the next layer.

        residual' = residual + x
        y = residual' / sqrt(mean(residual'^2) + eps) * weight

    Args:
        x: (..., D) the layer's output.
        residual: (..., D) float32; None before the first layer, where the stream starts as `x`.
        weight: (D,).
        eps: added to the mean square.
        dtype: dtype of `y`; that of `x` if not given.
        inplace: write the sum into `residual`. For inference only.
        out: (..., D) in the dtype of `y`, contiguous; written and returned as `y`. For inference only.
        backend: `auto`, `reference`, `cpu` or `triton`; see `vmr.ops.backend`.

    Returns:
        `y` (..., D) and the new residual stream (..., D) in float32 (float64 for float64).

    Raises:
        VmrError: shapes, dtypes or devices disagree, or the backend is absent.
    """
    _check(x, residual, weight)
    dtype = dtype or x.dtype
    if out is not None and (out.shape != x.shape or out.dtype != dtype or not out.is_contiguous()):
        raise VmrError(
            f"add_rms_norm: out is {tuple(out.shape)} {out.dtype}; needs contiguous {tuple(x.shape)} {dtype}"
        )
    if (inplace or out is not None) and needs_grad(x, residual, weight):
        raise VmrError("add_rms_norm: inplace and out= are for inference; use torch.no_grad() or leave them out")
    # The compiler fuses the reference by itself.
    choice = "reference" if torch.compiler.is_compiling() else choose_backend(backend, x)
    if choice == "cpu":
        from vmr.ops.norm_cpu import add_rms_norm_cpu

        return add_rms_norm_cpu(x, residual, weight, eps, dtype=dtype, inplace=inplace, out=out)
    if choice == "triton" and (residual is None or residual.dtype == torch.float32):
        from vmr.ops.gpu.norm import add_rms_norm_triton

        return add_rms_norm_triton(x, residual, weight, eps, dtype=dtype, inplace=inplace, out=out)
    y, stream = add_rms_norm_reference(x, residual, weight, eps, dtype=dtype)
    if inplace and residual is not None:
        stream = residual.copy_(stream)
    return (y if out is None else out.copy_(y)), stream


def add_rms_norm_reference(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-5, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The definition that the kernels are tested against; differentiable, in at least float32.

    Args:
        x: (..., D).
        residual: (..., D), or None.
        weight: (D,).
        eps: added to the mean square.
        dtype: dtype of the result; that of `x` if not given.

    Returns:
        The normalised sum (..., D) and the sum (..., D) in at least float32.
    """
    stream = x.to(torch.promote_types(x.dtype, torch.float32))
    if residual is not None:
        stream = residual + stream
    scale = torch.rsqrt(stream.square().mean(-1, keepdim=True) + eps)
    return (stream * scale * weight.to(stream.dtype)).to(dtype or x.dtype), stream


def _check(x: Tensor, residual: Tensor | None, weight: Tensor) -> None:
    if x.dim() < 1 or 0 in x.shape or weight.shape != x.shape[-1:] or not x.is_floating_point():
        raise VmrError(f"add_rms_norm needs x (..., D) and weight (D,); got {tuple(x.shape)} and {tuple(weight.shape)}")
    if residual is not None and (residual.shape != x.shape or residual.dtype not in (torch.float32, torch.float64)):
        raise VmrError(
            f"add_rms_norm: residual is {tuple(residual.shape)} {residual.dtype}, but must be float32 {tuple(x.shape)}"
        )
    for name, tensor in (("residual", residual), ("weight", weight)):
        if tensor is not None and tensor.device != x.device:
            raise VmrError(f"add_rms_norm: {name} is on {tensor.device}, but x is on {x.device}")
