"""`vmr-info MODEL --video-dir DIR`: what leaving out repeated patches does to a user's own videos."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from vmr.cli.output import print_failures, print_table
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import DecodedSegment
from vmr.data.decoding.worker_process import DecodedVideo, DecodeFailure
from vmr.data.discovery.find import find_videos
from vmr.errors import VmrError
from vmr.models.families.names import with_skip
from vmr.progress import spinner
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.results import Failure
from vmr.retrieval.segments import SegmentOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vmr.models.families.video_text import VideoTextEncoder

_AT_MOST_S = 30.0  # of decoding
_TIMED = 12  # clips


class _Sample(NamedTuple):
    """Windows of a random sample of videos, as an index takes them by default.

    Attributes:
        shares: of each window, the share of its patches that is kept.
        clips: some of the windows, uint8 (1, T, 3, S, S).
        num_videos: how many videos were read to their end.
        failures: videos that cannot be read.
    """

    shares: list[float]
    clips: list[Tensor]
    num_videos: int
    failures: list[DecodeFailure]


def print_kept_share(model: str | None, video_dir: str, threshold: float) -> None:
    """Print which share of the patches of a folder's videos is kept, and what time that saves.

    Args:
        model: name or path of a video-text model.
        video_dir: the folder.
        threshold: of repetitions, see `vmr.load_model`.

    Raises:
        VmrError: no model is named, the threshold is 0, the model cannot leave out anything, or no video can be read.
    """
    from vmr.models.catalogue import load_encoder
    from vmr.models.families.video_text import VideoTextEncoder

    if model is None or not threshold:
        raise VmrError("--video-dir says what a model saves: name the model, and give a --skip above 0")
    videos = find_videos(video_dir)
    encoder = load_encoder(with_skip(model, threshold))
    assert isinstance(encoder, VideoTextEncoder)  # no other model leaves out anything
    with spinner(True, "measuring"):
        sample = _measure_shares(list(map(str, videos)), encoder)
        full_s, kept_s = _mean_seconds([encoder.with_skip(0), encoder], sample.clips)
    ranked = sorted(sample.shares)
    low, middle, high = (ranked[int(len(ranked) * part)] for part in (0.25, 0.5, 0.75))
    faster = f"{full_s / kept_s:.1f} times as fast, without decoding"
    rows = [
        ("measured", f"{len(ranked)} windows of {sample.num_videos} of {len(videos)} videos, cut as for an index"),
        ("patches kept", f"{middle:.0%}; of half of the windows, {low:.0%} to {high:.0%}"),
        ("time of a clip", f"{kept_s * 1000:.0f} ms instead of {full_s * 1000:.0f} ms: {faster}"),
    ]
    print_table(encoder.name, ("", ""), rows)
    print_failures([Failure(failure.path, failure.reason) for failure in (*videos.failures, *sample.failures)])


def _measure_shares(videos: Sequence[str], encoder: VideoTextEncoder) -> _Sample:
    """Decode videos in random order, for some seconds. Raises VmrError if none can be read."""
    import torch

    sample, num_videos = _Sample([], [], 0, []), 0
    end_s = time.monotonic() + _AT_MOST_S
    with DecodePool(frame_spec(encoder), SegmentOptions().segmenter()) as pool:
        for message in pool.decode(random.Random(0).sample(videos, len(videos))):
            num_videos += isinstance(message, DecodedVideo)
            if isinstance(message, DecodeFailure):
                sample.failures.append(message)
            elif isinstance(message, DecodedSegment):
                clip = torch.from_numpy(message.video)[None]
                sample.shares.append(encoder.changed_patches(clip).double().mean().item())
                sample.clips.extend([clip] if len(sample.clips) < _TIMED else [])
            if sample.clips and time.monotonic() > end_s:
                break
    if not sample.clips:
        failure = sample.failures[0]
        raise VmrError(f"no video can be read, such as {failure.path}: {failure.reason}")
    return sample._replace(num_videos=num_videos)


def _mean_seconds(encoders: Sequence[VideoTextEncoder], clips: Sequence[Tensor]) -> list[float]:
    """Mean seconds of each encoder for a clip. They take turns, so that other work on the machine slows both."""
    totals = [0.0] * len(encoders)
    for encoder in encoders:
        encoder.video_features(clips[0])  # the first run is slower
    for clip in clips:
        for place, encoder in enumerate(encoders):
            start_s = time.perf_counter()
            encoder.video_features(clip).vectors.cpu()  # waits for a GPU
            totals[place] += time.perf_counter() - start_s
    return [total / len(clips) for total in totals]
