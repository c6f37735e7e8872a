"""The selective scan on a GPU: the mamba-ssm package's `selective_scan_fn`, adapted to our layout.

Here for comparison: with the kernels of mamba-ssm 2.3.2 it ran on an H200, and trained to the same loss as `triton`.
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
    """`selective_scan` by mamba-ssm, which wants (B, D, L) sequences, (B, N, L) for B and C, and float32 parameters.

    It knows one direction and no addend: sequences are flipped for the other, and the gate moves out of the kernel
    where something has to be added before it.
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
