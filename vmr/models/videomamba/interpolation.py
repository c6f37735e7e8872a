"""Fit learned positions and image patch filters to another input size or number of frames.

Shapes: C width, G x G patch grid (its 1 + G*G positions have CLS first), T time steps, k tubelet frames, P patch side.

The resampling is upstream's (bicubic in space, linear in time, corners not aligned, no antialiasing), so that the
results equal upstream's.
"""

import copy
import math
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError

Network = TypeVar("Network", bound=nn.Module)


def resized_copy(network: Network, image_size: int | None, num_frames: int | None) -> Network:
    """Copy a network for another input size, and interpolate its positions.

    Args:
        network: has `config`, `pos_embed` (1, 1 + G*G, C) and, unless it reads frames one by one,
            `temporal_pos_embedding` (1, T, C).
        image_size: side of the frames in pixels; None, as before.
        num_frames: frames of a clip; None, as before.

    Returns:
        A copy that does not share weights with the network.

    Raises:
        ModelError: these sizes do not fit the network.
    """
    model: Any = copy.deepcopy(network)
    config = model.config
    model.config = config = replace(
        config, image_size=image_size or config.image_size, num_frames=num_frames or config.num_frames
    )
    model.pos_embed.data = interpolate_positions(model.pos_embed.data, config.grid_size)
    if hasattr(model, "temporal_pos_embedding"):
        model.temporal_pos_embedding.data = interpolate_time(model.temporal_pos_embedding.data, config.num_steps)
    resized: Network = model
    return resized


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
