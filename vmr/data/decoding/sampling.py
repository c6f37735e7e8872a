"""Which frames represent a video: the sampling rules of VideoMamba's retrieval models, and windows in time.

Every rule returns int64 frame indices. They are those of OpenGVLab/VideoMamba at f3427e42 (dataset/video_utils.py), so
that features of a released checkpoint are computed from the same frames.
"""

import math
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

Indices = NDArray[np.int64]

# 3 * 0.1 is a little more than 0.3: a frame that begins with a window must not fall into the window before.
_ROUNDING_S = 1e-6


class Timed(Protocol):
    """The facts about a video that a rule needs. `vmr.data.decoding.video.VideoReader` has these attributes."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def fps(self) -> float:
        """Average frames per second."""

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""


def sample_indices(rule: str, num_frames: int, video: Timed, rng: np.random.Generator | None = None) -> Indices:
    """Choose frames of a video by the rule with this name.

    Args:
        rule: one of
            "middle": the middle frame of each of num_frames equal intervals;
            "rand": a random frame of each of these intervals;
            "trimmedN", "rand_trimmedN": the same, but of the first N seconds (upstream uses 30 for DiDeMo);
            "rand_upstream": see `rand_indices`;
            "fpsR": R frames per second, such as "fps2" or "fps0.5", and as many frames as that gives.
        num_frames: number of frames; for "fpsR" the greatest number, and no limit if it is not positive.
        video: the video.
        rng: random numbers for the random rules; the others do not need it.

    Returns:
        Frame indices in [0, video.num_frames), in order, (num_frames,); fewer or more for "fpsR".

    Raises:
        VmrError: there is no such rule, or a random rule has no `rng`.
        ValueError: `num_frames` or the length of the video is less than 1, and the rule is not "fpsR".
    """
    name, number = _split_rule(rule)
    if name == "fps":
        return fps_indices(number, video.duration_s, video.fps, video.num_frames, max_num_frames=num_frames)
    length = trimmed_length(video.num_frames, video.fps, number)
    if not is_random(rule):
        return middle_indices(num_frames, length)
    if rng is None:
        raise VmrError(f"sampling {rule!r} needs a random generator: pass rng=numpy.random.default_rng(seed)")
    return rand_indices(num_frames, length, rng, upstream=rule == "rand_upstream")


def check_rule(rule: str) -> None:
    """Check the name of a sampling rule.

    Args:
        rule: see `sample_indices`.

    Raises:
        VmrError: there is no such rule.
    """
    _split_rule(rule)


def is_random(rule: str) -> bool:
    """Tell whether a sampling rule, see `sample_indices`, chooses frames at random."""
    return rule.startswith("rand")


def _split_rule(rule: str) -> tuple[str, float]:
    """Split a rule into its name and its number; the number is infinite if there is none."""
    if rule in ("middle", "rand", "rand_upstream"):
        return rule, math.inf
    match = None if not isinstance(rule, str) else re.fullmatch(r"(fps|trimmed|rand_trimmed)(\d+(?:\.\d+)?)", rule)
    if match is None or float(match[2]) == 0:
        raise VmrError(
            f"no sampling rule {rule!r}: choose middle, rand, fpsR (such as fps2), trimmedN or rand_trimmedN "
            "(such as trimmed30), or rand_upstream"
        )
    return match[1], float(match[2])


def middle_indices(num_frames: int, video_length: int) -> Indices:
    """Choose the middle frame of each of num_frames equal intervals of a video.

    A video of fewer frames gives each frame once, and then its last frame as often as needed.

    Args:
        num_frames: number of intervals, at least 1.
        video_length: number of frames of the video, at least 1.

    Returns:
        Frame indices in order, (num_frames,).

    Raises:
        ValueError: a number is less than 1.
    """
    edges = _interval_edges(num_frames, video_length)
    return _repeat_last((edges[:-1] + edges[1:] - 1) // 2, num_frames)


def rand_indices(num_frames: int, video_length: int, rng: np.random.Generator, upstream: bool = False) -> Indices:
    """Choose a random frame of each of num_frames equal intervals of a video.

    A video of fewer frames gives each frame once, and then its last frame as often as needed.

    Args:
        num_frames: number of intervals, at least 1.
        video_length: number of frames of the video, at least 1.
        rng: the source of random numbers.
        upstream: whether to draw as in the training of the released models: the last frame of an interval is never
            drawn. If that leaves an interval without a frame, the indices are a sorted random choice from the whole
            video instead.

    Returns:
        Frame indices in order, (num_frames,).

    Raises:
        ValueError: a number is less than 1.
    """
    edges = _interval_edges(num_frames, video_length)
    low, high = edges[:-1], edges[1:]
    if upstream:
        high = high - 1
        if np.any(high <= low):
            return _repeat_last(np.sort(rng.permutation(video_length)[: len(low)]), num_frames)
    return _repeat_last(rng.integers(low, high), num_frames)


def _interval_edges(num_frames: int, video_length: int) -> Indices:
    if num_frames < 1 or video_length < 1:
        raise ValueError(f"cannot take {num_frames} frames from a video of {video_length}")
    return np.linspace(0, video_length, min(num_frames, video_length) + 1).astype(np.int64)


def _repeat_last(indices: Indices, num_frames: int) -> Indices:
    return np.pad(indices, (0, num_frames - len(indices)), mode="edge").astype(np.int64)


def fps_indices(
    fps_sampled: float, duration_s: float, fps: float, video_length: int | None = None, max_num_frames: int = -1
) -> Indices:
    """Choose the frame at the middle of each step of 1/fps_sampled seconds.

    A video shorter than half a step gives its first frame. Upstream gives no frame then, which no model can take.

    Args:
        fps_sampled: frames to take per second, positive.
        duration_s: length of the video in seconds.
        fps: the video's own frames per second, which convert seconds to indices (halves round to even, as in numpy).
        video_length: number of frames of the video; larger indices are left out. With None, no index is left out.
        max_num_frames: how many of the first indices to keep; all if it is not positive.

    Returns:
        Frame indices in order, (n,), n >= 1; n depends on the duration.
    """
    step = 1 / fps_sampled
    indices = np.around(np.arange(step / 2, duration_s + step / 2, step) * fps).astype(np.int64)
    if video_length is not None:
        indices = indices[indices < video_length]
    if len(indices) == 0:
        return np.zeros(1, np.int64)
    return indices[:max_num_frames] if max_num_frames > 0 else indices


def trimmed_length(video_length: int, fps: float, max_s: float = 30) -> int:
    """Count the frames in the first seconds of a video.

    Args:
        video_length: number of frames of the video.
        fps: its average frames per second.
        max_s: how many seconds to keep.

    Returns:
        The number of frames that are kept, at least 1 and at most `video_length`.
    """
    return max(1, int(max_s * fps)) if video_length / fps > max_s else video_length


def shown_in(timestamps_s: NDArray[np.float64], start_s: float, end_s: float) -> tuple[int, int]:
    """Find the frames that begin in a window in time.

    Args:
        timestamps_s: when each frame is shown, in seconds, increasing, (video_length,).
        start_s: start of the window in seconds.
        end_s: its end in seconds; a frame that begins at end_s is not in the window.

    Returns:
        The first of them, and the one after the last; both are equal if no frame begins in the window.
    """
    first, stop = np.searchsorted(timestamps_s, [start_s - _ROUNDING_S, end_s - _ROUNDING_S])
    return int(first), int(stop)


def shown_at(timestamps_s: NDArray[np.float64], times_s: NDArray[np.float64] | Sequence[float]) -> Indices:
    """Find the frames that are shown at given times.

    Args:
        timestamps_s: when each frame is shown, in seconds, increasing, (video_length,), at least one.
        times_s: the times, in seconds, (n,). A frame that begins at a time is shown at it.

    Returns:
        Their numbers, (n,). Before the first frame it is the first, after the last it is the last.
    """
    shown: Indices = np.searchsorted(timestamps_s, np.asarray(times_s) + _ROUNDING_S, side="right") - 1
    return np.maximum(shown, 0)


def grid_indices(
    timestamps_s: NDArray[np.float64],
    duration_s: float,
    num_frames: int,
    spans: Sequence[tuple[float, float]],
    window_s: float,
    keys: Indices | None = None,
) -> Indices:
    """Choose frames for windows in time from one grid, so that windows that overlap share frames.

    A grid point stands at the middle of each step of min(window_s, duration_s) / num_frames seconds. It gives the frame
    that is shown just before, so that at a constant rate a full window has the frames that `middle_indices` chooses of
    it. A window takes num_frames points at equal distances, each moved to the nearest grid point within
    the window. So a full window that begins at a multiple of the step takes just its num_frames grid points, and a
    shorter one takes some of them twice. A window without a grid point gives the frame that is shown at its middle. A
    window that is all of a short video has the frames that `middle_indices` chooses of the video.

    Args:
        timestamps_s: when each frame is shown, in seconds, increasing, (video_length,), at least one.
        duration_s: the end of the last frame, in seconds, positive.
        num_frames: frames of a window, at least 1.
        spans: start and end of each window in seconds, within [0, duration_s]; what begins at an end is not in it.
        window_s: length of a full window in seconds, positive.
        keys: frames that alone may be taken, such as `VideoReader.key_indices`, increasing, at least one. Each grid
            point then gives the nearest of those that begin in the window, or the nearest of all if none does.

    Returns:
        Frame indices in order, (len(spans), num_frames).

    Raises:
        ValueError: `num_frames` is less than 1, or a duration is not positive.
    """
    step_s = min(window_s, duration_s) / num_frames if num_frames >= 1 else 0.0
    if not step_s > 0:
        raise ValueError(f"no grid of {num_frames} frames in {window_s} s of {duration_s} s")
    windows = np.asarray(spans, np.float64).reshape(-1, 2)
    starts, ends = windows[:, :1], windows[:, 1:]
    equal = starts + (np.arange(num_frames) + 0.5) / num_frames * (ends - starts)
    # Grid point g is at (g + 0.5) * step_s. Halves go down: a window begins with what is at its start.
    nearest = np.ceil((equal - _ROUNDING_S) / step_s - 1)
    first = np.ceil((starts - _ROUNDING_S) / step_s - 0.5)
    last = np.ceil((ends - _ROUNDING_S) / step_s - 0.5) - 1
    points_s = (np.clip(nearest, first, last) + 0.5) * step_s - 2 * _ROUNDING_S
    times_s = np.where(first <= last, points_s, (starts + ends) / 2)
    if keys is None:
        frames = shown_at(timestamps_s, times_s)
        is_all = (starts <= 0) & (ends >= duration_s) & (duration_s <= window_s + _ROUNDING_S)
        return np.where(is_all, middle_indices(num_frames, len(timestamps_s)), frames)
    taken = [_nearest_keys(timestamps_s, keys, *pair) for pair in zip(times_s, windows, strict=True)]
    return np.array(taken, np.int64).reshape(-1, num_frames)


def _nearest_keys(
    timestamps_s: NDArray[np.float64], keys: Indices, times_s: NDArray[np.float64], window: NDArray[np.float64]
) -> Indices:
    key_times_s = timestamps_s[keys]
    first, stop = shown_in(key_times_s, *window)
    if first < stop:
        keys, key_times_s = keys[first:stop], key_times_s[first:stop]
    middles_s = (key_times_s[1:] + key_times_s[:-1]) / 2
    return keys[np.searchsorted(middles_s, times_s - _ROUNDING_S)]
