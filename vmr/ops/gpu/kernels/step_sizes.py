"""The scan's inputs from a projected sequence: `softplus(low @ weight.T + bias)`, and B and C in float32, in pairs.

The scan walks over a sequence more than once. Step sizes that are computed here cost one pass over memory, instead of R
multiply-adds for each element in every walk.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import LOG2_E

LARGEST_HALF = tl.constexpr(65504.0)


@triton.jit
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + t) with t = exp(-|x|), to a relative 3e-7.

    log(1 + t) is computed as t times a polynomial, fitted at the Chebyshev nodes of [0, 1]: small step sizes keep the
    digits that they would lose in 1 + t, and it takes half the instructions of a logarithm.
    """
    t = tl.exp2(tl.abs(x) * -LOG2_E)
    p = tl.fma(t, 0.005126102361828089, -0.029074065387248993)
    p = tl.fma(t, p, 0.0775160863995552)
    p = tl.fma(t, p, -0.13602247834205627)
    p = tl.fma(t, p, 0.19076880812644958)
    p = tl.fma(t, p, -0.2483539879322052)
    p = tl.fma(t, p, 0.3331812024116516)
    p = tl.fma(t, p, -0.4999944567680359)
    p = tl.fma(t, p, 0.9999999403953552)
    return tl.fma(t, p, tl.maximum(x, 0.0))


@triton.jit
def _project(
    low, weight, bias, B, C, delta, B_C, items, length, channels, rank, stride_low, batch_stride_low, stride_B,
    batch_stride_B, stride_C, batch_stride_C,
    N: tl.constexpr, N_BLOCK: tl.constexpr, ROWS: tl.constexpr, BD: tl.constexpr, BR: tl.constexpr,
    BLOCKS: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * ROWS
    local = tl.arange(0, ROWS)
    alive = first + local < items
    b, row = ((first + local) // length).to(tl.int64), ((first + local) % length).to(tl.int64)
    delta += first.to(tl.int64) * channels
    B_C += first.to(tl.int64) * N * 2
    r = tl.arange(0, BR)
    x = tl.load(
        low + (b * batch_stride_low + row * stride_low)[:, None] + r[None, :],
        mask=alive[:, None] & (r < rank)[None, :], other=0.0,
    ).to(tl.float32)  # fmt: skip
    for block in range(BLOCKS):
        d = (tl.program_id(1) * BLOCKS + block) * BD + tl.arange(0, BD)
        ok = d < channels
        w = tl.load(weight + d[None, :] * rank + r[:, None], mask=(r < rank)[:, None] & ok[None, :], other=0.0)
        sums = tl.dot(x, w.to(tl.float32), input_precision=PRECISION)
        if HAS_BIAS:
            sums += tl.load(bias + d, mask=ok, other=0.0).to(tl.float32)[None, :]
        steps = softplus(sums)
        if delta.dtype.element_ty == tl.float16:
            steps = tl.where(steps > LARGEST_HALF, LARGEST_HALF, steps)
        to = delta + (local[:, None] * channels + d[None, :])
        tl.store(to, steps.to(delta.dtype.element_ty), mask=alive[:, None] & ok[None, :])
    if tl.program_id(1) == 0:
        n = tl.arange(0, N_BLOCK)
        ok = alive[:, None] & (n < N)[None, :]
        B_rows = tl.load(B + (b * batch_stride_B + row * stride_B)[:, None] + n[None, :], mask=ok, other=0.0)
        C_rows = tl.load(C + (b * batch_stride_C + row * stride_C)[:, None] + n[None, :], mask=ok, other=0.0)
        pairs = B_C + (local[:, None] * N + n[None, :]) * 2
        tl.store(pairs, B_rows.to(tl.float32), mask=ok)
        tl.store(pairs + 1, C_rows.to(tl.float32), mask=ok)


@triton.jit(
    do_not_specialize=[
        "length", "items", "batch_stride_low", "batch_stride_B", "batch_stride_C", "batch_stride_low_b",
        "batch_stride_B_b", "batch_stride_C_b",
    ]
)  # fmt: skip
def step_sizes(
    low, weight, bias, B, C, low_b, weight_b, bias_b, B_b, C_b, delta, B_C, items, length, channels, rank,
    stride_low, batch_stride_low, stride_B, batch_stride_B, stride_C, batch_stride_C,
    stride_low_b, batch_stride_low_b, stride_B_b, batch_stride_B_b, stride_C_b, batch_stride_C_b,
    N: tl.constexpr, N_BLOCK: tl.constexpr, ROWS: tl.constexpr, BD: tl.constexpr, BR: tl.constexpr,
    BLOCKS: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Writes delta (directions, B, L, D) and B_C (directions, B, L, N, 2).

    Programs: rows / ROWS, D / BD / BLOCKS, directions. low (B, L, R), B and C (B, L, N) may be columns of a wider
    tensor; weight is (D, R); `items` is B * L. PRECISION is that of the product: "ieee" for float32, "tf32" for
    sequences of half precision, whose values it holds exactly; it rounds the weight.
    """
    if tl.program_id(2) == 0:
        _project(
            low, weight, bias, B, C, delta, B_C, items, length, channels, rank, stride_low, batch_stride_low,
            stride_B, batch_stride_B, stride_C, batch_stride_C,
            N, N_BLOCK, ROWS, BD, BR, BLOCKS, HAS_BIAS, PRECISION,
        )  # fmt: skip
    else:
        _project(
            low_b, weight_b, bias_b, B_b, C_b, delta + items.to(tl.int64) * channels, B_C + items.to(tl.int64) * N * 2,
            items, length, channels, rank, stride_low_b, batch_stride_low_b, stride_B_b, batch_stride_B_b,
            stride_C_b, batch_stride_C_b, N, N_BLOCK, ROWS, BD, BR, BLOCKS, HAS_BIAS, PRECISION,
        )  # fmt: skip
