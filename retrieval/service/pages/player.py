"""What the player shows: a video, the moment in it, and a strip of how well each part of it answers the query."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.media.playback import Playback
from vmr.retrieval.service.schemas import CurvePoint, VideoDetails

_WIDTH, _HEIGHT = 1000, 40  # of the strip, in its own units
_MAX_BARS = 200
_LOWEST_LEVEL = 0.06
_ROUNDED_S = 0.001  # by which a time of an address may be wrong


class Bar(NamedTuple):
    """A rectangle of the strip, in its units."""

    x: float
    y: float
    width: float
    height: float
    opacity: float


@dataclass(frozen=True)
class Player:
    """A video that is open.

    Attributes:
        video: what is known of it.
        playback: how it is played; None if it cannot be.
        trouble: why it cannot be played, if that is known.
        moment_id: number of the moment; None for a video that was opened as a whole.
        start_s: where the moment begins, in seconds of the video.
        end_s: where it ends.
    """

    video: VideoDetails
    playback: Playback | None
    trouble: str | None
    moment_id: int | None
    start_s: float
    end_s: float

    @property
    def has_captions(self) -> bool:
        """Whether any text of the video belongs to a part of it."""
        return any(text.start_s is not None for text in self.video.texts)

    @property
    def bars(self) -> list[Bar]:
        """The strip of the whole video; empty if nothing is looked for."""
        return bars(self.video.curve or [], self.video.duration_s)

    @property
    def range_x(self) -> float:
        """Where the moment begins in the strip."""
        return self._x(self.start_s)

    @property
    def range_width(self) -> float:
        """How wide the moment is in the strip."""
        return round(self._x(self.end_s) - self.range_x, 1)

    def _x(self, seconds: float) -> float:
        duration_s = self.video.duration_s
        return round(_WIDTH * min(seconds / duration_s, 1), 1) if duration_s > 0 else 0.0


def span_within(span: tuple[float, float], duration_s: float) -> tuple[float, float]:
    """Return the part of a moment that lies in its video.

    Args:
        span: start and end, as an address names them.
        duration_s: of the video.

    Raises:
        NotFound: the video ends before the moment.
    """
    start_s, end_s = span
    if start_s > duration_s + _ROUNDED_S:
        raise NotFound(f"at: the video is {duration_s:.1f} s long, so there is no moment at {start_s:.1f} s")
    return min(start_s, duration_s), min(max(start_s, end_s), duration_s)


def bars(curve: Sequence[CurvePoint], duration_s: float) -> list[Bar]:
    """Draw how well each part of a video answers a query.

    Args:
        curve: start, end, score and match of windows, which may overlap. The best window of a place counts. A window
            is as high as its match. Where there are no matches, it is as high as its score between the lowest and the
            highest of the video.
        duration_s: of the video.

    Returns:
        Rectangles from left to right, of which none are as high as their neighbours.
    """
    if not curve or duration_s <= 0:
        return []
    if all(point.match is not None for point in curve):
        levels = [float(point.match or 0) for point in curve]
    else:
        scores = np.array([point.score for point in curve])
        spread = np.ptp(scores)
        levels = ((scores - scores.min()) / spread).tolist() if spread else [0.5] * len(curve)
    heights = np.zeros(_MAX_BARS)
    edges = np.linspace(0, duration_s, _MAX_BARS + 1)
    for point, level in zip(curve, levels, strict=True):
        first = int(np.searchsorted(edges, point.start_s, "right")) - 1
        last = int(np.searchsorted(edges, point.end_s, "left"))
        part = heights[max(first, 0) : max(last, first + 1)]
        np.maximum(part, max(level, _LOWEST_LEVEL), out=part)
    found, place = [], 0
    for level, run in groupby(np.round(heights, 2)):
        count = len(list(run))
        x, width = place * _WIDTH / _MAX_BARS, count * _WIDTH / _MAX_BARS
        if level > 0:
            height = round(float(level) * _HEIGHT, 1)
            found.append(Bar(x, round(_HEIGHT - height, 1), width, height, round(0.3 + 0.7 * float(level), 2)))
        place += count
    return found
