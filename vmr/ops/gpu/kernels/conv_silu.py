"""The depthwise convolution with bias and SiLU, both directions in one pass over x, and its gradients.

    y[l] = SiLU(bias + sum_j weight[j] x[l - (K-1) + j])        from the left
    y[l] = SiLU(bias + sum_j weight[j] x[l + (K-1) - j])        from the right

A program holds ROWS rows of BD channels. It loads each row once for every tap; only the first load reads memory, the
others hit the cache.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import silu_gate


@triton.jit
def _rows(x, row, length, stride, d, ok):
    """Load x at these rows (ROWS, BD) in float32; 0 outside the sequence."""
    inside = ok & ((row >= 0) & (row < length))[:, None]
    return tl.load(x + row[:, None] * stride + d[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _filtered(x, weight, bias, row, length, stride, d, d_ok, ROWS: tl.constexpr, BD: tl.constexpr, K: tl.constexpr,
              REVERSE: tl.constexpr, HAS_BIAS: tl.constexpr):  # fmt: skip
    """The input of the SiLU at these rows (ROWS, BD)."""
    sums = tl.zeros((ROWS, BD), tl.float32)
    if HAS_BIAS:
        sums += tl.load(bias + d, mask=d_ok, other=0.0).to(tl.float32)[None, :]
    for j in tl.static_range(K):
        tap = tl.load(weight + d * K + j, mask=d_ok, other=0.0).to(tl.float32)
        shift = K - 1 - j if REVERSE else j - (K - 1)
        sums += tap[None, :] * _rows(x, row + shift, length, stride, d, d_ok[None, :])
    return sums


@triton.jit(do_not_specialize=["length"])
def conv_silu(
    x, weight, bias, weight_b, bias_b, y, y_b, length, channels, stride_x, batch_stride_x, stride_y, batch_stride_y,
    stride_y_b, batch_stride_y_b,
    ROWS: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Writes y from the left and y_b from the right, both (B, L, D); programs: L / ROWS, D / BD, B."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    b = tl.program_id(2).to(tl.int64)
    d_ok = d < channels
    ok = (row < length)[:, None] & d_ok[None, :]
    x += b * batch_stride_x
    sums = _filtered(x, weight, bias, row, length, stride_x, d, d_ok, ROWS, BD, K, False, HAS_BIAS)
    out = y + b * batch_stride_y + row[:, None] * stride_y + d[None, :]
    tl.store(out, (sums * silu_gate(sums)).to(y.dtype.element_ty), mask=ok)
    sums = _filtered(x, weight_b, bias_b, row, length, stride_x, d, d_ok, ROWS, BD, K, True, HAS_BIAS)
    out = y_b + b * batch_stride_y_b + row[:, None] * stride_y_b + d[None, :]
    tl.store(out, (sums * silu_gate(sums)).to(y_b.dtype.element_ty), mask=ok)


@triton.jit
def _grad_filtered(
    grad, x, weight, bias, row, length, stride_grad, stride_x, d, d_ok,
    ROWS: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """The gradient before the SiLU at these rows; the SiLU's input is computed again, because it was not saved."""
    sums = _filtered(x, weight, bias, row, length, stride_x, d, d_ok, ROWS, BD, K, REVERSE, HAS_BIAS)
    s = silu_gate(sums)
    return _rows(grad, row, length, stride_grad, d, d_ok[None, :]) * s * (1.0 + sums * (1.0 - s))


@triton.jit
def _backward_one(
    grad, x, weight, bias, partial, row, length, stride_grad, stride_x, channels, d, d_ok,
    ROWS: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """One direction's part of the gradient of x; writes the gradients of taps and bias to `partial` (K + 1, D)."""
    grad_x = tl.zeros((ROWS, BD), tl.float32)
    for j in tl.static_range(K):
        tap = tl.load(weight + d * K + j, mask=d_ok, other=0.0).to(tl.float32)
        shift = K - 1 - j if REVERSE else j - (K - 1)
        before = _grad_filtered(
            grad, x, weight, bias, row - shift, length, stride_grad, stride_x, d, d_ok, ROWS, BD, K, REVERSE, HAS_BIAS
        )
        grad_x += tap[None, :] * before
    here = before  # the last tap meets the step itself
    for j in tl.static_range(K):
        shift = K - 1 - j if REVERSE else j - (K - 1)
        seen = _rows(x, row + shift, length, stride_x, d, d_ok[None, :])
        tl.store(partial + j * channels + d, tl.sum(here * seen, axis=0), mask=d_ok)
    tl.store(partial + K * channels + d, tl.sum(here, axis=0), mask=d_ok)
    return grad_x


@triton.jit(do_not_specialize=["length"])
def conv_silu_backward(
    grad, grad_b, x, weight, bias, weight_b, bias_b, grad_x, partial, length, channels,
    stride_grad, batch_stride_grad, stride_grad_b, batch_stride_grad_b, stride_x, batch_stride_x,
    ROWS: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Writes grad_x (B, L, D) and partial sums (2, B, row tiles, K + 1, D); programs as those of `conv_silu`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    b = tl.program_id(2).to(tl.int64)
    d_ok = d < channels
    x += b * batch_stride_x
    partial += (b * tl.num_programs(0) + tl.program_id(0)) * (K + 1) * channels
    total = _backward_one(
        grad + b * batch_stride_grad, x, weight, bias, partial, row, length, stride_grad, stride_x, channels, d, d_ok,
        ROWS, BD, K, False, HAS_BIAS,
    )  # fmt: skip
    partial += tl.num_programs(2).to(tl.int64) * tl.num_programs(0) * (K + 1) * channels
    total += _backward_one(
        grad_b + b * batch_stride_grad_b, x, weight_b, bias_b, partial, row, length, stride_grad_b, stride_x,
        channels, d, d_ok, ROWS, BD, K, True, HAS_BIAS,
    )  # fmt: skip
    to = grad_x + (b * length + row)[:, None] * channels + d[None, :]
    tl.store(to, total.to(grad_x.dtype.element_ty), mask=(row < length)[:, None] & d_ok[None, :])
