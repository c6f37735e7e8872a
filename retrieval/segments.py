"""How videos are cut into segments before they are embedded. Each segment becomes one row of an index."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from vmr.checks import check_type, real_number, require_extra
from vmr.data.decoding.segments import Span, VideoFacts
from vmr.errors import VmrError

Segments = Literal["fixed", "shots", "whole"]
"""How a video is cut: into windows of equal length, at the cuts between shots, or not at all."""

WhichFrames = Literal["all", "keyframes"]
"""Which frames of a video may be taken: any, or key frames only."""

_ROUNDING_S = 1e-6


def _check_window(window_s: float) -> None:
    if not 0 < real_number("window_s", window_s) < math.inf:
        raise VmrError("window_s must be positive and finite")


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
        _check_window(self.window_s)
        if not 0 < real_number("stride_s", self._stride_s) <= self.window_s:
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


@dataclass(frozen=True)
class ShotWindows:
    """Shots of a video, none of which is very long or very short; a `vmr.data.decoding.segments.Segmenter`.

    The shortest shot that is shorter than `min_s` is joined with the shorter one of its neighbours, again and again
    until none is so short. Then each shot that is longer than `window_s` is split into as few equal parts as are not.
    With windows of 8 s, shots of 5 s, 1 s, 3 s and 20 s give windows of 5 s, 4 s and three of 6.67 s.

    Attributes:
        window_s: the length that no window exceeds, in seconds.
        min_s: the least length of a shot, in seconds; None for a quarter of `window_s`.

    Raises:
        VmrError: a length is not positive, or `min_s` is greater than `window_s`.
    """

    window_s: float
    min_s: float | None = None

    needs_cuts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_window(self.window_s)
        if not 0 < real_number("min_s", self._min_s) <= self.window_s:
            raise VmrError("min_s must be positive and at most window_s")

    @property
    def _min_s(self) -> float:
        return self.window_s / 4 if self.min_s is None else self.min_s

    @property
    def settings(self) -> Mapping[str, float]:
        """The settings that the spans depend on, as JSON types."""
        return {"window_s": self.window_s, "min_s": self._min_s}

    def spans(self, video: VideoFacts) -> list[Span]:
        """Return the windows of a video in order."""
        inner = [cut_s for cut_s in video.cuts_s or () if 0 < cut_s < video.duration_s]
        edges = self._without_short_shots([0.0, *inner, video.duration_s])
        spans: list[Span] = []
        for start_s, end_s in itertools.pairwise(edges):
            parts = max(1, math.ceil((end_s - start_s) / self.window_s - 1e-9))
            times = np.linspace(start_s, end_s, parts + 1).tolist()
            spans += itertools.pairwise(times)
        return spans

    def _without_short_shots(self, edges: list[float]) -> list[float]:
        """Remove the edges of short shots until none is left, or only one shot."""
        while len(edges) > 2:
            lengths = np.diff(edges)
            shot = int(lengths.argmin())
            if lengths[shot] >= self._min_s - _ROUNDING_S:
                break
            before, after = (lengths[place] if 0 <= place < len(lengths) else np.inf for place in (shot - 1, shot + 1))
            del edges[shot if before <= after else shot + 1]
        return edges


@dataclass(frozen=True)
class WithWholeVideo:
    """The spans of another segmenter, and for each video that has several of them also the whole video as the last.

    Attributes:
        parts: the other segmenter.
    """

    parts: FixedWindows | ShotWindows

    @property
    def needs_cuts(self) -> bool:
        """Whether the other segmenter needs the cuts of a video."""
        return isinstance(self.parts, ShotWindows)

    @property
    def window_s(self) -> float:
        """The length of a full span of the other segmenter, which the grid of frames follows."""
        return self.parts.window_s

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the spans depend on, as JSON types."""
        return {"parts": type(self.parts).__qualname__, **self.parts.settings}

    def spans(self, video: VideoFacts) -> list[Span]:
        """Return the spans of a video."""
        spans = list(self.parts.spans(video))
        return spans if len(spans) == 1 else [*spans, (0.0, video.duration_s)]


@dataclass(frozen=True)
class SegmentOptions:
    """How videos are cut into rows of an index, and which frames are taken.

    Attributes:
        segments: "fixed" for windows of equal length, "shots" for windows that begin at cuts, "whole" for one row for
            each video.
        window_s: seconds that a window covers, or with shots at most covers; None means whole videos.
        stride_s: seconds from the start of a fixed window to the start of the next; None for half a window.
        whole_video: whether a video of several windows also has a row for the whole of it.
        frames: "keyframes" takes the nearest key frame in place of each frame: faster, and worse.
        skip_still: frames that differ by less than this, on average over all pixels in [0, 1], from the last frame
            before them that was encoded, are not encoded again; for encoders that encode single frames. 0 encodes all.

    Raises:
        VmrError: a value is unknown or out of range, or two do not go together.
    """

    segments: Segments = "fixed"
    window_s: float | None = 8.0
    stride_s: float | None = None
    whole_video: bool = False
    frames: WhichFrames = "all"
    skip_still: float = 0.0

    def __post_init__(self) -> None:
        check_type("whole_video", self.whole_video, bool)
        for option, known in (("segments", get_args(Segments)), ("frames", get_args(WhichFrames))):
            if getattr(self, option) not in known:
                raise VmrError(f"{option} must be one of {', '.join(known)}, not {getattr(self, option)!r}")
        if not 0 <= real_number("skip_still", self.skip_still) < 1:
            raise VmrError(f"skip_still is {self.skip_still}: expected a number in [0, 1)")
        if self.segments == "shots" and self.stride_s is not None:
            raise VmrError("stride_s is for fixed windows: shots do not overlap")
        if self.segments == "shots" and self.window_s is None:
            raise VmrError("shots need window_s, the length that no window exceeds")
        if self.segments == "shots":
            require_extra("shots", "scenedetect")
        self.segmenter()

    @property
    def is_whole(self) -> bool:
        """Whether each video is one row."""
        return self.segments == "whole" or self.window_s is None

    def segmenter(self) -> FixedWindows | ShotWindows | WithWholeVideo | None:
        """Return what cuts videos so; None for whole videos."""
        windows = window_segmenter(None if self.is_whole else self.window_s, self.stride_s)
        parts = ShotWindows(windows.window_s) if windows is not None and self.segments == "shots" else windows
        return WithWholeVideo(parts) if parts is not None and self.whole_video else parts


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
