"""The first two passes of a scan in chunks: what each chunk adds to the state, then what each chunk starts from.

    h[l] = exp(delta[l] A) h[l-1] + delta[l] B[l] u[l]

Over a chunk this is `h_end = exp(A sum(delta)) h_start + h_end_from_zero`, so that chunks can be walked side by side.
The gradient's recurrence has the same decay and runs the other way (ADJOINT): p = exp(delta A) (p + C g), with g the
gradient of the output in the place of u.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.walk import LOG2_E, row_at, walk_states


@triton.jit
def _end_state(
    u, delta, B_C, A, state, total, begin, count, channels, stride_u, d, ok,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    h, sum_delta = walk_states(
        u, delta, B_C, A, state, state, begin, count, channels, stride_u, d, ok, N, T, BD, DESCENDING, ADJOINT,
        True, False,
    )  # fmt: skip
    for n in tl.static_range(N):
        tl.store(state + n * channels + d, h[n], mask=ok)
    tl.store(total + d, sum_delta, mask=ok)


@triton.jit(do_not_specialize=["length", "chunk", "batch"])
def scan_states(
    u, delta, B_C, A, u_b, delta_b, B_C_b, A_b, state, total, length, channels, chunk, batch,
    stride_u, batch_stride_u, stride_u_b, batch_stride_u_b,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """state (directions, B, chunks, N, D), total (directions, B, chunks, D); programs: D / BD, chunks, directions * B.

    REVERSE is the first direction's; the second, where there is one, has the other.
    """
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    direction, b = tl.program_id(2) // batch, (tl.program_id(2) % batch).to(tl.int64)
    here = tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    state += here * N * channels
    total += here * channels
    begin = tl.program_id(1) * chunk
    count = tl.minimum(chunk, length - begin)
    if direction == 0:
        _end_state(
            u + b * batch_stride_u, delta + b * length * channels, B_C + b * length * N, A, state, total, begin, count,
            channels, stride_u, d, ok, N, T, BD, REVERSE != ADJOINT, ADJOINT,
        )  # fmt: skip
    else:
        _end_state(
            u_b + b * batch_stride_u_b, delta_b + b * length * channels, B_C_b + b * length * N, A_b, state, total,
            begin, count, channels, stride_u_b, d, ok, N, T, BD, REVERSE == ADJOINT, ADJOINT,
        )  # fmt: skip


@triton.jit
def _carry(state, total, A, channels, chunks, n, d, ok, N: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr,
           DESCENDING: tl.constexpr):  # fmt: skip
    rate = tl.load(A + d * N + n, mask=ok, other=0.0) * LOG2_E
    h = tl.zeros((BD,), tl.float32)
    for first in range(0, chunks, GROUP):  # a group's loads before its stores, else each would wait for the last
        added = ()
        decays = ()
        for i in tl.static_range(GROUP):
            c = row_at(0, chunks, first + i, DESCENDING)
            inside = ok & (first + i < chunks)
            added = added + (tl.load(state + (c * N + n) * channels + d, mask=inside, other=0.0),)
            decays = decays + (tl.exp2(rate * tl.load(total + c * channels + d, mask=inside, other=0.0)),)
        for i in tl.static_range(GROUP):
            c = row_at(0, chunks, first + i, DESCENDING)
            tl.store(state + (c * N + n) * channels + d, h, mask=ok & (first + i < chunks))
            h = tl.fma(decays[i], h, added[i])


@triton.jit(do_not_specialize=["chunks", "batch"])
def carry_states(
    state, total, A, A_b, channels, chunks, batch,
    N: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr, REVERSE: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """In place, what a chunk adds -> what it starts from; programs: D / BD, N, directions * B."""
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    n = tl.program_id(1)
    state += tl.program_id(2).to(tl.int64) * chunks * N * channels
    total += tl.program_id(2).to(tl.int64) * chunks * channels
    if tl.program_id(2) < batch:
        _carry(state, total, A, channels, chunks, n, d, ok, N, BD, GROUP, REVERSE != ADJOINT)
    else:
        _carry(state, total, A_b, channels, chunks, n, d, ok, N, BD, GROUP, REVERSE == ADJOINT)
