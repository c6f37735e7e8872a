"""Find the patches that repeat what was shown before at their place, so that the encoder need not read them again.

A patch of a later time step is left out while it differs by no more than a threshold from the one that was kept last at
its place. The first step is kept whole. What is left out stands for the token that was kept last: `carry` repeats it,
so that pooling and cross-attention see all places of all steps.

Shapes: B clips, T frames, H = W pixels, k tubelet frames, P patch side, S = T / k time steps, N = (H / P)^2 patches of
a step, K kept tokens, C width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import ModelError

_CELL = 4  # pixels a side: the mean of a cell hardly changes by noise, whatever the size of a patch


@dataclass(frozen=True)
class SkipConfig:
    """Which patches a model leaves out when it is used; it must have been trained for that.

    Attributes:
        threshold: the largest difference that is a repetition, as a share of the range of pixels, in [0, 1].
        ignore_fades: whether a change that all patches of a frame share is none.

    Raises:
        ModelError: the threshold is out of range.
    """

    threshold: float = 0.02
    ignore_fades: bool = False

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)


class Repeats(NamedTuple):
    """What changes in clips.

    Attributes:
        keep: bool (B, S, N): the patches that changed, and those of the first step.
        change: float32 (B, S, N): by how much each patch differs from the one that was kept last at its place, in
            [0, 1]; infinite in the first step.
    """

    keep: Tensor
    change: Tensor


def find_repeats(
    video: Tensor, threshold: float, *, tubelet_size: int, patch_size: int, ignore_fades: bool = False
) -> Repeats:
    """Compare each patch with the one that was kept last at its place.

    The difference of two patches is the mean over channels and cells of 4 x 4 pixels of the absolute difference of the
    cells' means; cells are smaller where 4 does not divide the patch. Of a tubelet the frame counts that differs most,
    and its last frame is what later ones are compared with.

    Args:
        video: uint8 (B, T, 3, H, W) in [0, 255].
        threshold: the largest difference that is a repetition, as a share of the range of pixels, in [0, 1]. 0
            leaves out exact repetitions.
        tubelet_size: k; it divides T.
        patch_size: P; it divides H.
        ignore_fades: subtract from the differences of each frame and channel their median, so that a fade, which
            changes all patches alike, is no change.

    Returns:
        The patches to keep, and how much each changed.

    Raises:
        ModelError: the video is not uint8, the threshold is out of range, or a size does not divide the video's.
    """
    batch, num_frames, _, height, width = video.shape
    if video.dtype != torch.uint8:
        raise ModelError(f"repetitions are looked for in uint8 pixels, not {video.dtype}")
    _check_threshold(threshold)
    if num_frames % tubelet_size or height % patch_size or width % patch_size:
        raise ModelError(
            f"{num_frames} x {height} x {width} is no multiple of {tubelet_size} x {patch_size} x {patch_size}"
        )
    side = math.gcd(_CELL, patch_size)
    cells = F.avg_pool2d(video.flatten(0, 1).float() / 255, side).unflatten(0, (batch, num_frames))  # (B, T, 3, h, w)
    num_steps, places = num_frames // tubelet_size, (height // patch_size) * (width // patch_size)
    keep = torch.ones(batch, num_steps, places, dtype=torch.bool, device=video.device)
    change = torch.full((batch, num_steps, places), math.inf, device=video.device)
    seen = cells[:, tubelet_size - 1]  # (B, 3, h, w): what was kept last at each place
    for step in range(1, num_steps):
        now = cells[:, step * tubelet_size : (step + 1) * tubelet_size]
        change[:, step] = _differences(now - seen[:, None], patch_size // side, ignore_fades)
        keep[:, step] = change[:, step] > threshold
        seen = torch.where(_as_cells(keep[:, step], patch_size // side, cells.shape[-2:]), now[:, -1], seen)
    return Repeats(keep, change)


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ModelError(f"the threshold of repetitions is {threshold:g}, but must be in [0, 1]")


def _differences(cells: Tensor, side: int, ignore_fades: bool) -> Tensor:
    """Differences (B, k, 3, h, w) of cells, `side` of them along a patch -> (B, N), of the worst frame."""
    if ignore_fades:
        cells = cells - cells.flatten(3).median(dim=3).values[..., None, None]
    of_patches = F.avg_pool2d(cells.abs().mean(dim=2), side)  # (B, k, H / P, W / P)
    return of_patches.flatten(2).amax(dim=1)


def _as_cells(patches: Tensor, side: int, size: torch.Size) -> Tensor:
    """A value for each patch, (B, N) -> one for each cell, (B, 1, h, w)."""
    height, width = size
    grid = patches.view(-1, 1, height // side, width // side)
    return grid.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def keep_equally(repeats: Repeats) -> Tensor:
    """Keep as many patches of each clip as all keep on average, those that changed most, so that clips make a batch.

    Args:
        repeats: of the clips.

    Returns:
        bool (B, S, N), with the same number of patches in every clip; the first step is whole.
    """
    keep, change = repeats
    num_kept = round(keep.flatten(1).sum(dim=1).float().mean().item())
    chosen = change.flatten(1).topk(num_kept, dim=1).indices
    return torch.zeros_like(keep).flatten(1).scatter(1, chosen, True).view_as(keep)


def as_mask(keep: Tensor) -> Tensor:
    """Write the patches to keep as a mask of the encoder.

    Args:
        keep: bool (B, S, N).

    Returns:
        bool (B, 1 + S * N), True = dropped; CLS is kept.
    """
    dropped = ~keep.flatten(1)
    return torch.cat([dropped.new_zeros(len(dropped), 1), dropped], dim=1)


def carry(video_tokens: Tensor, mask: Tensor, num_steps: int) -> Tensor:
    """Repeat each kept token in all later steps until another one is kept at its place.

    Args:
        video_tokens: (B, K, C), the kept tokens without CLS.
        mask: bool (B, 1 + S * N), True = dropped, of which they are what is left; see `VideoMamba.forward`.
        num_steps: S.

    Returns:
        (B, S * N, C).

    Raises:
        ModelError: the mask drops a patch of the first step, before which there is nothing to repeat.
    """
    keep = ~mask[:, 1:].unflatten(1, (num_steps, -1))  # (B, S, N)
    if not bool(keep[:, 0].all()):
        raise ModelError("patches that repeat earlier ones can be left out, but the mask drops some of the first step")
    index = _last_kept(keep)
    return video_tokens.gather(1, index[..., None].expand(-1, -1, video_tokens.shape[2]))


class Uncarried(NamedTuple):
    """The tokens of a clip without those that repeat the one before at their place.

    Attributes:
        tokens: (K, C), in the order of the clip; the first step is whole.
        counts: int64 (K,), for how many tokens of the clip each stands, itself included; N * S in all.
    """

    tokens: Tensor
    counts: Tensor


def uncarry(video_tokens: Tensor, num_steps: int) -> Uncarried:
    """Undo `carry`: leave out each token that is equal to that of the step before at its place.

    Attention to all tokens is attention to those that are left, with log(counts) added to their scores.

    Args:
        video_tokens: (S * N, C), of one clip, without CLS.
        num_steps: S.

    Returns:
        What is left; all tokens, each counted once, if none repeats.
    """
    steps = video_tokens.unflatten(0, (num_steps, -1))  # (S, N, C)
    keep = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
    keep[1:] = (steps[1:] != steps[:-1]).any(dim=2)
    return Uncarried(steps[keep], _last_kept(keep[None])[0].bincount())


def _last_kept(keep: Tensor) -> Tensor:
    """For each patch, the one that was kept last at its place, counted among the kept ones: (B, S, N) -> (B, S * N)."""
    steps = torch.arange(keep.shape[1], device=keep.device)[:, None]
    last = torch.where(keep, steps, -1).cummax(dim=1).values  # (B, S, N): the step in which a place was kept last
    places = torch.arange(keep.shape[2], device=keep.device)
    rank = keep.flatten(1).cumsum(dim=1) - 1  # of each patch among the kept ones
    return rank.gather(1, (last * keep.shape[2] + places).flatten(1))
