"""The selective scan in Triton: one or both directions, with gradients.

Tensors are (B, L, channels) with contiguous channels, columns of wider ones included. What the kernels walk is made
first: step sizes after the softplus, in float16 for sequences of half precision (its relative error of 2^-11 is an
eighth of bfloat16's), and B and C in float32, in pairs. States and sums are float32.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from vmr.ops.gpu.kernels.gate_backward import gate_backward
from vmr.ops.gpu.kernels.scan_backward import scan_backward
from vmr.ops.gpu.kernels.scan_outputs import scan_outputs
from vmr.ops.gpu.kernels.scan_states import carry_states, scan_states
from vmr.ops.gpu.kernels.step_sizes import step_sizes
from vmr.ops.gpu.support import on_device_of, parameter
from vmr.ops.gpu.tiles import Plan, backward_plan, forward_plan, multiprocessors
from vmr.ops.scan_inputs import ScanInputs
from vmr.ops.tensors import needs_grad, with_contiguous_channels

CARRY_CHANNELS, CARRY_GROUP = 32, 16
STATES_AT_ONCE = 16  # of a channel: a program holds them, and their B and C, in registers
SPLIT_BELOW = 8  # programs a multiprocessor: fewer leave room for the two directions side by side
MAX_RANK = 128  # of the step sizes that their own kernel makes: a program holds all of it


class Walked(NamedTuple):
    """One direction as the kernels read it."""

    u: Tensor  # (B, L, D)
    delta: Tensor  # (B, L, D) step sizes, contiguous, float16 or float32
    B_C: Tensor  # (B, L, N) B and C as two float32 in an int64
    A: Tensor  # (D, N) float32
    skip: Tensor | None  # (D,) contiguous

    @property
    def strides(self) -> tuple[int, int]:
        """Of u: from row to row, and from batch item to batch item."""
        return self.u.stride(1), self.u.stride(0)


def scan_triton(
    directions: Sequence[ScanInputs],
    z: Tensor | None,
    addend: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
    out: Tensor | None = None,
) -> Tensor:
    """`selective_scan` of one direction, or `bidirectional_scan` of two, on checked tensors of one device.

    The first direction runs backwards where `reverse`, the second the other way. Two have the same shapes, and the same
    tensors are None in both.
    """
    states = directions[0].A.shape[1]
    if states > STATES_AT_ONCE:
        *others, last = (_some_states(directions, start) for start in range(0, states, STATES_AT_ONCE))
        for group in others:
            addend = scan_triton(group, None, addend, delta_softplus=delta_softplus, reverse=reverse)
        return scan_triton(last, z, addend, delta_softplus=delta_softplus, reverse=reverse, out=out)
    first, second = directions[0], directions[1] if len(directions) > 1 else None
    every = (*first, *(second or (None,) * len(ScanInputs._fields)), z, addend)
    result: Tensor
    if torch.compiler.is_compiling():
        result, _ = _scan_op(*every, delta_softplus, reverse, needs_grad(*every))
        return result
    if needs_grad(*every):
        result = _Scan.apply(delta_softplus, reverse, *every)
        return result
    writable = out is not None and out.is_contiguous()
    y = out if out is not None and writable else torch.empty_like(first.u, memory_format=torch.contiguous_format)
    _forward(directions, z, addend, y, None, delta_softplus=delta_softplus, reverse=reverse)
    return y if out is None or writable else out.copy_(y)


def _some_states(directions: Sequence[ScanInputs], start: int) -> list[ScanInputs]:
    """The scan of some of the states: the sum of such is the scan of all, if one of them has the skip connection."""
    states = slice(start, start + STATES_AT_ONCE)
    return [
        one._replace(A=one.A[:, states], B=one.B[..., states], C=one.C[..., states], D=one.D if start == 0 else None)
        for one in directions
    ]


def _forward(
    directions: Sequence[ScanInputs],
    z: Tensor | None,
    addend: Tensor | None,
    y: Tensor,
    sums: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
) -> None:
    """Writes y (B, L, D), and in `sums` what is there before the gate."""
    (batch, length, channels), states = directions[0].u.shape, directions[0].A.shape[1]
    plan = forward_plan(batch, length, channels, y.device)
    z, addend = (None if t is None else with_contiguous_channels(t) for t in (z, addend))
    with on_device_of(y):
        walked = _prepare(directions, delta_softplus=delta_softplus)
        first, second = walked[0], walked[-1]
        state = _chunk_states(walked, plan, reverse=reverse)
        scan_outputs[triton.cdiv(channels, plan.channels), plan.count, batch](
            first.u, first.delta, first.B_C, first.A, first.A if first.skip is None else first.skip,
            second.u, second.delta, second.B_C, second.A, second.A if second.skip is None else second.skip,
            first.A if state is None else state, y if addend is None else addend, y if z is None else z, y,
            y if sums is None else sums, length, channels, plan.chunk, *first.strides, *second.strides,
            *_strides(addend), *_strides(z),
            N=states, T=plan.rows, BD=plan.channels, REVERSE=reverse, BOTH=len(walked) > 1, FROM_ZERO=state is None,
            HAS_SKIP=first.skip is not None, HAS_ADDEND=addend is not None, HAS_Z=z is not None, SAVE=sums is not None,
            num_warps=1,
        )  # fmt: skip


def _prepare(directions: Sequence[ScanInputs], *, delta_softplus: bool) -> list[Walked]:
    """What the kernels walk. The usual case, softplus of a low-rank projection, is one kernel for all directions."""
    u = directions[0].u
    (batch, length, channels), states = u.shape, directions[0].A.shape[1]
    half = u.dtype != torch.float32 and delta_softplus  # without the softplus there is no telling how large it is
    delta = u.new_empty(len(directions), batch, length, channels, dtype=torch.float16 if half else torch.float32)
    B_C = u.new_empty(len(directions), batch, length, states, 2, dtype=torch.float32)
    if delta_softplus and all(one.delta_weight is not None and one.delta.shape[-1] <= MAX_RANK for one in directions):
        _launch_step_sizes(directions, delta, B_C)
    else:
        for one, to_delta, to_B_C in zip(directions, delta, B_C, strict=True):
            to_delta.copy_(_plain_step_sizes(one, delta_softplus))
            torch.stack((one.B.float(), one.C.float()), dim=-1, out=to_B_C)
    pairs = B_C.view(torch.int64).squeeze(-1)
    skips = [None if one.D is None else one.D.contiguous() for one in directions]
    return [
        Walked(with_contiguous_channels(one.u), delta[i], pairs[i], parameter(one.A), skips[i])
        for i, one in enumerate(directions)
    ]


def _launch_step_sizes(directions: Sequence[ScanInputs], delta: Tensor, B_C: Tensor) -> None:
    tensors, strides = [], []
    for one in (directions[0], directions[-1]):
        assert one.delta_weight is not None
        low, B, C = (with_contiguous_channels(t) for t in (one.delta, one.B, one.C))
        weight = one.delta_weight.contiguous()
        tensors += [low, weight, weight if one.delta_bias is None else one.delta_bias.contiguous(), B, C]
        strides += [*_strides(low), *_strides(B), *_strides(C)]
    (batch, length, rank), channels, states = directions[0].delta.shape, delta.shape[-1], B_C.shape[-2]
    exact = delta.dtype == torch.float32 or torch.version.hip is not None  # ROCm has no tf32
    # A program reads all of the weight: few large ones are best where they fill the GPU.
    rows = 128 if batch * length >= 8192 and not exact else 32
    step_sizes[triton.cdiv(batch * length, rows), triton.cdiv(channels, 192), len(directions)](
        *tensors, delta, B_C, batch * length, length, channels, rank, *strides,
        N=states, N_BLOCK=triton.next_power_of_2(states), ROWS=rows, BD=64, BR=max(16, triton.next_power_of_2(rank)),
        BLOCKS=3, HAS_BIAS=directions[0].delta_bias is not None, PRECISION="ieee" if exact else "tf32",
        num_warps=8 if rows == 128 else 4, num_stages=1,
    )  # fmt: skip


def _plain_step_sizes(one: ScanInputs, delta_softplus: bool) -> Tensor:
    delta = one.delta.float()
    if one.delta_weight is not None:
        delta = F.linear(delta, one.delta_weight.float())  # (B, L, R) -> (B, L, D)
    if one.delta_bias is not None:
        delta = delta + one.delta_bias.float()
    return F.softplus(delta) if delta_softplus else delta


def _chunk_states(
    walked: Sequence[Walked], plan: Plan, *, reverse: bool, grad: Tensor | None = None
) -> Tensor | None:  # fmt: skip
    """(directions, B, chunks, N, D), what every chunk starts from, or the adjoint's; None where there is one chunk."""
    if plan.count == 1:
        return None
    first, second = walked[0], walked[-1]
    (batch, _, channels), states = first.u.shape, first.A.shape[1]
    state = first.A.new_empty(len(walked), batch, plan.count, states, channels)
    total = first.A.new_empty(len(walked), batch, plan.count, channels)
    _launch_states(walked, plan, (state, total, state), reverse=reverse, grad=grad)
    carry_states[triton.cdiv(channels, CARRY_CHANNELS), states, len(walked) * batch](
        state, total, first.A, second.A, channels, plan.count, batch, N=states, BD=CARRY_CHANNELS, GROUP=CARRY_GROUP,
        REVERSE=reverse, ADJOINT=grad is not None, num_warps=1,
    )  # fmt: skip
    return state


