"""Which frames of a video stand for it: the sampling rules of VideoMamba's retrieval models, and windows in time.

Every rule returns int64 frame indices. The numbers are those of OpenGVLab/VideoMamba at f3427e42
(dataset/video_utils.py), so features of a released checkpoint are computed from the same frames.
"""

import math
import re
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

Indices = NDArray[np.int64]


class Timed(Protocol):
    """What a rule needs to know of a video; `vmr.data.decoding.video.VideoReader` is one."""

    @property
    def num_frames(self) -> int:
        """How many frames it shows."""

    @property
    def fps(self) -> float:
        """Average frames per second."""

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""


def sample_indices(rule: str, num_frames: int, video: Timed, rng: np.random.Generator | None = None) -> Indices:
    """Indices of the frames that `rule` takes from `video`.

    rule: "middle" and "rand" (the middle, or a random frame, of each of num_frames equal intervals), "trimmedN" and
    "rand_trimmedN" (the same over the first N seconds; upstream uses 30 for DiDeMo), "rand_upstream" (see
    `rand_indices`), or "fpsR" (R frames per second, e.g. "fps2" or "fps0.5"; as many frames as that gives, num_frames
    being the upper limit if positive). rng: what the random ones draw from. Raises VmrError for any other rule.
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
    """Raise VmrError unless `sample_indices` knows `rule`."""
    _split_rule(rule)


def is_random(rule: str) -> bool:
    """Whether `rule` may take other frames each time."""
    return rule.startswith("rand")


def _split_rule(rule: str) -> tuple[str, float]:
    """The rule without its number, and the number; that of a rule without one is infinite."""
    if rule in ("middle", "rand", "rand_upstream"):
        return rule, math.inf
    match = re.fullmatch(r"(fps|trimmed|rand_trimmed)(\d+(?:\.\d+)?)", rule)
    if match is None or float(match[2]) == 0:
        raise VmrError(
            f"no sampling rule {rule!r}: choose middle, rand, fpsR (such as fps2), trimmedN or rand_trimmedN "
            "(such as trimmed30), or rand_upstream"
        )
    return match[1], float(match[2])


def middle_indices(num_frames: int, video_length: int) -> Indices:
    """The middle frame of each of num_frames equal intervals, (num_frames,).

    A video of fewer frames gives each of them once, then its last one again until the count is full.
    """
    edges = _interval_edges(num_frames, video_length)
    return _repeat_last((edges[:-1] + edges[1:] - 1) // 2, num_frames)


def rand_indices(num_frames: int, video_length: int, rng: np.random.Generator, upstream: bool = False) -> Indices:
    """One random frame of each of num_frames equal intervals, (num_frames,); short videos as in `middle_indices`.

    upstream=True draws as the released models were trained: the last frame of an interval is never drawn, and if that
    leaves some interval without a frame, the indices are a sorted random choice from the whole video instead.
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
    """The frame shown at the middle of each 1/fps_sampled seconds, (n,); n follows from the duration.

    fps: the video's own rate, which turns seconds into indices (halves round to even, as numpy does).
    Indices at or past video_length are left out; a positive max_num_frames keeps only the first so many.
    A video shorter than half a step gives its first frame: upstream gives none, which nothing can be made of.
    """
    step = 1 / fps_sampled
    indices = np.around(np.arange(step / 2, duration_s + step / 2, step) * fps).astype(np.int64)
    if video_length is not None:
        indices = indices[indices < video_length]
    if len(indices) == 0:
        return np.zeros(1, np.int64)
    return indices[:max_num_frames] if max_num_frames > 0 else indices


def trimmed_length(video_length: int, fps: float, max_s: float = 30) -> int:
    """How many frames of a video count when only its first max_s seconds do; fps is its average rate."""
    return max(1, int(max_s * fps)) if video_length / fps > max_s else video_length


def window_indices(timestamps_s: NDArray[np.float64], num_frames: int, start_s: float, end_s: float) -> Indices:
    """The "middle" rule among the frames shown from start_s up to, not including, end_s; (num_frames,).

    timestamps_s: increasing, (video_length,). It counts frames by when they are shown, so a variable frame rate does no
    harm. A window in which no frame begins takes the one nearest to its middle.
    """
    # 3 * 0.1 is a hair more than 0.3: a frame that begins with the window must not fall to the one before
    first, stop = np.searchsorted(timestamps_s, [start_s - 1e-6, end_s - 1e-6])
    if first == stop:
        first = int(np.argmin(np.abs(timestamps_s - (start_s + end_s) / 2)))
        stop = first + 1
    indices: Indices = first + middle_indices(num_frames, int(stop - first))
    return indices
