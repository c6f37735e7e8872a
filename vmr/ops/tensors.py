"""Tensors as kernels want them, whatever they run on."""

import torch
from torch import Tensor


def with_contiguous_channels(tensor: Tensor) -> Tensor:
    """The tensor, copied only where its last dimension is not contiguous."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd is to follow an operation on these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
