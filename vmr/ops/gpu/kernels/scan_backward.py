"""The gradients of a scan, given the state that each tile of T rows starts from and the gradient at each chunk's end.

A program walks over a chunk tile by tile from its end; within a tile, it computes the states of the rows again. g is
the gradient of `C h + D u`, and p the gradient of the state that the following step passes back:

    q = C g + p,  p' = exp(delta A) q,  dC = sum_d g h,  dB = sum_d q delta u
    d(delta u) = sum_n q B,  d(delta A) = q exp(delta A) h_before

dB and dC need sums over channels. Each block of channels writes its own sums, which are added in a fixed order
afterwards.
"""

import triton
import triton.language as tl

from vmr.ops.gpu.kernels.walk import LOG2_E, load_decay, load_rows, row_at, unpack_B_C


@triton.jit
def _load_state(A, B_C, tile_state, adjoint, grad_A, rows, n, channels, d, ok, N: tl.constexpr, T: tl.constexpr):
    """Load what the loop reads for one state: its rate, its value at the tile's start, its gradients, B and C."""
    alive = ok & (n < N)
    A_n = load_decay(A + d * N + n, alive)
    h = tl.load(tile_state + n * channels + d, mask=alive, other=0.0)
    p = tl.load(adjoint + n * channels + d, mask=alive, other=0.0)
    dA = tl.load(grad_A + n * channels + d, mask=alive, other=0.0)
    pairs = ()
    for t in tl.static_range(T):
        pairs = pairs + (tl.load(B_C + rows[t] * N + tl.minimum(n, N - 1)),)
    return A_n, h, p, dA, pairs


@triton.jit
def _load_tile(
    grad, u, delta, begin, count, first, channels, stride_u, d, ok,
    T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr,
):  # fmt: skip
    """Load T rows from step `first` on: their numbers, step sizes, delta u and g; and zeros for sums of gradients."""
    steps, drives, gs, d_steps, d_drives, rows = (), (), (), (), (), ()
    for t in tl.static_range(T):
        row = row_at(begin, count, first + t, DESCENDING)
        alive = ok & (first + t < count)
        step = tl.load(delta + row * channels + d, mask=alive, other=0.0).to(tl.float32)
        rows = rows + (row,)
        steps = steps + (step,)
        drives = drives + (step * tl.load(u + row * stride_u + d, mask=alive, other=0.0).to(tl.float32),)
        gs = gs + (tl.load(grad + row * channels + d, mask=alive, other=0.0).to(tl.float32),)
        d_steps = d_steps + (tl.zeros((BD,), tl.float32),)
        d_drives = d_drives + (tl.zeros((BD,), tl.float32),)
    return rows, steps, drives, gs, d_steps, d_drives


