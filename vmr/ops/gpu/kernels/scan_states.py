"""The first two passes of a scan in chunks: what each chunk adds to the state, then what each chunk starts from.

    h[l] = exp(delta[l] A) h[l-1] + delta[l] B[l] u[l]

Over a chunk this is `h_end = exp(A sum(delta)) h_start + h_end_from_zero`, so chunks can be computed in parallel. The
gradient's recurrence has the same decay and runs the other way (ADJOINT): p = exp(delta A) (p + C g), where g is the
gradient of the output and is passed as u.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import LOG2_E, load_decay, row_at, walk_states


@triton.jit
def _walk(
    u, delta, B_C, A, state, total, tile_states, direction, b, batch, length, channels, chunk, stride_u, batch_stride_u,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, ADJOINT: tl.constexpr,
    SAVE_TILES: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    c = tl.program_id(1)
    here = (direction * batch + b) * tl.num_programs(1) + c
    state += here * N * channels
    tile_states += here * tl.cdiv(chunk, T) * N * channels
    begin = c * chunk
    h, sum_delta = walk_states(
        u + b * batch_stride_u, delta + b * length * channels, B_C + b * length * N, A, state, tile_states, begin,
        tl.minimum(chunk, length - begin), channels, stride_u, d, ok, N, T, BD, DESCENDING, ADJOINT, SAVE_TILES,
    )  # fmt: skip
    if not SAVE_TILES:
        for n in tl.static_range(N):
            tl.store(state + n * channels + d, h[n], mask=ok)
        tl.store(total + here * channels + d, sum_delta, mask=ok)


@triton.jit(do_not_specialize=["length", "chunk", "batch"])
def scan_states(
    u, delta, B_C, A, u_b, delta_b, B_C_b, A_b, state, total, tile_states, length, channels, chunk, batch,
    stride_u, batch_stride_u, stride_u_b, batch_stride_u_b,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, BOTH: tl.constexpr,
    SPLIT: tl.constexpr, ADJOINT: tl.constexpr, SAVE_TILES: tl.constexpr,
):  # fmt: skip
    """Writes state (directions, B, chunks, N, D) and total (directions, B, chunks, D); programs: D / BD, chunks, B.

    With SAVE_TILES it reads `state`, from which the chunks start, and writes the states from which their tiles of T
    rows start, for the backward pass: tile_states (directions, B, chunks, tiles, N, D).

    REVERSE says whether the first direction runs from the last step to the first; the second direction, if BOTH is set,
    runs the other way. A program walks over both directions; with SPLIT it walks over one, and there are twice as many
    programs.
    """
    b = (tl.program_id(2) % batch).to(tl.int64)
    if not SPLIT or tl.program_id(2) < batch:
        _walk(
            u, delta, B_C, A, state, total, tile_states, 0, b, batch, length, channels, chunk, stride_u, batch_stride_u,
            N, T, BD, REVERSE != ADJOINT, ADJOINT, SAVE_TILES,
        )  # fmt: skip
    if BOTH:
        if not SPLIT or tl.program_id(2) >= batch:
            _walk(
                u_b, delta_b, B_C_b, A_b, state, total, tile_states, 1, b, batch, length, channels, chunk, stride_u_b,
                batch_stride_u_b, N, T, BD, REVERSE == ADJOINT, ADJOINT, SAVE_TILES,
            )  # fmt: skip


@triton.jit
def _carry(state, total, A, channels, chunks, n, d, ok, N: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr,
           DESCENDING: tl.constexpr):  # fmt: skip
    rate = load_decay(A + d * N + n, ok) * LOG2_E
    h = tl.zeros((BD,), tl.float32)
    for first in range(0, chunks, GROUP):  # a group's loads come before its stores, else each would wait
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
    """Replaces what each chunk adds to the state by the state it starts from; programs: D / BD, N, directions * B."""
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    n = tl.program_id(1)
    state += tl.program_id(2).to(tl.int64) * chunks * N * channels
    total += tl.program_id(2).to(tl.int64) * chunks * channels
    if tl.program_id(2) < batch:
        _carry(state, total, A, channels, chunks, n, d, ok, N, BD, GROUP, REVERSE != ADJOINT)
    else:
        _carry(state, total, A_b, channels, chunks, n, d, ok, N, BD, GROUP, REVERSE == ADJOINT)
