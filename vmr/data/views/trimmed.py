"""Long films as clips of one minute, as in the trimmed evaluation of LVU (OpenGVLab/VideoMamba at f3427e42)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import shown_at
from vmr.errors import VmrError

Span = tuple[float, float]
"""Start and end in seconds from the first frame."""


def trimmed_clips(duration_s: float, trimmed_s: float = 60, stride_s: float = 16) -> list[Span]:
    """Cut a film into clips that overlap.

    A film that is shorter than a clip is one clip. Else a clip begins at each multiple of `stride_s`. One that would go
    beyond the end of the film ends with it, if at least half a clip is left.

    Args:
        duration_s: length of the film.
        trimmed_s: length of a clip.
        stride_s: from the beginning of a clip to that of the next.

    Returns:
        Start and end of each clip in seconds, in order, at least one.

    Raises:
        VmrError: a length is not positive.
    """
    if not min(duration_s, trimmed_s, stride_s) > 0:
        raise VmrError(
            f"cannot cut {duration_s} s into clips of {trimmed_s} s, one each {stride_s} s: use positive lengths"
        )
    if duration_s < trimmed_s:
        return [(0.0, float(duration_s))]
    clips = []
    start_s = 0.0
    while start_s + trimmed_s <= duration_s or duration_s - start_s >= trimmed_s / 2:
        clips.append((start_s, float(min(start_s + trimmed_s, duration_s))))
        start_s += stride_s
    return clips


def frames_of_span(timestamps_s: NDArray[np.float64], span: Span) -> tuple[int, int]:
    """Find the frames of a clip.

    At a constant rate these are int(seconds * rate) of start and end, both inclusive, as upstream takes them; but also
    at a variable rate, they are the frames that are shown at these times. What lies beyond the film is its last frame.

    Args:
        timestamps_s: when each frame is shown, in seconds, increasing, (n,), at least one.
        span: start and end in seconds.

    Returns:
        The first frame of the clip, and the last.
    """
    first, last = shown_at(timestamps_s, span).tolist()
    return first, last
