"""The tensors that one direction of the selective scan reads, and the check that they fit each other."""

from typing import NamedTuple

from torch import Tensor

from vmr.errors import VmrError


class ScanInputs(NamedTuple):
    """The tensors of one scan, named as in the paper (Gu & Dao 2023, "Mamba", section 3).

    B batch, L sequence length, D channels (`d_inner`), N states per channel (`d_state`), R rank of delta (`dt_rank`).

    Attributes:
        u: (B, L, D), the sequence.
        delta: (B, L, D), step sizes; (B, L, R) where `delta_weight` is given.
        A: (D, N), decay rates, negative.
        B: (B, L, N), the weights by which the input enters the state.
        C: (B, L, N), the weights by which the state is read.
        D: (D,), skip connection, or None.
        delta_bias: (D,), added to delta in float32 before the softplus, or None.
        delta_weight: (D, R), the projection from low-rank delta to step sizes, or None.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    delta_bias: Tensor | None = None
    delta_weight: Tensor | None = None

    def check(self, z: Tensor | None = None, addend: Tensor | None = None) -> None:
        """Compare every shape, dtype and device with those of `u` and `A`.

        Args:
            z: (B, L, D) gate, or None.
            addend: (B, L, D), added before the gate, or None.

        Raises:
            VmrError: a tensor does not fit; the message names it, what it is, and what it should be.
        """
        weight = self.delta_weight
        if self.u.dim() != 3 or self.A.dim() != 2 or any(0 in t.shape for t in self if t is not None):
            raise VmrError(
                f"selective_scan needs u (B, L, D) and A (D, N), and nothing empty; "
                f"got u {tuple(self.u.shape)}, A {tuple(self.A.shape)}"
            )
        batch, length, channels = self.u.shape
        states, device = self.A.shape[1], self.u.device
        rank = channels if weight is None else weight.shape[-1]
        expected = {
            "u": (self.u, (batch, length, channels)),
            "delta": (self.delta, (batch, length, rank)),
            "A": (self.A, (channels, states)),
            "B": (self.B, (batch, length, states)),
            "C": (self.C, (batch, length, states)),
            "D": (self.D, (channels,)),
            "delta_bias": (self.delta_bias, (channels,)),
            "delta_weight": (weight, (channels, rank)),
            "z": (z, (batch, length, channels)),
            "addend": (addend, (batch, length, channels)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor is None:
                continue
            if tensor.shape != shape:
                raise VmrError(f"selective_scan: {name} is {tuple(tensor.shape)}, but u and A ask for {shape}")
            if tensor.device != device:
                raise VmrError(f"selective_scan: {name} is on {tensor.device}, but u is on {device}")
            if not tensor.is_floating_point():
                raise VmrError(f"selective_scan: {name} is {tensor.dtype}, but must be real floating point")
