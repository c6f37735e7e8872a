"""Where the layers of a forward pass put their results, and how they multiply by their weights.

On a CPU a tensor of more than a few MB is fresh memory from the operating system, and faulting in its pages costs a
matrix product half as much again (at 64 frames, `torch.mm(..., out=reused)` runs 1.5 times as fast as `F.linear`). The
layers of an encoder all have the same shapes, so without gradients they can share buffers whose pages are touched once;
on a GPU they share them so that the peak of memory is one layer's.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import ModelError

PACKED_OUTPUT_BYTES = 32 << 20
"""A packed product makes its own result. Larger ones would be fresh memory every time; a kept buffer is faster."""


class PackedWeights:
    """Weights laid out once for the CPU's matrix kernels (oneDNN), which otherwise do so at every product.

    They are a second copy, made for inference. A weight that was changed since is an error, not a wrong result.
    """

    def __init__(self, weights: Iterable[Tensor] = (), num_rows: int = 1) -> None:
        """weights: each (O, I). num_rows: how many rows they are likely to be multiplied with; others are possible."""
        self._entries: dict[int, tuple[Tensor, tuple[object, ...], Tensor]] = {}
        self._decay_rates: dict[int, tuple[Tensor, tuple[object, ...], Tensor]] = {}
        for weight in weights:
            if _packable(weight):
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), num_rows)
                self._entries[id(weight)] = weight, _state(weight), packed

    def find(self, weight: Tensor) -> Tensor | None:
        """The packed form of `weight`, None if it has none. Raises ModelError if `weight` has changed since."""
        entry = self._entries.get(id(weight))
        if entry is None:
            return None
        _, state, packed = entry
        if _state(weight) != state:
            raise ModelError("the weights have changed since they were packed: call pack_products() again")
        return packed

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """-exp(A_log) in float32, made anew when the parameter has changed."""
        if A_log.is_inference():  # made in inference mode: changes are not counted
            return decay_rates(A_log)
        entry = self._decay_rates.get(id(A_log))
        if entry is None or entry[1] != _state(A_log):
            entry = self._decay_rates[id(A_log)] = A_log, _state(A_log), decay_rates(A_log.detach())
        return entry[2]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedWeights":
        """Nothing: a copy of the model has weights of its own."""
        return PackedWeights()


def _packable(weight: Tensor) -> bool:
    """Whether oneDNN multiplies by such a weight on this processor; bfloat16 takes instructions that not all have."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    has_bfloat16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bool(has_bfloat16)


def _state(weight: Tensor) -> tuple[object, ...]:
    """What differs after a change in place, a cast, or a move."""
    return weight._version, weight.data_ptr(), weight.dtype


def decay_rates(A_log: Tensor) -> Tensor:
    """The scan's A, float32 and negative, from the parameter that upstream's files hold."""
    return -torch.exp(A_log.float())


class Workspace:
    """Owns nothing: every operation makes its own result, as autograd and compilers need it."""

    reuses_buffers = False

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
        """A buffer for the result called `name` in the shape of `tensor`, or None to have one made."""
        return None

    def pair(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Two buffers in the shape of `tensor`, or None."""
        return None

    def linear(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """x (..., I) times weight (O, I) transposed -> (..., O)."""
        return F.linear(x, weight)

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """A (D, N), float32, of the scan."""
        return decay_rates(A_log)


class ReusedWorkspace(Workspace):
    """Named buffers that every layer overwrites. For one forward pass without gradients, in one thread."""

    reuses_buffers = True

    def __init__(self, packed: PackedWeights, device: torch.device) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._packed = packed
        self._device = device

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The buffer `name` in the shape of `tensor`, contiguous, with anything in it."""
        return self._get(name, tensor.shape, dtype or tensor.dtype)

    def pair(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The two buffers `name` in the shape of `tensor`."""
        return self.like(f"{name}.0", tensor), self.like(f"{name}.1", tensor)

    def linear(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """The product in the dtype of `x`, in the buffer `name` unless a packed weight makes its own result."""
        shape = torch.Size((*x.shape[:-1], weight.shape[0]))
        packed = self._packed.find(weight)
        if packed is not None and weight.dtype == x.dtype and shape.numel() * x.itemsize <= PACKED_OUTPUT_BYTES:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            return product
        out = self._get(name, shape, x.dtype)
        torch.mm(x.flatten(0, -2), weight.to(x.dtype).t(), out=out.flatten(0, -2))
        return out

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """A (D, N), float32, of the scan, remembered from pass to pass."""
        return self._packed.decay_rates(A_log)

    def _get(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            buffer = self._buffers[name] = torch.empty(shape, dtype=dtype, device=self._device)
        return buffer


def workspace_for(tensor: Tensor, packed: PackedWeights) -> Workspace:
    """Buffers and packed weights where they help: without gradients, and not while a compiler is at work."""
    helps = tensor.device.type in ("cpu", "cuda") and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return ReusedWorkspace(packed, tensor.device) if helps else Workspace()
