"""Functions that the scan's kernels share: rows of a chunk, B and C, and the walk that computes states.

One program is one warp. It holds BD neighbouring channels of one batch item and walks over one chunk of the sequence, a
tile of T rows at a time. Tuples of vectors stand for registers: rows and states are indexed by constants only. A
reversed walk computes other addresses; nothing is flipped.

Few warps run on a multiprocessor, so they cannot hide the time that loads take, which is more than a row's computation.
Therefore the rows of a tile are loaded while the tile before is computed, B and C while the row before is computed, and
a tile's results are stored at its end, because the compiler does not move a load before a store.

Symbols: L sequence length, D channels, N states a channel; `count` rows of the chunk that starts at row `begin`.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST_A = tl.constexpr(-2e38)


@triton.jit
def row_at(begin, count, step, DESCENDING: tl.constexpr):
    """The memory row of a walk's step, counted from the end if DESCENDING. Steps past the end give the last row."""
    step = tl.minimum(step, count - 1)
    return (begin + (count - 1 - step if DESCENDING else step)).to(tl.int64)


@triton.jit
def load_rows(x, begin, count, first, stride, d, ok, T: tl.constexpr, DESCENDING: tl.constexpr):
    """Load T rows from step `first` on, in their stored dtype; 0 past the end."""
    rows = ()
    for t in tl.static_range(T):
        row = row_at(begin, count, first + t, DESCENDING)
        rows = rows + (tl.load(x + row * stride + d, mask=ok & (first + t < count), other=0.0),)
    return rows


@triton.jit
def load_pairs(B_C, begin, count, step, N: tl.constexpr, DESCENDING: tl.constexpr):
    """Load B and C of one step for every state: N scalars of 64 bits, each two float32."""
    row = row_at(begin, count, step, DESCENDING)
    pairs = ()
    for n in tl.static_range(N):
        pairs = pairs + (tl.load(B_C + row * N + n),)
    return pairs


@triton.jit
def unpack_B_C(both):
    """B and C of one row and state in float32; the halves of a 64-bit register are two registers."""
    B = (both & 0xFFFFFFFF).to(tl.uint32).to(tl.float32, bitcast=True)
    C = (both >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
    return B, C


@triton.jit
def silu_gate(z):
    """The logistic function, by the hardware's exponential to the base 2."""
    return 1.0 / (1.0 + tl.exp2(z * -LOG2_E))


@triton.jit
def load_decay(A, ok):
    """Load A, bounded so that A log2(e) is finite: times a step of 0 it must be 0."""
    return tl.maximum(tl.load(A, mask=ok, other=0.0), LOWEST_A, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def start_state(A, state, channels, d, ok, N: tl.constexpr, BD: tl.constexpr, FROM_ZERO: tl.constexpr):
    """Load the decay rates, to the base 2, and the states that a chunk starts from: N vectors each."""
    rates = ()
    h = ()
    for n in tl.static_range(N):
        rates = rates + (load_decay(A + d * N + n, ok) * LOG2_E,)
        if FROM_ZERO:
            h = h + (tl.zeros((BD,), tl.float32),)
        else:
            h = h + (tl.load(state + n * channels + d, mask=ok, other=0.0),)
    return rates, h


@triton.jit
def walk_states(
    u, delta, B_C, A, state, tile_states, begin, count, channels, stride_u, d, ok,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, ADJOINT: tl.constexpr,
    SAVE_TILES: tl.constexpr,
):  # fmt: skip
    """Walk over a chunk from a state of zero; returns the state at its end, N vectors, and the sum of its step sizes.

    With SAVE_TILES the walk starts from `state` (N, D) and writes the state that every tile starts from into
    `tile_states` (tiles, N, D). With ADJOINT the recurrence is the gradient's, p = exp(delta A) (p + C g), and u is g.
    """
    rates, h = start_state(A, state, channels, d, ok, N, BD, not SAVE_TILES)
    total = tl.zeros((BD,), tl.float32)
    steps = load_rows(delta, begin, count, 0, channels, d, ok, T, DESCENDING)
    xs = load_rows(u, begin, count, 0, stride_u, d, ok, T, DESCENDING)
    pairs = load_pairs(B_C, begin, count, 0, N, DESCENDING)
    for first in range(0, count, T):
        next_steps = load_rows(delta, begin, count, first + T, channels, d, ok, T, DESCENDING)
        next_xs = load_rows(u, begin, count, first + T, stride_u, d, ok, T, DESCENDING)
        if SAVE_TILES:
            for n in tl.static_range(N):
                tl.store(tile_states + n * channels + d, h[n], mask=ok)
            tile_states += N * channels
        for t in tl.static_range(T):
            next_pairs = load_pairs(B_C, begin, count, first + t + 1, N, DESCENDING)
            step = steps[t].to(tl.float32)
            x = xs[t].to(tl.float32)
            drive = x if ADJOINT else step * x
            total += step
            after = ()
            for n in tl.static_range(N):
                B, C = unpack_B_C(pairs[n])
                decay = tl.exp2(rates[n] * step)
                if ADJOINT:
                    after = after + (decay * tl.fma(drive, tl.broadcast_to(C, (BD,)), h[n]),)
                else:
                    after = after + (tl.fma(decay, h[n], drive * B),)
            h = after
            pairs = next_pairs
        steps = next_steps
        xs = next_xs
    return h, total
