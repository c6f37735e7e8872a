"""The selective scan of Mamba (Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces").

Shapes: B batch, L sequence length, D channels (`d_inner`), N states per channel (`d_state`), R rank of delta.
Sequences are (B, L, channels) throughout, as linear layers return them; nothing is transposed or flipped.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import VmrError
from vmr.ops.backend import MAX_STATES, Backend, choose_backend
from vmr.ops.scan_inputs import ScanInputs

REFERENCE_BLOCK = 64  # steps whose (D, N) states the reference holds at once


def selective_scan(  # noqa: PLR0913, PLR0917 - the arguments of the published selective_scan_fn, in its order
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    *,
    delta_weight: Tensor | None = None,
    addend: Tensor | None = None,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Run a sequence through a linear recurrence whose coefficients depend on the input.

    With `delta' = softplus(delta + delta_bias)` (both optional), for l = 1 .. L, or L .. 1 where `reverse`:

        h[l] = exp(delta'[l] A) h[l-1] + delta'[l] B[l] u[l]      (Mamba, equation 2a and section 3.2)
        y[l] = (C[l] h[l] + D u[l] + addend[l]) * SiLU(z[l])

    Args:
        u: (B, L, D), the sequence; the result has its dtype. States and sums are float32 (float64 for float64).
        delta: (B, L, D), step sizes; (B, L, R) where `delta_weight` is given.
        A: (D, N), decay rates; negative, or the states diverge.
        B: (B, L, N), the input's weights.
        C: (B, L, N), the output's weights.
        D: (D,), skip connection.
        z: (B, L, D), gate.
        delta_bias: (D,), added to delta.
        delta_softplus: whether delta passes through a softplus.
        reverse: run from the last step to the first, without flipping anything.
        delta_weight: (D, R); delta is first projected as `delta @ delta_weight.T`.
        addend: (B, L, D), added before the gate, such as the other direction's result.
        out: (B, L, D), written and returned; it may be `addend` itself. For inference only.
        backend: `auto`, `reference`, `cpu`, `triton` or `cuda`; see `vmr.ops.backend`.

    Returns:
        (B, L, D) in the dtype of `u`.

    Raises:
        VmrError: shapes, dtypes or devices disagree, the backend is absent, or `out` is given where gradients are
            needed or in compiled code.
    """
    return _scan(
        ScanInputs(u, delta, A, B, C, D, delta_bias, delta_weight),
        z, addend, reverse=reverse, delta_softplus=delta_softplus, out=out, backend=backend,
    )  # fmt: skip


