"""Checks and layouts of tensors that the kernels of all devices share."""

import torch
from torch import Tensor


def with_contiguous_channels(tensor: Tensor) -> Tensor:
    """Make the last dimension of a tensor contiguous.

    Args:
        tensor: any tensor.

    Returns:
        The tensor itself if its last dimension is contiguous already, else a contiguous copy.
    """
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def needs_grad(*tensors: Tensor | None) -> bool:
    """Say whether autograd has to record an operation.

    Args:
        *tensors: its inputs.

    Returns:
        True if gradients are enabled and any of them requires one.
    """
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
