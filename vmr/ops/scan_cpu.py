"""The selective scan by the C++ kernel, with gradients.

Inference calls the kernel directly; gradients and `torch.compile` need a torch operator, which costs 20 us more per
call and whose first use imports much of torch's compiler.

Sequences in bfloat16 are scanned in float32 with shorter polynomials, whose errors (csrc/vector.inc) are far below
bfloat16's rounding; gradients are always computed with those of float32.
"""

# ruff: noqa: PLR0913, PLR0917 - an operator's schema names every tensor

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.ops import cpu_kernel
from vmr.ops.cpu_kernel import address, parameter, rows, sequence
from vmr.ops.scan_inputs import ScanInputs
from vmr.ops.tensors import needs_grad, with_contiguous_channels


def selective_scan_cpu(
    inputs: ScanInputs,
    z: Tensor | None,
    addend: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
    out: Tensor | None = None,
) -> Tensor:
    """Compute `selective_scan` on checked CPU tensors.

    Args:
        inputs: the tensors of the scan.
        z: (B, L, D) gate, or None.
        addend: (B, L, D), added before the gate, or None.
        delta_softplus: whether delta passes through a softplus.
        reverse: run from the last step to the first.
        out: (B, L, D) tensor to write; only where no gradient is needed.

    Returns:
        (B, L, D) in the dtype of `inputs.u`.
    """
    if torch.compiler.is_compiling() or needs_grad(*inputs, z, addend):
        return _differentiable(inputs, z, addend, delta_softplus, reverse)
    y = _writable(out, inputs.u)
    args, _tensors = _forward_args(inputs, z, addend, delta_softplus, reverse, y)
    cpu_kernel.call("vmr_scan_forward", args)
    return y if out is None or out is y else out.copy_(y)


def bidirectional_scan_cpu(
    forward: ScanInputs, backward: ScanInputs, z: Tensor | None, *, delta_softplus: bool, out: Tensor | None
) -> Tensor:
    """Compute `bidirectional_scan` on checked CPU tensors, without gradients in one call of the kernel.

    Args:
        forward: the tensors of the scan from the first step to the last.
        backward: the tensors of the scan from the last step to the first, in the dtype of `forward`.
        z: (B, L, D) gate, or None.
        delta_softplus: whether delta passes through a softplus.
        out: (B, L, D) tensor to write; only where no gradient is needed.

    Returns:
        (B, L, D) in the dtype of `forward.u`.
    """
    if torch.compiler.is_compiling() or needs_grad(*forward, *backward, z):
        y = selective_scan_cpu(forward, None, None, delta_softplus=delta_softplus, reverse=False)
        return selective_scan_cpu(backward, z, y, delta_softplus=delta_softplus, reverse=True)
    y = _writable(out, forward.u)
    first, _tensors = _forward_args(forward, None, None, delta_softplus, False, y)
    second, _more_tensors = _forward_args(backward, z, y, delta_softplus, True, y)
    cpu_kernel.call("vmr_scan_pair", cpu_kernel.ScanPairArgs(first, second))
    return y if out is None or out is y else out.copy_(y)


def _writable(out: Tensor | None, u: Tensor) -> Tensor:
    """A tensor that the kernel can write: `out` if its channels are contiguous, else a new one."""
    if out is not None and (out.stride(-1) == 1 or out.shape[-1] == 1):
        return out
    return torch.empty(u.shape, dtype=u.dtype)


def _differentiable(
    inputs: ScanInputs, z: Tensor | None, addend: Tensor | None, delta_softplus: bool, reverse: bool
) -> Tensor:
    """In float32 throughout. The low-rank projection is left to torch, because its gradients are matrix products."""
    u, delta, A, B, C, D, delta_bias, delta_weight = (None if t is None else t.float() for t in inputs)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    if delta_weight is not None:
        delta = F.linear(delta, delta_weight)  # (B, L, R) -> (B, L, D)
    z, addend = (None if t is None else t.float() for t in (z, addend))
    save_states = needs_grad(*inputs, z, addend)
    y, _ = _scan_op(u, delta, A, B, C, D, z, delta_bias, addend, delta_softplus, reverse, save_states)
    result: Tensor = y.to(inputs.u.dtype)
    return result


def _forward_args(
    inputs: ScanInputs,
    z: Tensor | None,
    addend: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    out: Tensor | None,
    checkpoints: Tensor | None = None,
) -> tuple[cpu_kernel.ScanArgs, tuple[Tensor | None, ...]]:
    """The kernel's arguments, and the tensors whose addresses are in them."""
    u, delta, A, B, C, D, delta_bias, delta_weight = inputs
    low_rank = delta_weight is not None
    shared = (B, C, delta) if low_rank else (B, C)
    row_dtype = torch.bfloat16 if all(t.dtype == torch.bfloat16 for t in shared) else torch.float32
    sequences = (
        sequence(u, u.dtype),
        sequence(delta, row_dtype if low_rank else u.dtype),
        sequence(B, row_dtype),
        sequence(C, row_dtype),
        sequence(z, u.dtype),
        sequence(addend, u.dtype),
        out,
    )
    parameters = (*map(parameter, (A, D, delta_bias, delta_weight)), checkpoints)
    args = cpu_kernel.ScanArgs(
        *u.shape,
        A.shape[1],
        delta_weight.shape[1] if delta_weight is not None else 0,
        cpu_kernel.DTYPES.index(u.dtype),
        cpu_kernel.DTYPES.index(row_dtype),
        delta_softplus,
        reverse,
        torch.get_num_threads(),
        cpu_kernel.requested_isa(),
        *map(rows, sequences),
        *map(address, parameters),
    )
    return args, (*sequences, *parameters)


