"""The gradients of the gate `y = sums SiLU(z)`."""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import silu_gate


@triton.jit(do_not_specialize=["length", "items"])
def gate_backward(
    grad, sums, z, grad_sums, grad_z, items, length, channels, stride_grad, batch_stride_grad, stride_z, batch_stride_z,
    ROWS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Writes grad_sums and grad_z (B, L, D), contiguous as `sums` is; programs: B * L / ROWS, D / BD."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    b, row = rows // length, rows % length
    ok = (rows < items)[:, None] & (d < channels)[None, :]
    at = rows[:, None] * channels + d[None, :]
    g = tl.load(grad + (b * batch_stride_grad + row * stride_grad)[:, None] + d[None, :], mask=ok, other=0.0)
    gate = tl.load(z + (b * batch_stride_z + row * stride_z)[:, None] + d[None, :], mask=ok, other=0.0).to(tl.float32)
    before = tl.load(sums + at, mask=ok, other=0.0).to(tl.float32)
    g = g.to(tl.float32)
    s = silu_gate(gate)
    tl.store(grad_sums + at, (g * gate * s).to(grad_sums.dtype.element_ty), mask=ok)
    tl.store(grad_z + at, (g * before * s * (1.0 + gate * (1.0 - s))).to(grad_z.dtype.element_ty), mask=ok)