def _launch_states(
    walked: Sequence[Walked],
    plan: Plan,
    targets: tuple[Tensor, Tensor, Tensor],
    *,
    reverse: bool,
    grad: Tensor | None = None,
    leave: bool = False,
) -> None:
    """targets: the states and sums that `scan_states` writes, or where `leave`, reads, and the tiles' states."""
    first, second = walked[0], walked[-1]
    (batch, length, channels), both = first.u.shape, len(walked) > 1
    blocks = triton.cdiv(channels, plan.channels)
    split = both and blocks * plan.count * batch < SPLIT_BELOW * multiprocessors(first.u.device)
    sources = [(one.u, *one.strides) if grad is None else (grad, *_strides(grad)) for one in (first, second)]
    scan_states[blocks, plan.count, (1 + split) * batch](
        sources[0][0], first.delta, first.B_C, first.A, sources[1][0], second.delta, second.B_C, second.A, *targets,
        length, channels, plan.chunk, batch, *sources[0][1:], *sources[1][1:],
        N=first.A.shape[1], T=plan.rows, BD=plan.channels, REVERSE=reverse, BOTH=both, SPLIT=split,
        ADJOINT=grad is not None, LEAVE=leave, num_warps=1,
    )  # fmt: skip


def _strides(tensor: Tensor | None) -> tuple[int, int]:
    """From row to row, and from batch item to batch item."""
    return (0, 0) if tensor is None else (tensor.stride(1), tensor.stride(0))


