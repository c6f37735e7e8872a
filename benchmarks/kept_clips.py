"""Clips of a folder's videos that stand for all of them, by how many of their patches repeat earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import PATCH
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import DecodedSegment, FrameSpec
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.discovery.find import find_videos
from vmr.errors import VmrError
from vmr.models.videomamba.repeats import find_repeats

NUM_CLIPS = 8


@dataclass(frozen=True)
class KeptClips:
    """What is kept of a folder's videos at a threshold, and some of them.

    Attributes:
        threshold: see `find_repeats`.
        shares: of each video, the share of patches that is kept; (V,), ascending.
        clips: `NUM_CLIPS` videos at evenly spaced ranks of their shares, uint8 (NUM_CLIPS, T, 3, S, S).
    """

    threshold: float
    shares: NDArray[np.float64]
    clips: NDArray[np.uint8]


def choose_clips(folder: Path, threshold: float, num_frames: int, image_size: int) -> KeptClips:
    """Read frames of the whole of every video, and choose some videos.

    Args:
        folder: of the videos.
        threshold: of repetitions.
        num_frames: T.
        image_size: S.

    Raises:
        VmrError: there is no video, or one cannot be read.
    """
    clips: dict[str, NDArray[np.uint8]] = {}
    with DecodePool(FrameSpec(num_frames, image_size)) as pool:
        for message in pool.decode(find_videos(folder)):
            if isinstance(message, DecodeFailure):
                raise VmrError(f"{message.path}: {message.reason}")
            if isinstance(message, DecodedSegment):
                clips[message.path] = message.video
    shares = {path: _share(clip, threshold) for path, clip in clips.items()}
    ranked = sorted(shares, key=lambda path: (shares[path], path))
    chosen = [ranked[int((place + 0.5) / NUM_CLIPS * len(ranked))] for place in range(NUM_CLIPS)]
    return KeptClips(threshold, np.array([shares[path] for path in ranked]), np.stack([clips[path] for path in chosen]))


def describe(kept: Sequence[KeptClips]) -> str:
    """Say which shares were kept, a line for each length."""
    return "\n".join(
        f"{one.clips.shape[1]} frames, threshold {one.threshold:g}: of {len(one.shares)} clips the median keeps "
        f"{np.median(one.shares):.0%} of its patches, the quartiles {np.percentile(one.shares, 25):.0%} and "
        f"{np.percentile(one.shares, 75):.0%}, the mean {one.shares.mean():.1%}"
        for one in kept
    )


def _share(clip: NDArray[np.uint8], threshold: float) -> float:
    found = find_repeats(torch.from_numpy(clip)[None], threshold, tubelet_size=1, patch_size=PATCH)
    return float(found.keep.double().mean())
