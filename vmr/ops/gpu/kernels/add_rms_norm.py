"""Residual add and RMSNorm, one row per program, and their gradients.

residual' = residual + x,  y = residual' / sqrt(mean(residual'^2) + eps) * weight
"""

import triton
import triton.language as tl


@triton.jit
def add_rms_norm_forward(
    x, residual, weight, stream, y, channels, stride_x, stride_residual, stride_stream, eps,
    BLOCK: tl.constexpr, HAS_RESIDUAL: tl.constexpr, WRITE_STREAM: tl.constexpr,
):  # fmt: skip
    """Writes y (rows, D) and, with WRITE_STREAM, the sum into `stream`, which may be `residual`; programs: rows."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK)
    ok = d < channels
    total = tl.load(x + row * stride_x + d, mask=ok, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        total += tl.load(residual + row * stride_residual + d, mask=ok, other=0.0)
    if WRITE_STREAM:
        tl.store(stream + row * stride_stream + d, total, mask=ok)
    scale = 1.0 / tl.sqrt(tl.sum(total * total, axis=0) / channels + eps)
    out = total * scale * tl.load(weight + d, mask=ok, other=0.0).to(tl.float32)
    tl.store(y + row * channels + d, out.to(y.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=["num_rows", "rows_each"])
def add_rms_norm_backward(
    grad_y, grad_stream, stream, weight, grad_sum, grad_x, grad_weight, num_rows, rows_each, channels, eps,
    BLOCK: tl.constexpr, WRITE_X: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of the sum (rows, D) and partial sums of the weight's gradient (programs, D), in float32.

    With WRITE_X the gradient of the sum is also written in the dtype of x. All tensors are contiguous; each program
    handles `rows_each` rows.
    """
    first = tl.program_id(0).to(tl.int64) * rows_each
    d = tl.arange(0, BLOCK)
    ok = d < channels
    w = tl.load(weight + d, mask=ok, other=0.0).to(tl.float32)
    sum_weight = tl.zeros((BLOCK,), tl.float32)
    for row in range(first, tl.minimum(first + rows_each, num_rows)):
        at = row * channels + d
        total = tl.load(stream + at, mask=ok, other=0.0)
        g = tl.load(grad_y + at, mask=ok, other=0.0).to(tl.float32)
        scale = 1.0 / tl.sqrt(tl.sum(total * total, axis=0) / channels + eps)
        normed = total * scale
        sum_weight += g * normed
        g_normed = g * w
        grad = (g_normed - normed * (tl.sum(g_normed * normed, axis=0) / channels)) * scale
        grad += tl.load(grad_stream + at, mask=ok, other=0.0)
        tl.store(grad_sum + at, grad, mask=ok)
        if WRITE_X:
            tl.store(grad_x + at, grad.to(grad_x.dtype.element_ty), mask=ok)
    tl.store(grad_weight + tl.program_id(0).to(tl.int64) * channels + d, sum_weight, mask=ok)