@triton.jit
def _write_tile(
    u, skip, grad_u, grad_delta, grad_skip, grad_bias, steps, gs, d_steps, d_drives, rows, begin, count, first,
    channels, stride_u, d, ok,
    T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, SOFTPLUS: tl.constexpr, HAS_SKIP: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u and delta for the rows of a tile, and add to those of the skip connection and bias."""
    # Values that are needed once per tile are loaded again, so that the loop over states has enough registers.
    skip_d = tl.zeros((BD,), tl.float32)
    if HAS_SKIP:
        skip_d = tl.load(skip + d, mask=ok, other=0.0).to(tl.float32)
    sum_skip = tl.load(grad_skip + d, mask=ok, other=0.0)
    sum_bias = tl.load(grad_bias + d, mask=ok, other=0.0)
    xs = load_rows(u, begin, count, first, stride_u, d, ok, T, DESCENDING)
    for t in tl.static_range(T):
        alive = ok & (first + t < count)
        x = xs[t].to(tl.float32)
        du = tl.fma(d_drives[t], steps[t], skip_d * gs[t])
        d_step = tl.fma(d_drives[t], x, d_steps[t])
        if SOFTPLUS:  # its slope is 1 - exp(-softplus), by a series where that would cancel
            s = steps[t]
            d_step *= tl.where(s < 0.02, s * (1.0 - s * (0.5 - s / 6.0)), 1.0 - tl.exp2(s * -LOG2_E))
        d_step = tl.where(alive, d_step, 0.0)
        sum_skip = tl.fma(gs[t], x, sum_skip)
        sum_bias += d_step
        tl.store(grad_u + rows[t] * channels + d, du.to(grad_u.dtype.element_ty), mask=alive)
        tl.store(grad_delta + rows[t] * channels + d, d_step.to(grad_delta.dtype.element_ty), mask=alive)
    tl.store(grad_skip + d, sum_skip, mask=ok)
    tl.store(grad_bias + d, sum_bias, mask=ok)


@triton.jit
def _walk_back(
    grad, u, delta, B_C, A, skip, adjoint, tile_states, grad_u, grad_delta, grad_A, grad_B_C, grad_skip, grad_bias,
    begin, count, channels, stride_u, d, ok,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, DESCENDING: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_SKIP: tl.constexpr,
):  # fmt: skip
    """The gradients of one direction over one chunk."""
    tiles = tl.cdiv(count, T)
    for back in range(tiles):
        first = (tiles - 1 - back) * T
        tile_state = tile_states + (tiles - 1 - back) * N * channels
        rows, steps, drives, gs, d_steps, d_drives = _load_tile(
            grad, u, delta, begin, count, first, channels, stride_u, d, ok, T, BD, DESCENDING
        )
        A_n, h, p, dA, pairs = _load_state(A, B_C, tile_state, adjoint, grad_A, rows, 0, channels, d, ok, N, T)
        for n in range(N):  # unrolled, it would need more registers than there are
            # The operands of the next state are loaded one iteration ahead.
            next_A, next_h, next_p, next_dA, next_pairs = _load_state(
                A, B_C, tile_state, adjoint, grad_A, rows, n + 1, channels, d, ok, N, T
            )
            decays, decayed, dCs = (), (), ()
            for t in tl.static_range(T):
                B, _ = unpack_B_C(pairs[t])
                a = tl.exp2(A_n * LOG2_E * steps[t])
                decays, decayed = decays + (a,), decayed + (a * h,)
                h = tl.fma(drives[t], tl.broadcast_to(B, (BD,)), a * h)
                dCs = dCs + (tl.sum(gs[t] * h, axis=0),)
            new_steps, new_drives, dBs = (), (), ()
            for t in tl.static_range(T - 1, -1, -1):
                B, C = unpack_B_C(pairs[t])
                q = tl.fma(gs[t], tl.broadcast_to(C, (BD,)), p)
                dBs = (tl.sum(q * drives[t], axis=0),) + dBs
                e = q * decayed[t]
                dA = tl.fma(e, steps[t], dA)
                new_steps = (tl.fma(e, A_n, d_steps[t]),) + new_steps
                new_drives = (tl.fma(q, tl.broadcast_to(B, (BD,)), d_drives[t]),) + new_drives
                p = decays[t] * q
            d_steps, d_drives = new_steps, new_drives
            for t in tl.static_range(T):
                to = grad_B_C + (rows[t] * N + n) * 2
                tl.store(to, dBs[t], mask=first + t < count)
                tl.store(to + 1, dCs[t], mask=first + t < count)
            tl.store(adjoint + n * channels + d, p, mask=ok)
            tl.store(grad_A + n * channels + d, dA, mask=ok)
            A_n, h, p, dA, pairs = next_A, next_h, next_p, next_dA, next_pairs
        _write_tile(
            u, skip, grad_u, grad_delta, grad_skip, grad_bias, steps, gs, d_steps, d_drives, rows, begin, count, first,
            channels, stride_u, d, ok, T, BD, DESCENDING, SOFTPLUS, HAS_SKIP,
        )  # fmt: skip


@triton.jit(do_not_specialize=["length", "chunk", "max_tiles", "batch"])
def scan_backward(
    grad, u, delta, B_C, A, skip, u_b, delta_b, B_C_b, A_b, skip_b, adjoint, tile_states,
    grad_u, grad_u_b, grad_delta, grad_A, grad_B_C, grad_skip, grad_bias, length, channels, chunk, max_tiles, batch,
    stride_u, batch_stride_u, stride_u_b, batch_stride_u_b,
    N: tl.constexpr, T: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_SKIP: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of one or both directions; programs: D / BD, chunks, directions * B.

    grad (B, L, D), contiguous, is the gradient before the gate. `adjoint` (directions, B, chunks, N, D) holds zeros or
    the adjoint states that chunks start from, and is overwritten; `tile_states` is (directions, B, chunks, max_tiles,
    N, D).

    Written: grad_u, grad_u_b (B, L, D); grad_delta (directions, B, L, D); grad_B_C (blocks of channels, directions, B,
    L, N, 2). Added to, so they must start as zeros: grad_A, in the shape of `adjoint`; grad_skip and grad_bias
    (directions, B, chunks, D).
    """
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    ok = d < channels
    direction, b = tl.program_id(2) // batch, (tl.program_id(2) % batch).to(tl.int64)
    item = tl.program_id(2).to(tl.int64)  # in tensors that stack the directions
    here = item * tl.num_programs(1) + tl.program_id(1)
    begin = tl.program_id(1) * chunk
    count = tl.minimum(chunk, length - begin)
    grad += b * length * channels
    adjoint += here * N * channels
    grad_A += here * N * channels
    tile_states += here * max_tiles * N * channels
    grad_delta += item * length * channels
    grad_B_C += (tl.program_id(0).to(tl.int64) * tl.num_programs(2) + item) * length * N * 2
    grad_skip += here * channels
    grad_bias += here * channels
    if direction == 0:
        _walk_back(
            grad, u + b * batch_stride_u, delta + b * length * channels, B_C + b * length * N, A, skip, adjoint,
            tile_states, grad_u + b * length * channels, grad_delta, grad_A, grad_B_C, grad_skip, grad_bias, begin,
            count, channels, stride_u, d, ok, N, T, BD, REVERSE, SOFTPLUS, HAS_SKIP,
        )  # fmt: skip
    else:
        _walk_back(
            grad, u_b + b * batch_stride_u_b, delta_b + b * length * channels, B_C_b + b * length * N, A_b, skip_b,
            adjoint, tile_states, grad_u_b + b * length * channels, grad_delta, grad_A, grad_B_C, grad_skip, grad_bias,
            begin, count, channels, stride_u_b, d, ok, N, T, BD, not REVERSE, SOFTPLUS, HAS_SKIP,
        )  # fmt: skip