def bidirectional_scan(
    forward: ScanInputs,
    backward: ScanInputs,
    z: Tensor | None = None,
    *,
    delta_softplus: bool = True,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Add a scan from the left and one from the right, and gate the sum: VideoMamba's mixer without its projections.

    `(scan(forward) + scan(backward, reverse=True)) * SiLU(z)`; both read the sequence in its own order, unflipped
    (Li et al. 2024, "VideoMamba", section 3.2). Without gradients only one (B, L, D) tensor is allocated.

    Args:
        forward: the tensors of the scan from the first step to the last.
        backward: the tensors of the scan from the last step to the first.
        z: (B, L, D), gate of both directions.
        delta_softplus: whether delta passes through a softplus.
        out: (B, L, D), written and returned. For inference only.
        backend: as for `selective_scan`.

    Returns:
        (B, L, D) in the dtype of `forward.u`.

    Raises:
        VmrError: as for `selective_scan`.
    """
    forward.check(z)
    backward.check(z, forward.u)
    if out is not None:
        _check_out(out, (*forward, *backward, z))
    choice = choose_backend(backend, forward.u, kernel_fits=forward.A.shape[1] <= MAX_STATES)
    if choice == "triton" and _layout(forward) == _layout(backward):
        from vmr.ops.gpu.scan import scan_triton

        return scan_triton([forward, backward], z, None, delta_softplus=delta_softplus, reverse=False, out=out)
    if choice == "cpu" and forward.u.dtype == backward.u.dtype:
        from vmr.ops.scan_cpu import bidirectional_scan_cpu

        return bidirectional_scan_cpu(forward, backward, z, delta_softplus=delta_softplus, out=out)
    y = _scan(forward, delta_softplus=delta_softplus, out=out, backend=backend)
    reuse = None if torch.is_grad_enabled() or torch.compiler.is_compiling() else y
    return _scan(
        backward, z, y, reverse=True, delta_softplus=delta_softplus, out=reuse if out is None else out,
        backend=backend,
    )  # fmt: skip


def _layout(inputs: ScanInputs) -> list[object]:
    """The properties that two directions must share to be computed by one launch."""
    return [inputs.u.dtype, *(None if tensor is None else tensor.shape for tensor in inputs)]


def _scan(
    inputs: ScanInputs,
    z: Tensor | None = None,
    addend: Tensor | None = None,
    *,
    reverse: bool = False,
    delta_softplus: bool,
    out: Tensor | None,
    backend: Backend,
) -> Tensor:
    """`selective_scan` of bundled inputs: check them, choose the backend, run it."""
    inputs.check(z, addend)
    if out is not None:
        _check_out(out, (*inputs, z, addend))
    choice = choose_backend(backend, inputs.u, kernel_fits=inputs.A.shape[1] <= MAX_STATES)
    if choice == "cpu":
        from vmr.ops.scan_cpu import selective_scan_cpu

        return selective_scan_cpu(inputs, z, addend, delta_softplus=delta_softplus, reverse=reverse, out=out)
    if choice == "triton":
        from vmr.ops.gpu.scan import scan_triton

        return scan_triton([inputs], z, addend, delta_softplus=delta_softplus, reverse=reverse, out=out)
    if choice == "cuda":
        from vmr.ops.scan_cuda import selective_scan_cuda

        y = selective_scan_cuda(inputs, z, addend, delta_softplus=delta_softplus, reverse=reverse)
    else:
        y = selective_scan_reference(inputs, z, addend, delta_softplus=delta_softplus, reverse=reverse)
    return y if out is None else out.copy_(y)


def selective_scan_reference(
    inputs: ScanInputs,
    z: Tensor | None = None,
    addend: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> Tensor:
    """The definition that every other backend is tested against; differentiable, in at least float32.

    Args:
        inputs: the tensors of the scan.
        z: (B, L, D), gate, or None.
        addend: (B, L, D), added before the gate, or None.
        delta_softplus: whether delta passes through a softplus.
        reverse: run from the last step to the first.

    Returns:
        (B, L, D) in the dtype of `inputs.u`.
    """
    dtype = torch.promote_types(inputs.u.dtype, torch.float32)
    u, delta, A, B, C, D, delta_bias, delta_weight = (None if t is None else t.to(dtype) for t in inputs)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    if delta_weight is not None:
        delta = F.linear(delta, delta_weight)  # (B, L, R) -> (B, L, D)
    if delta_bias is not None:
        delta = delta + delta_bias
    if delta_softplus:
        delta = F.softplus(delta)
    if reverse:
        y = _recurrence(u.flip(1), delta.flip(1), A, B.flip(1), C.flip(1)).flip(1)
    else:
        y = _recurrence(u, delta, A, B, C)
    if D is not None:
        y = y + D * u
    if addend is not None:
        y = y + addend
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(inputs.u.dtype)


def _recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """C[l] h[l] for every step. For speed, exponentials and outputs are computed for a block of steps at a time."""
    batch, length, channels = u.shape
    state = u.new_zeros(batch, channels, A.shape[1])  # (B, D, N)
    outputs = []
    for start in range(0, length, REFERENCE_BLOCK):
        steps = slice(start, start + REFERENCE_BLOCK)
        decay = torch.exp(delta[:, steps, :, None] * A)  # (B, S, D, N)
        drive = (delta * u)[:, steps, :, None] * B[:, steps, None, :]  # (B, S, D, N)
        states = []
        for decay_l, drive_l in zip(decay.unbind(1), drive.unbind(1), strict=True):
            state = torch.addcmul(drive_l, decay_l, state)
            states.append(state)
        outputs.append(torch.einsum("bsdn,bsn->bsd", torch.stack(states, dim=1), C[:, steps]))
    return torch.cat(outputs, dim=1)


def _check_out(out: Tensor, inputs: tuple[Tensor | None, ...]) -> None:
    u = inputs[0]
    assert u is not None
    if torch.compiler.is_compiling():
        raise VmrError("selective_scan: out= cannot be used in compiled code, which plans its own memory")
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        raise VmrError("selective_scan: out= is for inference; use torch.no_grad() or leave it out")
    if out.shape != u.shape or out.dtype != u.dtype or out.device != u.device:
        raise VmrError(
            f"selective_scan: out is {tuple(out.shape)} {out.dtype} on {out.device}, "
            f"but u asks for {tuple(u.shape)} {u.dtype} on {u.device}"
        )
