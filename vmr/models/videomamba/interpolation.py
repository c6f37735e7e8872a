"""Fit learned positions and image patch filters to another input size or number of frames.

Shapes: C width, G x G patch grid (its 1 + G*G positions have CLS first), T time steps, k tubelet frames, P patch side.

The resampling is upstream's (bicubic in space, linear in time, corners not aligned, no antialiasing), so that the
results equal upstream's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import ModelError


def interpolate_positions(positions: Tensor, grid_size: int) -> Tensor:
    """Resample spatial positions to another grid of patches, bicubically; the row of CLS does not change.

    Args:
        positions: (1, 1 + G*G, C).
        grid_size: patches along a side of the new grid.

    Returns:
        (1, 1 + grid_size**2, C).

    Raises:
        ModelError: the positions of patches are not those of a square grid.
    """
    cls_row, patch_rows = positions[:, :1], positions[:, 1:]
    old_size = math.isqrt(patch_rows.shape[1])
    if old_size**2 != patch_rows.shape[1]:
        raise ModelError(f"spatial positions are {patch_rows.shape[1]} patches, which is no square grid")
    if old_size == grid_size:
        return positions
    grid = patch_rows.float().reshape(1, old_size, old_size, -1).permute(0, 3, 1, 2)  # (1, C, G, G)
    grid = F.interpolate(grid, size=(grid_size, grid_size), mode="bicubic", align_corners=False)
    patch_rows = grid.flatten(2).transpose(1, 2).to(positions.dtype)  # (1, grid_size**2, C)
    return torch.cat([cls_row, patch_rows], dim=1)


def interpolate_time(positions: Tensor, num_steps: int) -> Tensor:
    """Resample temporal positions to another number of time steps, linearly.

    Args:
        positions: (1, T, C).
        num_steps: the new number.

    Returns:
        (1, num_steps, C).
    """
    if positions.shape[1] == num_steps:
        return positions
    series = positions.float().transpose(1, 2)  # (1, C, T)
    series = F.interpolate(series, size=num_steps, mode="linear", align_corners=False)
    return series.transpose(1, 2).to(positions.dtype)


def inflate_patch_filter(image_filter: Tensor, tubelet_size: int) -> Tensor:
    """Turn the patch filter of an image model into that of a video model.

    The centre frame gets the image filter and the others get zeros, so that on a still clip the new filter gives
    exactly what the image filter gave. All published video models have k = 1, where it is the image filter itself.

    Args:
        image_filter: (C, 3, P, P).
        tubelet_size: k, frames of a token.

    Returns:
        (C, 3, k, P, P).
    """
    width, channels, height, breadth = image_filter.shape
    video_filter = image_filter.new_zeros(width, channels, tubelet_size, height, breadth)
    video_filter[:, :, tubelet_size // 2] = image_filter
    return video_filter
