"""The launches of a scan's passes: the forward pass, and the gradients given the gradient before the gate.

Tensors are (B, L, channels) with contiguous channels; they may be columns of wider tensors. Before the scan, the inputs
of its kernels are computed: step sizes after the softplus, in float16 for sequences of half precision (the relative
error of 2^-11 is an eighth of bfloat16's; below 6e-5 it grows, and below 3e-8 the result is 0), and B and C in float32,
in pairs. States and sums within a pass are float32; sequences that one pass writes and the next pass reads have the
dtype of the inputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

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
from vmr.ops.tensors import with_contiguous_channels

CARRY_CHANNELS, CARRY_GROUP = 32, 16
SPLIT_BELOW = 8  # programs on each multiprocessor; with fewer, the two directions run side by side
MAX_RANK = 128  # of delta, for the kernel that computes step sizes: a program holds all of it


class KernelInputs(NamedTuple):
    """The inputs of one direction as the kernels read them.

    Attributes:
        u: (B, L, D), the sequence.
        delta: (B, L, D), step sizes; contiguous, float16 or float32.
        B_C: (B, L, N), B and C as two float32 in an int64.
        A: (D, N), float32.
        skip: (D,), contiguous, or None.
    """

    u: Tensor
    delta: Tensor
    B_C: Tensor
    A: Tensor
    skip: Tensor | None

    @property
    def strides(self) -> tuple[int, int]:
        """The strides of u from row to row and from batch item to batch item."""
        return self.u.stride(1), self.u.stride(0)


def run_forward(
    directions: Sequence[ScanInputs],
    z: Tensor | None,
    addend: Tensor | None,
    y: Tensor,
    sums: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
) -> None:
    """Compute the outputs of one or two directions.

    Args:
        directions: the tensors of one or two scans; the second runs the other way.
        z: (B, L, D) gate, or None.
        addend: (B, L, D), added before the gate, or None.
        y: (B, L, D), contiguous; written.
        sums: (B, L, D), contiguous; the sum before the gate is written to it, if it is given.
        delta_softplus: whether delta passes through a softplus.
        reverse: run the first direction from the last step to the first.
    """
    (batch, length, channels), states = directions[0].u.shape, directions[0].A.shape[1]
    plan = forward_plan(batch, length, channels, y.device)
    z, addend = (None if t is None else with_contiguous_channels(t) for t in (z, addend))
    with on_device_of(y):
        inputs = _prepare(directions, delta_softplus=delta_softplus)
        first, second = inputs[0], inputs[-1]
        state = _chunk_states(inputs, plan, reverse=reverse)
        scan_outputs[triton.cdiv(channels, plan.channels), plan.count, batch](
            first.u, first.delta, first.B_C, first.A, first.A if first.skip is None else first.skip,
            second.u, second.delta, second.B_C, second.A, second.A if second.skip is None else second.skip,
            first.A if state is None else state, y if addend is None else addend, y if z is None else z, y,
            y if sums is None else sums, length, channels, plan.chunk, *first.strides, *second.strides,
            *_strides(addend), *_strides(z),
            N=states, T=plan.rows, BD=plan.channels, REVERSE=reverse, BOTH=len(inputs) > 1, FROM_ZERO=state is None,
            HAS_SKIP=first.skip is not None, HAS_ADDEND=addend is not None, HAS_Z=z is not None, SAVE=sums is not None,
            num_warps=1,
        )  # fmt: skip


def _prepare(directions: Sequence[ScanInputs], *, delta_softplus: bool) -> list[KernelInputs]:
    """Compute the kernels' inputs: in the usual case, softplus of a low-rank projection, by one kernel for all."""
    u = directions[0].u
    (batch, length, channels), states = u.shape, directions[0].A.shape[1]
    half = u.dtype != torch.float32 and delta_softplus  # without a softplus it may be of any size
    delta = u.new_empty(len(directions), batch, length, channels, dtype=torch.float16 if half else torch.float32)
    B_C = u.new_empty(len(directions), batch, length, states, 2, dtype=torch.float32)
    if delta_softplus and all(one.delta_weight is not None and one.delta.shape[-1] <= MAX_RANK for one in directions):
        _launch_step_sizes(directions, delta, B_C)
    else:
        for one, to_delta, to_B_C in zip(directions, delta, B_C, strict=True):
            to_delta.copy_(_plain_step_sizes(one, delta_softplus).clamp(max=torch.finfo(delta.dtype).max))
            torch.stack((one.B.float(), one.C.float()), dim=-1, out=to_B_C)
    pairs = B_C.view(torch.int64).squeeze(-1)
    skips = [None if one.D is None else one.D.contiguous() for one in directions]
    return [
        KernelInputs(with_contiguous_channels(one.u), delta[i], pairs[i], parameter(one.A), skips[i])
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
    # Each program reads the whole weight: a few large programs are best if they fill the GPU.
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
        with torch.autocast(delta.device.type, enabled=False):
            delta = F.linear(delta, one.delta_weight.float())  # (B, L, R) -> (B, L, D)
    if one.delta_bias is not None:
        delta = delta + one.delta_bias.float()
    return F.softplus(delta) if delta_softplus else delta


def _chunk_states(
    inputs: Sequence[KernelInputs], plan: Plan, *, reverse: bool, grad: Tensor | None = None
) -> Tensor | None:  # fmt: skip
    """(directions, B, chunks, N, D): the states, or adjoint states, that chunks start from; None for one chunk."""
    if plan.count == 1:
        return None
    first, second = inputs[0], inputs[-1]
    (batch, _, channels), states = first.u.shape, first.A.shape[1]
    state = first.A.new_empty(len(inputs), batch, plan.count, states, channels)
    total = first.A.new_empty(len(inputs), batch, plan.count, channels)
    _launch_states(inputs, plan, (state, total, state), reverse=reverse, grad=grad)
    carry_states[triton.cdiv(channels, CARRY_CHANNELS), states, len(inputs) * batch](
        state, total, first.A, second.A, channels, plan.count, batch, N=states, BD=CARRY_CHANNELS, GROUP=CARRY_GROUP,
        REVERSE=reverse, ADJOINT=grad is not None, num_warps=1,
    )  # fmt: skip
    return state


def _launch_states(
    inputs: Sequence[KernelInputs],
    plan: Plan,
    targets: tuple[Tensor, Tensor, Tensor],
    *,
    reverse: bool,
    grad: Tensor | None = None,
    save_tiles: bool = False,
) -> None:
    """Launch `scan_states`: `targets` are its state, total and tile_states. With `save_tiles` it reads the first."""
    first, second = inputs[0], inputs[-1]
    (batch, length, channels), both = first.u.shape, len(inputs) > 1
    blocks = triton.cdiv(channels, plan.channels)
    split = both and blocks * plan.count * batch < SPLIT_BELOW * multiprocessors(first.u.device)
    sources = [(one.u, *one.strides) if grad is None else (grad, *_strides(grad)) for one in (first, second)]
    scan_states[blocks, plan.count, (1 + split) * batch](
        sources[0][0], first.delta, first.B_C, first.A, sources[1][0], second.delta, second.B_C, second.A, *targets,
        length, channels, plan.chunk, batch, *sources[0][1:], *sources[1][1:],
        N=first.A.shape[1], T=plan.rows, BD=plan.channels, REVERSE=reverse, BOTH=both, SPLIT=split,
        ADJOINT=grad is not None, SAVE_TILES=save_tiles, num_warps=1,
    )  # fmt: skip


def _strides(tensor: Tensor | None) -> tuple[int, int]:
    """The strides from row to row and from batch item to batch item."""
    return (0, 0) if tensor is None else (tensor.stride(1), tensor.stride(0))


def gradients_through_gate(grad: Tensor, sums: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Compute the gradients of what goes into the gate.

    Args:
        grad: (B, L, D), the gradient of the output.
        sums: (B, L, D), contiguous, the sum before the gate; not read without a gate.
        z: (B, L, D) gate, or None.

    Returns:
        The gradient of the sum before the gate, contiguous, and the gradient of z or None.
    """
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
    """Compute the gradients of each direction's tensors.

    Args:
        grad: (B, L, D), contiguous, the gradient of the sum before the gate.
        directions: the tensors of one or two scans.
        delta_softplus: whether delta passes through a softplus.
        reverse: whether the first direction runs from the last step to the first.

    Returns:
        For each direction, the gradients in the order of `ScanInputs`.
    """
    inputs = _prepare(directions, delta_softplus=delta_softplus)
    first, second = inputs[0], inputs[-1]
    (batch, length, channels), states, num = first.u.shape, first.A.shape[1], len(inputs)
    plan = backward_plan(num * batch, length, channels, grad.device)
    ahead = forward_plan(num * batch, length, channels, grad.device)
    walk = Plan(ahead.rows, ahead.channels, plan.chunk, plan.count)  # backward chunks with the forward tiles
    state = _chunk_states(inputs, walk, reverse=reverse)
    adjoint = _chunk_states(inputs, walk, reverse=reverse, grad=grad)
    blocks, tiles = triton.cdiv(channels, plan.channels), triton.cdiv(plan.chunk, plan.rows)
    new = first.A.new_empty
    chunk_shape = (num, batch, plan.count, states, channels)
    if state is None or adjoint is None:
        state, adjoint = first.A.new_zeros(2, *chunk_shape)
    tile_states = new(num, batch, plan.count, tiles, states, channels)
    tile_plan = Plan(plan.rows, 32, plan.chunk, plan.count)
    _launch_states(inputs, tile_plan, (state, state, tile_states), reverse=reverse, save_tiles=True)
    grad_u = [grad.new_empty(grad.shape) for _ in inputs]
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
    """The gradients of `delta` and of `delta_weight`."""
    if one.delta_weight is None:
        return grad_delta, None
    low, weight = one.delta.to(grad_delta.dtype), one.delta_weight.to(grad_delta.dtype)
    with torch.autocast(low.device.type, enabled=False):
        return grad_delta @ weight, grad_delta.flatten(0, 1).t() @ low.flatten(0, 1)
