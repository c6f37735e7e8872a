"""How videos are cut into segments before they are embedded. Each segment becomes one row of an index."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vmr.checks import real_number
from vmr.data.decoding.segments import Span, VideoFacts
from vmr.errors import VmrError


@dataclass(frozen=True)
class FixedWindows:
    """Windows of equal length that together cover a video; a `vmr.data.decoding.segments.Segmenter`.

    The last window ends with the video, and no window lies wholly inside the window before it: a video of 10 s, with
    windows of 8 s every 4 s, gives (0, 8) and (4, 10).

    Attributes:
        window_s: length of a window in seconds.
        stride_s: seconds from the start of one window to the start of the next; None for `window_s` (no overlap).

    Raises:
        VmrError: a length is not positive, or windows would leave gaps.
    """

    window_s: float
    stride_s: float | None = None

    def __post_init__(self) -> None:
        real_number("window_s", self.window_s)
        real_number("stride_s", self._stride_s)
        if not 0 < self.window_s < math.inf:
            raise VmrError("window_s must be positive and finite")
        if not 0 < self._stride_s <= self.window_s:
            raise VmrError("stride_s must be positive and at most window_s, or frames are left out")

    @property
    def _stride_s(self) -> float:
        return self.window_s if self.stride_s is None else self.stride_s

    @property
    def settings(self) -> Mapping[str, float | None]:
        """The settings that the spans depend on, as JSON types."""
        return {"window_s": self.window_s, "stride_s": self.stride_s}

    def spans(self, video: VideoFacts) -> list[Span]:
        """Return the windows of a video in order."""
        if video.duration_s <= self.window_s:
            return [(0.0, video.duration_s)]
        # Window k is needed only if window k - 1 ends before the video does. Starts are computed from k, so that
        # rounding errors do not add up.
        num_windows = 1 + int(np.ceil((video.duration_s - self.window_s) / self._stride_s - 1e-9))
        starts = (k * self._stride_s for k in range(num_windows))
        return [(start_s, min(start_s + self.window_s, video.duration_s)) for start_s in starts]


def window_segmenter(window_s: float | None, stride_s: float | None = None) -> FixedWindows | None:
    """Return windows of `window_s` seconds every `stride_s` (None: half a window); None for whole videos.

    Raises:
        VmrError: a number is out of range, or there is a stride without windows.
    """
    if window_s is None:
        if stride_s is not None:
            raise VmrError("stride_s needs window_s: give both or none")
        return None
    window_s = real_number("window_s", window_s)
    return FixedWindows(window_s, window_s / 2 if stride_s is None else real_number("stride_s", stride_s))
