"""Buffers for the results of layers in a forward pass, and products with weights.

On a CPU, a new tensor of more than a few MB is new memory from the operating system, and the page faults at its first
use add half of the time of a matrix product (at 64 frames, `torch.mm(..., out=reused)` runs 1.5 times as fast as
`F.linear`). All layers of an encoder have the same shapes. Without gradients they can therefore share buffers; on a GPU
sharing them limits the peak of memory to that of one layer.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import ModelError

PACKED_OUTPUT_BYTES = 32 << 20
"""A product with packed weights allocates its result. For results larger than this, a reused buffer is faster."""


class PackedWeights:
    """Copies of weights in the layout of the CPU's matrix kernels (oneDNN), which else convert them at every product.

    They are made for inference. Using one after its weight has changed is an error, not a wrong result.
    """

    def __init__(self, weights: Iterable[Tensor] = (), num_rows: int = 1) -> None:
        """Pack weights.

        Args:
            weights: each (O, I); those that oneDNN cannot pack on this processor are skipped.
            num_rows: how many rows they will probably be multiplied with; other numbers work as well.
        """
        self._entries: dict[int, tuple[Tensor, tuple[object, ...], Tensor]] = {}
        self._decay_rates: dict[int, tuple[Tensor, tuple[object, ...], Tensor]] = {}
        for weight in weights:
            if _packable(weight):
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), num_rows)
                self._entries[id(weight)] = weight, _state(weight), packed

    def find(self, weight: Tensor) -> Tensor | None:
        """Find the packed copy of a weight.

        Args:
            weight: the weight.

        Returns:
            Its packed copy; None if it has none.

        Raises:
            ModelError: the weight has changed since it was packed.
        """
        entry = self._entries.get(id(weight))
        if entry is None:
            return None
        _, state, packed = entry
        if _state(weight) != state:
            raise ModelError("the weights have changed since they were packed: call pack_products() again")
        return packed

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """Compute -exp(A_log) in float32, or take it from an earlier call if the parameter has not changed.

        Args:
            A_log: (D, N).

        Returns:
            float32 (D, N).
        """
        if A_log.is_inference():  # torch does not count changes of tensors that were made in inference mode
            return decay_rates(A_log)
        entry = self._decay_rates.get(id(A_log))
        if entry is None or entry[1] != _state(A_log):
            entry = self._decay_rates[id(A_log)] = A_log, _state(A_log), decay_rates(A_log.detach())
        return entry[2]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedWeights":
        """Return an empty object: a copy of the model has other weights."""
        return PackedWeights()


def _packable(weight: Tensor) -> bool:
    """Whether oneDNN can multiply by such a weight here; bfloat16 needs instructions that not all processors have."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    has_bfloat16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bool(has_bfloat16)


def _state(weight: Tensor) -> tuple[object, ...]:
    """A value that differs after the weight was changed in place, cast or moved."""
    return weight._version, weight.data_ptr(), weight.dtype


def decay_rates(A_log: Tensor) -> Tensor:
    """Compute A of the scan from the parameter A_log, as stored in upstream's files.

    Args:
        A_log: (D, N).

    Returns:
        float32 (D, N), negative.
    """
    return -torch.exp(A_log.float())


class Workspace:
    """Without buffers: every operation allocates its result, as autograd and compilers need it.

    Attributes:
        reuses_buffers: whether results are put into buffers that later operations overwrite.
    """

    reuses_buffers = False

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
        """Give a buffer for a result.

        Args:
            name: of the result.
            tensor: has the shape of the result.
            dtype: of the result; default, that of `tensor`.

        Returns:
            The buffer; None if the operation is to allocate its result.
        """
        return None

    def pair(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Give two buffers for a pair of results.

        Args:
            name: of the results.
            tensor: has the shape and dtype of each.

        Returns:
            The buffers; None if the operation is to allocate its results.
        """
        return None

    def linear(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply by a weight.

        Args:
            name: of the result.
            x: (..., I).
            weight: (O, I).

        Returns:
            (..., O).
        """
        return F.linear(x, weight)

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """Compute A of the scan; see the function `decay_rates`."""
        return decay_rates(A_log)


class ReusedWorkspace(Workspace):
    """With named buffers that every layer overwrites, for one forward pass without gradients in one thread."""

    reuses_buffers = True

    def __init__(self, packed: PackedWeights, device: torch.device) -> None:
        """Start without buffers; each is allocated at its first use.

        Args:
            packed: packed copies of weights.
            device: of the buffers.
        """
        self._buffers: dict[str, Tensor] = {}
        self._packed = packed
        self._device = device

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Give the buffer of this name, contiguous, with undefined content; see `Workspace.like`."""
        return self._get(name, tensor.shape, dtype or tensor.dtype)

    def pair(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Give the two buffers of this name; see `Workspace.pair`."""
        return self.like(f"{name}.0", tensor), self.like(f"{name}.1", tensor)

    def linear(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply in the dtype of `x`; the result is in the buffer of this name unless a packed weight is used."""
        shape = torch.Size((*x.shape[:-1], weight.shape[0]))
        packed = self._packed.find(weight)
        if packed is not None and weight.dtype == x.dtype and shape.numel() * x.itemsize <= PACKED_OUTPUT_BYTES:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            return product
        out = self._get(name, shape, x.dtype)
        torch.mm(x.flatten(0, -2), weight.to(x.dtype).t(), out=out.flatten(0, -2))
        return out

    def decay_rates(self, A_log: Tensor) -> Tensor:
        """Compute A of the scan, or take it from an earlier pass; see `PackedWeights.decay_rates`."""
        return self._packed.decay_rates(A_log)

    def _get(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            buffer = self._buffers[name] = torch.empty(shape, dtype=dtype, device=self._device)
        return buffer


def workspace_for(tensor: Tensor, packed: PackedWeights) -> Workspace:
    """Choose how a forward pass stores its results.

    Args:
        tensor: an input, whose device counts.
        packed: packed copies of weights.

    Returns:
        Reused buffers and packed weights on a CPU or CUDA device without gradients and outside of a compiler; else a
        workspace without buffers.
    """
    helps = tensor.device.type in ("cpu", "cuda") and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return ReusedWorkspace(packed, tensor.device) if helps else Workspace()
