"""Where the layers of a forward pass put their results.

A tensor of more than a few MB is fresh memory from the operating system, and faulting in its pages costs a matrix
product half as much again (at 64 frames, `torch.mm(..., out=reused)` runs 1.5 times as fast as `F.linear`). The layers
of an encoder all have the same shapes, so without gradients they can share buffers whose pages are touched once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FAST_ROWS = 16
"""Products whose weight has a multiple of this many rows run up to 1.5 times as fast: 48 rows cost less than 44."""


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


class ReusedWorkspace(Workspace):
    """Named buffers that every layer overwrites. For one forward pass without gradients, in one thread."""

    reuses_buffers = True

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The buffer `name` in the shape of `tensor`, contiguous, with anything in it."""
        return self._get(name, tensor.shape, dtype or tensor.dtype)

    def pair(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The two buffers `name` in the shape of `tensor`."""
        return self.like(f"{name}.0", tensor), self.like(f"{name}.1", tensor)

    def linear(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """The product, computed and written to the buffer `name` in the dtype of `x`."""
        num_rows = weight.shape[0]
        padding = -num_rows % FAST_ROWS
        if padding:
            weight = F.pad(weight, (0, 0, 0, padding))
        out = self._get(name, torch.Size((*x.shape[:-1], num_rows + padding)), x.dtype)
        torch.mm(x.flatten(0, -2), weight.to(x.dtype).t(), out=out.flatten(0, -2))
        return out[..., :num_rows]

    def _get(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            buffer = self._buffers[name] = torch.empty(shape, dtype=dtype)
        return buffer


def workspace_for(tensor: Tensor) -> Workspace:
    """Buffers to reuse where that helps: on a CPU, without gradients, and not while a compiler plans the memory."""
    helps = tensor.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return ReusedWorkspace() if helps else Workspace()
