"""The last pass of a scan, or the only one if there is one chunk: the outputs of a chunk whose first state is known.

    y[l] = (C[l] h[l] + D u[l] + addend[l]) SiLU(z[l])

The same program computes both directions of a bidirectional scan, one after the other. The second reads the first's
rows from the cache, where the same lanes have just written them, adds to them, and gates the sum.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import load_pairs, load_rows, row_at, silu_gate, start_state, unpack_B_C


@triton.jit
def _walk_chunk(
    u, delta, B_C, A, skip, state, addend, z, y, sums, begin, count, channels, stride_u, stride_addend, stride_z,
    d, ok, N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, FROM_ZERO: tl.constexpr,
    HAS_SKIP: tl.constexpr, HAS_ADDEND: tl.constexpr, HAS_Z: tl.constexpr, SAVE: tl.constexpr,
):  # fmt: skip
    rates, h = start_state(A, state, channels, d, ok, N, BD, FROM_ZERO)
    skip_d = tl.zeros((BD,), tl.float32)
    if HAS_SKIP:
        skip_d = tl.load(skip + d, mask=ok, other=0.0).to(tl.float32)
    steps = load_rows(delta, begin, count, 0, channels, d, ok, T, DESCENDING)
    xs = load_rows(u, begin, count, 0, stride_u, d, ok, T, DESCENDING)
    added = load_rows(addend, begin, count, 0, stride_addend, d, ok, T if HAS_ADDEND else 0, DESCENDING)
    gates = load_rows(z, begin, count, 0, stride_z, d, ok, T if HAS_Z else 0, DESCENDING)
    pairs = load_pairs(B_C, begin, count, 0, N, DESCENDING)
    for first in range(0, count, T):
        next_steps = load_rows(delta, begin, count, first + T, channels, d, ok, T, DESCENDING)
        next_xs = load_rows(u, begin, count, first + T, stride_u, d, ok, T, DESCENDING)
        next_added = load_rows(
            addend, begin, count, first + T, stride_addend, d, ok, T if HAS_ADDEND else 0, DESCENDING
        )
        next_gates = load_rows(z, begin, count, first + T, stride_z, d, ok, T if HAS_Z else 0, DESCENDING)
        outs = ()
        for t in tl.static_range(T):
            next_pairs = load_pairs(B_C, begin, count, first + t + 1, N, DESCENDING)
            step = steps[t].to(tl.float32)
            x = xs[t].to(tl.float32)
            drive = step * x
            out = skip_d * x
            after = ()
            for n in tl.static_range(N):
                B, C = unpack_B_C(pairs[n])
                h_n = tl.fma(tl.exp2(rates[n] * step), h[n], drive * B)
                out = tl.fma(h_n, tl.broadcast_to(C, (BD,)), out)
                after = after + (h_n,)
            h = after
            pairs = next_pairs
            outs = outs + (out,)
        for t in tl.static_range(T):
            row = row_at(begin, count, first + t, DESCENDING)
            alive = ok & (first + t < count)
            out = outs[t]
            if HAS_ADDEND:
                out += added[t].to(tl.float32)
            if SAVE:
                tl.store(sums + row * channels + d, out.to(sums.dtype.element_ty), mask=alive)
            if HAS_Z:
                gate = gates[t].to(tl.float32)
                out *= gate * silu_gate(gate)
            tl.store(y + row * channels + d, out.to(y.dtype.element_ty), mask=alive)
        steps = next_steps
        xs = next_xs
        added = next_added
        gates = next_gates


@triton.jit(do_not_specialize=["length", "chunk"])
def scan_outputs(
    u, delta, B_C, A, skip, u_b, delta_b, B_C_b, A_b, skip_b, state, addend, z, y, sums, length, channels, chunk,
    stride_u, batch_stride_u, stride_u_b, batch_stride_u_b, stride_addend, batch_stride_addend, stride_z,
    batch_stride_z,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, BOTH: tl.constexpr,
    FROM_ZERO: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_ADDEND: tl.constexpr, HAS_Z: tl.constexpr,
    SAVE: tl.constexpr,
):  # fmt: skip
    """Writes y (B, L, D), and, with SAVE, the sum before the gate into `sums`; programs: D / BD, chunks, B.

    REVERSE says whether the first direction runs from the last step to the first; the second direction, if BOTH is set,
    runs the other way. With FROM_ZERO there is one chunk, and no state is read.
    """
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    c, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    begin = c * chunk
    count = tl.minimum(chunk, length - begin)
    item = b * length
    y += item * channels
    sums += item * channels
    z += b * batch_stride_z
    here = state + (b * tl.num_programs(1) + c) * N * channels
    _walk_chunk(
        u + b * batch_stride_u, delta + item * channels, B_C + item * N, A, skip, here,
        addend + b * batch_stride_addend, z, y, sums, begin, count, channels, stride_u, stride_addend, stride_z, d, ok,
        N, T, BD, REVERSE, FROM_ZERO, HAS_SKIP, HAS_ADDEND, HAS_Z and not BOTH, SAVE and not BOTH,
    )  # fmt: skip
    if BOTH:
        tl.debug_barrier()  # lanes read what other lanes of the warp wrote
        here += tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * N * channels
        _walk_chunk(
            u_b + b * batch_stride_u_b, delta_b + item * channels, B_C_b + item * N, A_b, skip_b, here,
            y, z, y, sums, begin, count, channels, stride_u_b, channels, stride_z, d, ok,
            N, T, BD, not REVERSE, FROM_ZERO, HAS_SKIP, True, HAS_Z, SAVE,
        )  # fmt: skip
