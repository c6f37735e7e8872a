"""What one direction of the selective scan reads, and the check that it fits together."""

from typing import NamedTuple

from torch import Tensor

from vmr.errors import VmrError


class ScanInputs(NamedTuple):
    """The tensors of one scan, named as in the paper (Gu & Dao 2023, "Mamba", section 3).

    B batch, L sequence length, D channels (`d_inner`), N states per channel (`d_state`), R rank of delta (`dt_rank`).
    """

    u: Tensor  # (B, L, D) the sequence
    delta: Tensor  # (B, L, D) step sizes, or (B, L, R) where delta_weight is given
    A: Tensor  # (D, N) decay rates, negative
    B: Tensor  # (B, L, N) how the input enters the state
    C: Tensor  # (B, L, N) how the state is read
    D: Tensor | None = None  # (D,) skip connection
    delta_bias: Tensor | None = None  # (D,) added to delta in float32, before the softplus
    delta_weight: Tensor | None = None  # (D, R) the projection that makes delta from its low-rank form

    def check(self, z: Tensor | None = None, addend: Tensor | None = None) -> None:
        """Compare every shape, dtype and device with `u` and `A`.

        Raises:
            VmrError: naming the tensor that does not fit, what it is, and what it should be.
        """
        weight = self.delta_weight
        if self.u.dim() != 3 or self.A.dim() != 2 or any(0 in t.shape for t in self if t is not None):
            raise VmrError(
                f"selective_scan needs u (B, L, D) and A (D, N), and nothing empty; "
                f"got u {tuple(self.u.shape)}, A {tuple(self.A.shape)}"
            )
        batch, length, channels = self.u.shape
        states = self.A.shape[1]
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
            if tensor.device != self.u.device:
                raise VmrError(f"selective_scan: {name} is on {tensor.device}, but u is on {self.u.device}")
            if not tensor.is_floating_point():
                raise VmrError(f"selective_scan: {name} is {tensor.dtype}, but must be real floating point")
