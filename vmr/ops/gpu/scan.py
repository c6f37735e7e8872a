"""The selective scan in Triton: one or both directions, with gradients, in eager and in compiled code."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vmr.ops.gpu.scan_passes import gradients_of_sum, gradients_through_gate, run_forward
from vmr.ops.gpu.support import check_batch, on_device_of
from vmr.ops.scan_inputs import ScanInputs
from vmr.ops.tensors import needs_grad

STATES_AT_ONCE = 16  # states per channel that a program holds in registers, together with their B and C


def scan_triton(
    directions: Sequence[ScanInputs],
    z: Tensor | None,
    addend: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
    out: Tensor | None = None,
) -> Tensor:
    """Compute `selective_scan` of one direction, or `bidirectional_scan` of two, on checked tensors of one device.

    Args:
        directions: the tensors of one or two scans. Two have the same shapes, and the same tensors are None in both.
        z: (B, L, D) gate, or None.
        addend: (B, L, D), added before the gate, or None.
        delta_softplus: whether delta passes through a softplus.
        reverse: run the first direction from the last step to the first; the second runs the other way.
        out: (B, L, D) tensor to write; only where no gradient is needed.

    Returns:
        (B, L, D) in the dtype of u.

    Raises:
        VmrError: there are too many sequences for one launch.
    """
    check_batch(directions[0].u)
    states = directions[0].A.shape[1]
    if states > STATES_AT_ONCE:
        *others, last = (_some_states(directions, start) for start in range(0, states, STATES_AT_ONCE))
        for group in others:
            addend = scan_triton(group, None, addend, delta_softplus=delta_softplus, reverse=reverse)
        return scan_triton(last, z, addend, delta_softplus=delta_softplus, reverse=reverse, out=out)
    first, second = directions[0], directions[1] if len(directions) > 1 else None
    tensors = (*first, *(second or (None,) * len(ScanInputs._fields)), z, addend)
    result: Tensor
    if torch.compiler.is_compiling():
        result, _ = _scan_op(*tensors, delta_softplus, reverse, needs_grad(*tensors))
        return result
    if needs_grad(*tensors):
        result = _Scan.apply(delta_softplus, reverse, *tensors)
        return result
    writable = out is not None and out.is_contiguous()
    y = out if out is not None and writable else torch.empty_like(first.u, memory_format=torch.contiguous_format)
    run_forward(directions, z, addend, y, None, delta_softplus=delta_softplus, reverse=reverse)
    return y if out is None or writable else out.copy_(y)


def _some_states(directions: Sequence[ScanInputs], start: int) -> list[ScanInputs]:
    """Select the inputs of some states. The scans of all parts add up to the whole; only the first has the skip."""
    states = slice(start, start + STATES_AT_ONCE)
    return [
        one._replace(A=one.A[:, states], B=one.B[..., states], C=one.C[..., states], D=one.D if start == 0 else None)
        for one in directions
    ]


class _Scan(torch.autograd.Function):
    """For eager code, because an operator of `torch.library` takes several times as long to call."""

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


# Torch reads an operator's schema from its signature, so both operators below list all tensors one by one.
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
    """For compiled code: the result, and, if `save` is set and there is a gate, the sum before the gate."""
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
    """The result and the sum before the gate, given the tensors of two directions, the gate and the addend."""
    *directions, z, addend = tensors
    u = directions[0]
    assert u is not None
    y = u.new_empty(u.shape)
    sums = u.new_empty(u.shape if save and z is not None else 0)
    saved = sums if sums.numel() else None
    run_forward(_bundled(directions), z, addend, y, saved, delta_softplus=delta_softplus, reverse=reverse)
    return y, sums


def _gradients(
    grad: Tensor, sums: Tensor, tensors: Sequence[Tensor | None], delta_softplus: bool, reverse: bool
) -> list[Tensor | None]:
    """The gradients in the order of the forward's tensors, None for a tensor that is None."""
    *flat, z, addend = tensors
    with on_device_of(grad):
        grad_sums, grad_z = gradients_through_gate(grad, sums, z)
        found = gradients_of_sum(grad_sums, _bundled(flat), delta_softplus=delta_softplus, reverse=reverse)
    gradients = [g for one in found for g in one]
    gradients += [None] * (len(flat) - len(gradients))
    gradients += [grad_z, None if addend is None else grad_sums]
    return [None if t is None or g is None else g.to(t.dtype) for t, g in zip(tensors, gradients, strict=True)]


def _bundled(tensors: Sequence[Tensor | None]) -> list[ScanInputs]:
    """Bundle the operator's flat arguments into one or two directions."""
    size = len(ScanInputs._fields)
    first, second = tensors[:size], tensors[size:]
    return [ScanInputs(*one) for one in (first, second) if one[0] is not None]  # type: ignore[arg-type]
