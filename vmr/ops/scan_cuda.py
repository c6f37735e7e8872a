"""The selective scan on a GPU by the mamba-ssm package's `selective_scan_fn`, adapted to our layout.

It serves for comparison: mamba-ssm 2.3.2 ran on an H200 and trained to the same loss as `triton`.
"""

import importlib

import torch.nn.functional as F
from torch import Tensor

from vmr.ops.scan_inputs import ScanInputs


def selective_scan_cuda(
    inputs: ScanInputs,
    z: Tensor | None,
    addend: Tensor | None,
    *,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    """Compute `selective_scan` by mamba-ssm.

    Its function takes (B, D, L) sequences, (B, N, L) for B and C, and float32 parameters. It has one direction and no
    addend: for the other direction sequences are flipped, and with an addend the gate is computed outside of it.

    Args:
        inputs: the tensors of the scan.
        z: (B, L, D) gate, or None.
        addend: (B, L, D), added before the gate, or None.
        delta_softplus: whether delta passes through a softplus.
        reverse: run from the last step to the first.

    Returns:
        (B, L, D) in the dtype of `inputs.u`.
    """
    selective_scan_fn = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn

    u, delta, A, B, C, D, delta_bias, delta_weight = inputs
    if delta_weight is not None:
        delta = F.linear(delta, delta_weight.to(delta.dtype))  # (B, L, R) -> (B, L, D)
    gate = z if addend is None else None

    def to_kernel(sequence: Tensor) -> Tensor:  # (B, L, channels) -> (B, channels, L)
        return (sequence.flip(1) if reverse else sequence).transpose(1, 2)

    y: Tensor = selective_scan_fn(
        to_kernel(u),
        to_kernel(delta.to(u.dtype)),
        A.float(),
        to_kernel(B.to(u.dtype)),
        to_kernel(C.to(u.dtype)),
        D=None if D is None else D.float(),
        z=None if gate is None else to_kernel(gate.to(u.dtype)),
        delta_bias=None if delta_bias is None else delta_bias.float(),
        delta_softplus=delta_softplus,
    )
    y = y.transpose(1, 2)  # (B, D, L) -> (B, L, D)
    if reverse:
        y = y.flip(1)
    if addend is not None:
        y = y + addend
        if z is not None:
            y = y * F.silu(z)
    return y.to(u.dtype)
