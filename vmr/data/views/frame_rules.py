"""Which frames of a video the views of a classifier take.

T is `num_frames`, the frames of a view, and n is `video_length`, the frames of the video; frames are counted from 0. A
segment is one choice of T frames, K is `num_segments`. The rules are those of OpenGVLab/VideoMamba at f3427e42
(video_sm/datasets), so that published numbers are computed from the same frames. Halves round to even, as in Python.

Functions that end in `_indices` give the frames of a test or validation view. Those that end in `_ranges` give the
frames from which training draws, so that whoever trains owns the random numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmr.data.views.spec import ViewSpec

Indices = NDArray[np.int64]


def view_indices(spec: ViewSpec, video_length: int) -> Indices:
    """Return the frames of all segments of a video.

    Args:
        spec: the views.
        video_length: n, at least 1.

    Returns:
        Frame indices in [0, n), (num_segments, T).

    Raises:
        ValueError: the video has no frame.
    """
    num_frames, num_segments = spec.num_frames, spec.num_segments
    if spec.frames == "sthsth" and num_segments == 1:
        return sthsth_middle_indices(num_frames, video_length)[None]
    taken = []
    for segment in range(num_segments):
        if spec.frames == "sparse":
            taken.append(sparse_indices(num_frames, video_length, segment, num_segments))
        elif spec.frames == "dense":
            taken.append(dense_indices(num_frames, spec.stride, video_length, segment, num_segments))
        else:
            taken.append(sthsth_indices(num_frames, video_length, segment, num_segments))
    return np.stack(taken)


def sparse_indices(num_frames: int, video_length: int, segment: int = 0, num_segments: int = 1) -> Indices:
    """Choose frames over the whole video, as for Kinetics, Breakfast, COIN and LVU.

    With s = (n - 1) / T, frame i is round(s * i) + int(s / (K + 1) * (segment + 1)), at most n - 1. Validation takes
    the only segment of one.

    Args:
        num_frames: T, at least 1.
        video_length: n, at least 1.
        segment: which one, in [0, num_segments).
        num_segments: K, at least 1.

    Returns:
        Frame indices in order, (T,); some repeat if the video is short.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length, segment, num_segments)
    step = (video_length - 1) / num_frames
    later = int(step / (num_segments + 1) * (segment + 1))
    return np.minimum(_rounded(step, num_frames) + later, video_length - 1)


def sparse_ranges(num_frames: int, video_length: int) -> tuple[Indices, Indices]:
    """Return the frames from which training draws for Kinetics, Breakfast, COIN and LVU.

    With s = (n - 1) / T, frame i is one of round(s * i) to round(s * (i + 1)). Neighbours share an end, so that both
    may draw the same frame.

    Args:
        num_frames: T, at least 1.
        video_length: n, at least 1.

    Returns:
        The lowest and the highest frame of each position, both inclusive, (T,) each.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length)
    edges = _rounded((video_length - 1) / num_frames, num_frames + 1)
    return edges[:-1], edges[1:]


def sthsth_indices(num_frames: int, video_length: int, segment: int, num_segments: int) -> Indices:
    """Choose frames over the whole video, as in the test of Something-Something V2.

    With t = n / T, the frames int(t * k / K + t * i) of all k in [0, K) and i in [0, T) are sorted, and the segment
    takes each K-th of them, from the one with its number on. This is upstream's rule for folders of frames. Upstream's
    rule for video files works for K = 2 only, and gives the same frames then.

    Args:
        num_frames: T, at least 1.
        video_length: n, at least 1.
        segment: which one, in [0, num_segments).
        num_segments: K, at least 1.

    Returns:
        Frame indices in order, (T,); some repeat if the video is short.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length, segment, num_segments)
    step = video_length / num_frames
    starts = np.arange(num_segments)[:, None] * step / num_segments
    return np.sort((starts + step * np.arange(num_frames)).astype(np.int64).reshape(-1))[segment::num_segments]


def sthsth_middle_indices(num_frames: int, video_length: int) -> Indices:
    """Choose the middle of each of T equal intervals, as in the validation of Something-Something V2.

    With t = n / T, frame i is int(t / 2 + t * i).

    Args:
        num_frames: T, at least 1.
        video_length: n, at least 1.

    Returns:
        Frame indices in order, (T,); some repeat if the video is short.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length)
    step = video_length / num_frames
    return (step / 2 + step * np.arange(num_frames)).astype(np.int64)


def segment_ranges(num_frames: int, video_length: int) -> tuple[Indices, Indices]:
    """Return the frames from which training on Something-Something V2, and masked pre-training, draws.

    With d = n // T, frame i is one of d * i to d * i + d - 1. The last n - d * T frames are never drawn. A video of
    fewer than T frames gives its first frame T times, as upstream does.

    Args:
        num_frames: T, at least 1.
        video_length: n, at least 1.

    Returns:
        The lowest and the highest frame of each position, both inclusive, (T,) each.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length)
    length = video_length // num_frames
    first = length * np.arange(num_frames)
    return first, first + max(length - 1, 0)


def dense_indices(num_frames: int, stride: int, video_length: int, segment: int = 0, num_segments: int = 1) -> Indices:
    """Choose frames `stride` apart, of segments that are spread over the video.

    A segment spans T * stride frames. The first begins with the video, the last ends with it, and all begin with the
    video if that is shorter. Beyond the end, the last frame that was taken repeats. The only segment of one is in the
    middle; upstream divides by zero there. No published number uses this rule.

    Args:
        num_frames: T, at least 1.
        stride: frames from one to the next, at least 1.
        video_length: n, at least 1.
        segment: which one, in [0, num_segments).
        num_segments: K, at least 1.

    Returns:
        Frame indices in order, (T,).

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, video_length, segment, num_segments)
    if stride < 1:
        raise ValueError(f"cannot take every {stride}-th frame")
    room = max(video_length - num_frames * stride, 0)
    start = room // 2 if num_segments == 1 else int(room / (num_segments - 1) * segment)
    last = start + (video_length - 1 - start) // stride * stride
    return np.minimum(start + stride * np.arange(num_frames), last)


def _rounded(step: float, count: int) -> Indices:
    """The multiples 0, 1, ..., count - 1 of a step, halves rounded to even."""
    rounded: Indices = np.rint(step * np.arange(count)).astype(np.int64)
    return rounded


def _check(num_frames: int, video_length: int, segment: int = 0, num_segments: int = 1) -> None:
    if num_frames < 1 or video_length < 1:
        raise ValueError(f"cannot take {num_frames} frames from a video of {video_length}")
    if not 0 <= segment < num_segments:
        raise ValueError(f"there is no segment {segment} of {num_segments}")