class _Scan(torch.autograd.Function):
    """For eager code: an operator of `torch.library` takes several times as long to call."""

    @staticmethod
    def forward(ctx: Any, delta_softplus: bool, reverse: bool, *tensors: Tensor | None) -> Tensor:
        y, sums = _forward_saving(tensors, delta_softplus, reverse, save=True)
        ctx.save_for_backward(sums, *tensors)
        ctx.options = delta_softplus, reverse
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sums, *tensors = ctx.saved_tensors
        return None, None, *_gradients(grad, sums, tensors, *ctx.options)


@torch.library.custom_op("vmr::scan_triton", mutates_args=())
def _scan_op(  # noqa: PLR0913, PLR0917 - an operator's arguments are flat
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_weight: Tensor | None,
    u_b: Tensor | None,
    delta_b: Tensor | None,
    A_b: Tensor | None,
    B_b: Tensor | None,
    C_b: Tensor | None,
    D_b: Tensor | None,
    delta_bias_b: Tensor | None,
    delta_weight_b: Tensor | None,
    z: Tensor | None,
    addend: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    """For compiled code: the result, and the sum before the gate where `save` and there is a gate."""
    one = (u, delta, A, B, C, D, delta_bias, delta_weight)
    other = (u_b, delta_b, A_b, B_b, C_b, D_b, delta_bias_b, delta_weight_b)
    return _forward_saving((*one, *other, z, addend), delta_softplus, reverse, save=save)


@_scan_op.register_fake
def _(u, *others):  # type: ignore[no-untyped-def]
    *_, z, _addend, _softplus, _reverse, save = others
    return u.new_empty(u.shape), u.new_empty(u.shape if save and z is not None else 0)


@torch.library.custom_op("vmr::scan_triton_backward", mutates_args=())
def _scan_backward_op(  # noqa: PLR0913, PLR0917 - an operator's arguments are flat
    grad: Tensor,
    sums: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_weight: Tensor | None,
    u_b: Tensor | None,
    delta_b: Tensor | None,
    A_b: Tensor | None,
    B_b: Tensor | None,
    C_b: Tensor | None,
    D_b: Tensor | None,
    delta_bias_b: Tensor | None,
    delta_weight_b: Tensor | None,
    z: Tensor | None,
    addend: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    """The gradients in the order of the forward's tensors; an empty one stands for a tensor that is None."""
    one = (u, delta, A, B, C, D, delta_bias, delta_weight)
    other = (u_b, delta_b, A_b, B_b, C_b, D_b, delta_bias_b, delta_weight_b)
    gradients = _gradients(grad, sums, (*one, *other, z, addend), delta_softplus, reverse)
    return [u.new_empty(0) if g is None else g.clone(memory_format=torch.contiguous_format) for g in gradients]


@_scan_backward_op.register_fake
def _(grad, sums, *tensors):  # type: ignore[no-untyped-def]
    return [sums.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors[:-2]]


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.delta_softplus, ctx.reverse, _save = inputs
    ctx.save_for_backward(output[1], *tensors)


def _autograd_backward(ctx, grad, _grad_sums):  # type: ignore[no-untyped-def]
    sums, *tensors = ctx.saved_tensors
    gradients = _scan_backward_op(grad, sums, *tensors, ctx.delta_softplus, ctx.reverse)
    return (*(None if t is None else g for t, g in zip(tensors, gradients, strict=True)), None, None, None)


_scan_op.register_autograd(_autograd_backward, setup_context=_setup_context)


def _forward_saving(
    tensors: Sequence[Tensor | None], delta_softplus: bool, reverse: bool, *, save: bool
) -> tuple[Tensor, Tensor]:
    """tensors: two directions, then the gate and the addend -> the result and what the backward pass needs beside."""
    *directions, z, addend = tensors
    u = directions[0]
    assert u is not None
    y = u.new_empty(u.shape)
    sums = u.new_empty(u.shape if save and z is not None else 0)
    saved = sums if sums.numel() else None
    _forward(_bundled(directions), z, addend, y, saved, delta_softplus=delta_softplus, reverse=reverse)
    return y, sums


def _gradients(
    grad: Tensor, sums: Tensor, tensors: Sequence[Tensor | None], delta_softplus: bool, reverse: bool
) -> list[Tensor | None]:
    """The gradients in the order of the forward's tensors, None for a tensor that is None."""
    *flat, z, addend = tensors
    with on_device_of(grad):
        grad_sums, grad_z = _through_gate(grad, sums, z)
        found = gradients_of_sum(grad_sums, _bundled(flat), delta_softplus=delta_softplus, reverse=reverse)
    gradients = [g for one in found for g in one]
    gradients += [None] * (len(flat) - len(gradients))
    gradients += [grad_z, None if addend is None else grad_sums]
    return [None if t is None or g is None else g.to(t.dtype) for t, g in zip(tensors, gradients, strict=True)]


def _bundled(tensors: Sequence[Tensor | None]) -> list[ScanInputs]:
    """One or two directions of the operator's flat arguments."""
    size = len(ScanInputs._fields)
    first, second = tensors[:size], tensors[size:]
    return [ScanInputs(*one) for one in (first, second) if one[0] is not None]  # type: ignore[arg-type]


def _through_gate(grad: Tensor, sums: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Gradients of the sum before the gate, contiguous, and of z."""
    if z is None:
        return grad.contiguous(), None
    grad, z = with_contiguous_channels(grad), with_contiguous_channels(z)
    batch, length, channels = grad.shape
    grad_sums, grad_z = grad.new_empty(grad.shape), z.new_empty(z.shape)
    rows, block = 16, 128
    gate_backward[triton.cdiv(batch * length, rows), triton.cdiv(channels, block)](
        grad, sums, z, grad_sums, grad_z, batch * length, length, channels, *_strides(grad), *_strides(z),
        ROWS=rows, BD=block, num_warps=4,
    )  # fmt: skip
    return grad_sums, grad_z


def gradients_of_sum(
    grad: Tensor, directions: Sequence[ScanInputs], *, delta_softplus: bool, reverse: bool
) -> list[list[Tensor | None]]:
    """The gradients of each direction's tensors, given that of the sum before the gate."""
    walked = _prepare(directions, delta_softplus=delta_softplus)
    first, second = walked[0], walked[-1]
    (batch, length, channels), states, num = first.u.shape, first.A.shape[1], len(walked)
    plan = backward_plan(num * batch, length, channels, grad.device)
    ahead = forward_plan(num * batch, length, channels, grad.device)
    walk = Plan(ahead.rows, ahead.channels, plan.chunk, plan.count)  # the chunks of the way back, by the way there
    state = _chunk_states(walked, walk, reverse=reverse)
    adjoint = _chunk_states(walked, walk, reverse=reverse, grad=grad)
    blocks, tiles = triton.cdiv(channels, plan.channels), triton.cdiv(plan.chunk, plan.rows)
    new = first.A.new_empty
    chunk_shape = (num, batch, plan.count, states, channels)
    if state is None or adjoint is None:
        state, adjoint = first.A.new_zeros(2, *chunk_shape)
    tile_states = new(num, batch, plan.count, tiles, states, channels)
    leaving = Plan(plan.rows, 32, plan.chunk, plan.count)
    _launch_states(walked, leaving, (state, state, tile_states), reverse=reverse, leave=True)
    grad_u = [grad.new_empty(grad.shape) for _ in walked]
    grad_delta = grad.new_empty(num, *grad.shape)
    grad_A, grad_B_C = first.A.new_zeros(chunk_shape), new(blocks, num, batch, length, states, 2)
    grad_vectors = first.A.new_zeros(2, num, batch, plan.count, channels)  # of the skip connection and the bias
    scan_backward[blocks, plan.count, num * batch](
        grad, first.u, first.delta, first.B_C, first.A, first.A if first.skip is None else first.skip,
        second.u, second.delta, second.B_C, second.A, second.A if second.skip is None else second.skip,
        adjoint, tile_states, grad_u[0], grad_u[-1], grad_delta, grad_A,
        grad_B_C, *grad_vectors, length, channels, plan.chunk, tiles, batch, *first.strides, *second.strides,
        N=states, T=plan.rows, BD=plan.channels, REVERSE=reverse, SOFTPLUS=delta_softplus,
        HAS_SKIP=first.skip is not None, num_warps=1,
    )  # fmt: skip
    grad_B, grad_C = grad_B_C.sum(0).unbind(-1)  # (directions, B, L, N) each
    grad_A, (grad_skip, grad_bias) = grad_A.sum((1, 2)).transpose(1, 2), grad_vectors.sum((2, 3))
    found = []
    for i, one in enumerate(directions):
        grad_low, grad_weight = _through_projection(grad_delta[i], one)
        found.append([grad_u[i], grad_low, grad_A[i], grad_B[i], grad_C[i], grad_skip[i], grad_bias[i], grad_weight])
    return found


def _through_projection(grad_delta: Tensor, one: ScanInputs) -> tuple[Tensor, Tensor | None]:
    """Gradients of `delta` and of `delta_weight`."""
    if one.delta_weight is None:
        return grad_delta, None
    low = one.delta.to(grad_delta.dtype)
    return grad_delta @ one.delta_weight.to(grad_delta.dtype), grad_delta.flatten(0, 1).t() @ low.flatten(0, 1)
