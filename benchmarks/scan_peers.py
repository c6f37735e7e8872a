"""The selective scan of other implementations, each from its formula or by its package's own function.

Every peer takes the same inputs and computes all of the scan: softplus with bias, recurrence, skip connection and gate.
Each gets its inputs in the layout that it prefers, so that no peer spends time on a transpose.
"""

import functools
import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.ops import selective_scan


class Inputs(NamedTuple):
    """The inputs of a scan, in float32.

    Attributes:
        u: (B, L, D), the sequence.
        delta: (B, L, D), step sizes before bias and softplus.
        A: (D, N), decay rates.
        B: (B, L, N), input weights.
        C: (B, L, N), output weights.
        D: (D,), skip connection.
        z: (B, L, D), gate.
        delta_bias: (D,), added to delta.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: Tensor
    delta_bias: Tensor


Scan = Callable[[Inputs], Tensor]
CHANNELS_FIRST = ("u", "delta", "B", "C", "z")


def random_inputs(batch: int, length: int, channels: int, states: int, *, requires_grad: bool) -> Inputs:
    """Make inputs with the step sizes and decay rates of a freshly initialised model.

    Args:
        batch: B.
        length: L.
        channels: D.
        states: N.
        requires_grad: whether all inputs require gradients.

    Returns:
        The inputs, drawn from torch's global generator.
    """
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    sequence, shared = (batch, length, channels), (batch, length, states)
    inputs = Inputs(
        torch.randn(sequence), torch.randn(sequence) * 0.5, A, torch.randn(shared), torch.randn(shared),
        torch.ones(channels), torch.randn(sequence), torch.full((channels,), -4.0),
    )  # fmt: skip
    return Inputs(*(t.requires_grad_(requires_grad) for t in inputs))


def channels_first(inputs: Inputs) -> Inputs:
    """Transpose the sequences to (B, D, L) and (B, N, L), as the published interface takes them.

    Args:
        inputs: inputs in our layout.

    Returns:
        Copies that require gradients where the inputs do.
    """
    moved = {name: getattr(inputs, name).detach().transpose(1, 2).contiguous() for name in CHANNELS_FIRST}
    moved = {name: t.requires_grad_(getattr(inputs, name).requires_grad) for name, t in moved.items()}
    return inputs._replace(**moved)


def vmr_fresh(x: Inputs) -> Tensor:
    """Scan by vmr, with the backend that `auto` chooses, into a new tensor.

    Args:
        x: the inputs.

    Returns:
        (B, L, D).
    """
    return selective_scan(x.u, x.delta, x.A, x.B, x.C, x.D, x.z, x.delta_bias, delta_softplus=True)


def vmr_workspace(x: Inputs) -> Tensor:
    """Scan by vmr into a tensor that is kept, as the encoder does.

    Memory from the system costs more time than the scan.

    Args:
        x: the inputs.

    Returns:
        (B, L, D).
    """
    out = _workspace(x.u.shape)
    return selective_scan(x.u, x.delta, x.A, x.B, x.C, x.D, x.z, x.delta_bias, delta_softplus=True, out=out)


@functools.cache
def _workspace(shape: torch.Size) -> Tensor:
    return torch.empty(shape)


def textbook_loop(x: Inputs) -> Tensor:
    """Scan as the published reference function does: all decays first, then step by step.

    Args:
        x: the inputs, channels first.

    Returns:
        (B, D, L).
    """
    delta = F.softplus(x.delta + x.delta_bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, x.A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, x.B, x.u)
    state = decay.new_zeros(decay.shape[0], decay.shape[1], decay.shape[3])
    outputs = []
    for step in range(decay.shape[2]):
        state = decay[:, :, step] * state + drive[:, :, step]
        outputs.append(torch.einsum("bdn,bn->bd", state, x.C[:, :, step]))
    return (torch.stack(outputs, dim=2) + x.u * x.D[:, None]) * F.silu(x.z)


def block_loop(x: Inputs, block: int = 64) -> Tensor:
    """Scan by the fastest plain loop without gradients: a block's states overwrite its drive, one product reads them.

    Args:
        x: the inputs.
        block: steps of a block.

    Returns:
        (B, L, D).
    """
    delta = F.softplus(x.delta + x.delta_bias)
    delta_u = delta * x.u
    y = torch.empty_like(x.u)
    state = x.u.new_zeros(x.u.shape[0], x.u.shape[2], x.A.shape[1])
    for start in range(0, x.u.shape[1], block):
        steps = slice(start, start + block)
        decay = torch.mul(delta[:, steps, :, None], x.A).exp_()  # (B, S, D, N)
        states = delta_u[:, steps, :, None] * x.B[:, steps, None]
        for step in range(states.shape[1]):
            state = states[:, step].addcmul_(decay[:, step], state)
        torch.matmul(states, x.C[:, steps, :, None], out=y[:, steps, :, None])
    return y.addcmul_(x.u, x.D).mul_(F.silu(x.z))


def chunked(x: Inputs) -> Tensor:
    """Scan by vmr's definition: differentiable plain PyTorch in chunks of 64 steps, the fastest of several tried.

    Args:
        x: the inputs.

    Returns:
        (B, L, D).
    """
    u, delta, A, B, C, D, z, delta_bias = x
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True, backend="reference")


def mambapy(x: Inputs) -> Tensor:
    """Scan by mamba.py's parallel scan, in the way its MambaBlock uses it.

    Args:
        x: the inputs.

    Returns:
        (B, L, D).
    """
    pscan = importlib.import_module("mambapy.pscan").pscan

    delta = F.softplus(x.delta + x.delta_bias)
    states = pscan(torch.exp(delta.unsqueeze(-1) * x.A), delta.unsqueeze(-1) * x.B.unsqueeze(2) * x.u.unsqueeze(-1))
    y: Tensor = (states @ x.C.unsqueeze(-1)).squeeze(3)
    return (y + x.D * x.u) * F.silu(x.z)


def transformers_slow(x: Inputs) -> Tensor:
    """Scan by transformers' own loop, which its Mamba models run if no kernel package is installed.

    Args:
        x: the inputs, channels first.

    Returns:
        (B, D, L).
    """
    mamba = importlib.import_module("transformers.models.mamba.modeling_mamba")
    y: Tensor = mamba.mamba_selective_scan(x.u, x.delta, x.A, x.B, x.C, x.D, x.z, x.delta_bias, delta_softplus=True)
    return y


PEERS: dict[str, Scan] = {
    "vmr": vmr_fresh,
    "vmr, output kept": vmr_workspace,
    "published reference loop": textbook_loop,
    "plain PyTorch, blocks in place": block_loop,
    "plain PyTorch, chunked": chunked,
    "mamba.py parallel scan": mambapy,
    "transformers slow path": transformers_slow,
}
TAKE_CHANNELS_FIRST = (textbook_loop, transformers_slow)