def _new_checkpoints(u: Tensor, A: Tensor, save_states: bool) -> Tensor:
    """(B, chunks, N, padded D): the state at the start of every chunk of rows, for the backward pass."""
    batch, length, channels = u.shape
    if not save_states:
        return u.new_empty(0)
    chunks = (length + cpu_kernel.CHUNK_ROWS - 1) // cpu_kernel.CHUNK_ROWS
    lanes = cpu_kernel.CHECKPOINT_LANES
    return u.new_empty(batch, chunks, A.shape[1], (channels + lanes - 1) // lanes * lanes)


# Torch reads an operator's schema from its signature, so both operators below list all tensors one by one.
@torch.library.custom_op("vmr::selective_scan", mutates_args=(), device_types="cpu")
def _scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    addend: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    save_states: bool,
) -> tuple[Tensor, Tensor]:
    y = torch.empty(u.shape)
    checkpoints = _new_checkpoints(u, A, save_states)
    inputs = ScanInputs(u, delta, A, B, C, D, delta_bias)
    saved = checkpoints if save_states else None
    args, _tensors = _forward_args(inputs, z, addend, delta_softplus, reverse, y, saved)
    cpu_kernel.call("vmr_scan_forward", args)
    return y, checkpoints


@_scan_op.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, addend, delta_softplus, reverse, save_states):  # type: ignore[no-untyped-def]
    return u.new_empty(u.shape), _new_checkpoints(u, A, save_states)


@torch.library.custom_op("vmr::selective_scan_backward", mutates_args=(), device_types="cpu")
def _scan_backward_op(
    grad: Tensor,
    checkpoints: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    addend: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    """The gradients in the order of the forward's tensors; an empty one stands for a tensor that is None."""
    batch, length, channels = u.shape
    states = A.shape[1]
    parts = cpu_kernel.library().vmr_scan_parts(channels, cpu_kernel.requested_isa())
    grad = with_contiguous_channels(grad)
    grad_u, grad_delta = torch.empty(u.shape), torch.empty(u.shape)
    grad_z, grad_addend = (None if t is None else torch.empty(u.shape) for t in (z, addend))
    grad_BC = torch.empty(parts, batch, length, 2 * states)
    grad_A, grad_D, grad_bias = torch.empty(batch, *A.shape), torch.empty(batch, channels), torch.empty(batch, channels)

    args = cpu_kernel.ScanBackwardArgs()
    inputs = ScanInputs(u, delta, A, B, C, D, delta_bias)
    args.scan, _tensors = _forward_args(inputs, z, addend, delta_softplus, reverse, None, checkpoints)
    args.grad_out, args.grad_u, args.grad_delta = rows(grad), rows(grad_u), rows(grad_delta)
    args.grad_z, args.grad_addend = rows(grad_z), rows(grad_addend)
    args.grad_BC, args.grad_A = address(grad_BC), address(grad_A)
    args.grad_D, args.grad_delta_bias = address(grad_D), address(grad_bias)
    cpu_kernel.call("vmr_scan_backward", args)

    grad_B, grad_C = grad_BC[..., :states].sum(0), grad_BC[..., states:].sum(0)
    gradients = (
        *(grad_u, grad_delta, grad_A.sum(0), grad_B, grad_C, grad_D.sum(0)),
        *(grad_z, grad_bias.sum(0), grad_addend),
    )
    wanted = (u, delta, A, B, C, D, z, delta_bias, addend)
    return [torch.empty(0) if t is None or g is None else g for t, g in zip(wanted, gradients, strict=True)]


@_scan_backward_op.register_fake
def _(grad, checkpoints, u, delta, A, B, C, D, z, delta_bias, addend, delta_softplus, reverse):  # type: ignore[no-untyped-def]
    return [u.new_empty(0 if t is None else t.shape) for t in (u, delta, A, B, C, D, z, delta_bias, addend)]


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.delta_softplus, ctx.reverse, _save_states = inputs
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx, grad, _grad_checkpoints):  # type: ignore[no-untyped-def]
    *tensors, checkpoints = ctx.saved_tensors
    gradients = _scan_backward_op(grad, checkpoints, *tensors, ctx.delta_softplus, ctx.reverse)
    known = (None if t is None else g for t, g in zip(tensors, gradients, strict=True))
    return (*known, None, None, None)


_scan_op.register_autograd(_backward, setup_context=_setup_context)
