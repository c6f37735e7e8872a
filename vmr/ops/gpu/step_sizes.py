"""What the scan reads of a projected sequence: `softplus(low @ weight.T + bias)`, and B and C in float32, in pairs.

The scan walks a sequence more than once; made here, its step sizes cost one pass over memory instead of R
multiply-adds an element in every walk.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.walk import LOG2_E

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(x):
    """log(1 + exp(x)) to float32's last bits.

    The hardware's logarithm is off by 2^-22 near 1, which is everything to a small step size: there the series of
    2 artanh(e / (2 + e)) = log(1 + e) takes its place.
    """
    e = tl.exp2(tl.minimum(x, 20.0) * LOG2_E)
    s = e / (2.0 + e)
    s2 = s * s
    series = 2.0 * s * (1.0 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9 + s2 / 11)))))
    return tl.where(x > 20.0, x, tl.where(e < 0.5, series, LN_2 * tl.log2(1.0 + e)))


@triton.jit
def _project(
    low, weight, bias, B, C, delta, B_C, tile, block, items, length, channels, rank, stride_low, batch_stride_low,
    stride_B, batch_stride_B, stride_C, batch_stride_C,
    N: tl.constexpr, N_BLOCK: tl.constexpr, ROWS: tl.constexpr, BD: tl.constexpr, BR: tl.constexpr,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, row = rows // length, rows % length
    alive = rows < items
    d = block * BD + tl.arange(0, BD)
    sums = tl.zeros((ROWS, BD), tl.float32)
    for first in range(0, rank, BR):
        r = first + tl.arange(0, BR)
        x = tl.load(
            low + (b * batch_stride_low + row * stride_low)[:, None] + r[None, :],
            mask=alive[:, None] & (r < rank)[None, :], other=0.0,
        )  # fmt: skip
        w = tl.load(
            weight + d[None, :] * rank + r[:, None], mask=(r < rank)[:, None] & (d < channels)[None, :], other=0.0
        )
        sums = tl.dot(x.to(tl.float32), w.to(tl.float32), sums, input_precision=PRECISION)
    if HAS_BIAS:
        sums += tl.load(bias + d, mask=d < channels, other=0.0).to(tl.float32)[None, :]
    to = delta + rows[:, None] * channels + d[None, :]
    tl.store(to, softplus(sums).to(delta.dtype.element_ty), mask=alive[:, None] & (d < channels)[None, :])
    if block == 0:
        n = tl.arange(0, N_BLOCK)
        ok = alive[:, None] & (n < N)[None, :]
        B_rows = tl.load(B + (b * batch_stride_B + row * stride_B)[:, None] + n[None, :], mask=ok, other=0.0)
        C_rows = tl.load(C + (b * batch_stride_C + row * stride_C)[:, None] + n[None, :], mask=ok, other=0.0)
        pairs = B_C + (rows[:, None] * N + n[None, :]) * 2
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
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """delta (directions, B, L, D) and B_C (directions, B, L, N, 2); programs: rows / ROWS, D / BD, directions.

    low (B, L, R), B and C (B, L, N) are columns as they come; weight (D, R); `items` is B * L. PRECISION is that of the
    product: "ieee" for float32, "tf32" where half precision comes in, which it holds exactly.
    """
    if tl.program_id(2) == 0:
        _project(
            low, weight, bias, B, C, delta, B_C, tl.program_id(0), tl.program_id(1), items, length, channels, rank,
            stride_low, batch_stride_low, stride_B, batch_stride_B, stride_C, batch_stride_C,
            N, N_BLOCK, ROWS, BD, BR, HAS_BIAS, PRECISION,
        )  # fmt: skip
    else:
        _project(
            low_b, weight_b, bias_b, B_b, C_b, delta + items.to(tl.int64) * channels, B_C + items.to(tl.int64) * N * 2,
            tl.program_id(0), tl.program_id(1), items, length, channels, rank,
            stride_low_b, batch_stride_low_b, stride_B_b, batch_stride_B_b, stride_C_b, batch_stride_C_b,
            N, N_BLOCK, ROWS, BD, BR, HAS_BIAS, PRECISION,
        )  # fmt: skip
