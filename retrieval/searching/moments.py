"""From the scores of a video's windows to its moments.

Neighbours of a good window belong to its moment as far as they answer the query alike and look alike. Each has a share:
0 for a window that is as far from the best one as most of the video, 1 for one that is like it. Where windows overlap,
a window's score and vector are about the means over its seconds, so a neighbour with half a share shows the moment in
half of its time: a moment reaches to a side by the distances between the neighbours' starts times their shares.

Shapes: n windows of a video, D dimensions.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.retrieval.storage.records import Span
from vmr.retrieval.vectors.store import Mask, Vectors

Spans = NDArray[np.float64]
Scores = NDArray[np.float32]

# Chosen on one half of 60 joined videos and tried on the other: `python -m benchmarks.moments`.
BASE_QUANTILE = 0.25
"""The base of a video: this share of its windows is below it."""

LEAST_RISE = 0.2
"""The best window rises above the base by at least this part of its own value, or all windows are alike."""

APART, LIKE = 0.5, 0.8
"""A neighbour up to the first ends a moment, one from the second on belongs to it for all its time."""

GAP_S = 1.0
"""Windows that are no further apart follow each other."""

_ROUNDING = 1e-5  # of a share


class Moment:
    """A part of a video. Its start and end are computed when they are asked for: many moments become no hits.

    Attributes:
        best: place of its best window among the video's windows.
        is_whole: whether it is the row of a whole video that has windows as well.
    """

    __slots__ = ("_extent", "_find_extent", "best", "is_whole")

    def __init__(self, best: int, find_extent: Callable[[], Span], is_whole: bool = False) -> None:
        self.best, self.is_whole = best, is_whole
        self._find_extent = find_extent
        self._extent: Span | None = None

    @property
    def extent(self) -> Span:
        """Where it starts and where it ends, in seconds."""
        if self._extent is None:
            self._extent = self._find_extent()
        return self._extent

    @property
    def start_s(self) -> float:
        """Where it starts, in seconds."""
        return self.extent[0]

    @property
    def end_s(self) -> float:
        """Where it ends."""
        return self.extent[1]


class Windows:
    """The windows of a video, as far as no query is needed; their vectors are not kept.

    Args:
        spans: start and end of each in seconds, (n, 2).
        vectors: of each, (n, D).

    Attributes:
        spans: as given.
        whole: places of rows of the whole video, see `whole_rows`.
        places: places of the others, in the order of time, (m,).
        is_in_order: whether these are all windows, in the order in which they are given.
        starts: where the others start, in seconds, (m,).
        ends: where they end.
        edges: the same two as lists.
        is_regular: whether they also end in the order of time.
        mirrored: the same lists of the video played backwards from time 0.
        inverse_lengths: one over the lengths of their vectors, (m,); 1 for a length of 0.
    """

    def __init__(self, spans: Spans, vectors: Vectors) -> None:
        self.spans = spans
        is_whole = whole_rows(spans)
        order = np.lexsort((spans[:, 1], spans[:, 0]))
        self.whole: list[int] = np.flatnonzero(is_whole).tolist()
        self.places = order[~is_whole[order]]
        self.is_in_order = np.array_equal(self.places, np.arange(len(spans)))
        self.starts, self.ends = np.ascontiguousarray(spans[self.places].T)
        self.edges = self.starts.tolist(), self.ends.tolist()
        self.is_regular = bool((np.diff(self.ends) >= 0).all())
        self.mirrored = (-self.ends[::-1]).tolist(), (-self.starts[::-1]).tolist()
        own = self.own(vectors)
        lengths = np.sqrt(np.einsum("nd,nd->n", own, own))
        lengths[lengths == 0] = 1
        self.inverse_lengths = 1 / lengths

    def own(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values (m, ...) of windows that are no rows of the whole video, given all (n, ...)."""
        return values if self.is_in_order else values[self.places]

    def overlapping(self, first: int, last: int) -> slice | Mask:
        """Tell which windows overlap some that follow each other, or are among them."""
        starts, ends = self.edges
        if not self.is_regular:
            lowest, highest = self.starts[first : last + 1].min(), self.ends[first : last + 1].max()
            overlap: Mask = (self.starts < highest) & (self.ends > lowest)
            overlap[first : last + 1] = True
            return overlap
        lowest, highest = starts[first], ends[last]
        while first and ends[first - 1] > lowest:
            first -= 1
        while last + 1 < len(starts) and starts[last + 1] < highest:
            last += 1
        return slice(first, last + 1)

    def moment(self, place: int, is_whole: bool = False) -> Moment:
        """Return a window as a moment."""
        return Moment(place, lambda: (float(self.spans[place, 0]), float(self.spans[place, 1])), is_whole)


Merge = Callable[[Windows, Scores, Vectors], Iterator[Moment]]
"""Makes moments of windows, their scores (n,) and their vectors (n, D): best first."""


def single_windows(windows: Windows, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield each window as a moment; see `Merge`."""
    for place in np.lexsort((windows.spans[:, 1], windows.spans[:, 0], -scores)).tolist():
        yield windows.moment(place)


def merged_moments(windows: Windows, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield moments that do not overlap, and rows of the whole video; see `Merge`."""
    if len(windows.spans) == 1:
        return iter((windows.moment(0),))
    moments = _moments(windows, windows.own(scores), windows.own(vectors))
    if not windows.whole:
        return moments
    return heapq.merge(
        moments,
        sorted((windows.moment(row, is_whole=True) for row in windows.whole), key=lambda one: -scores[one.best]),
        key=lambda one: (-scores[one.best], one.start_s, one.end_s, one.best),
    )


def whole_rows(spans: Spans) -> Mask:
    """Tell which windows (n, 2) reach from the first start to the last end, while others do not: bool (n,)."""
    is_whole: Mask = (spans[:, 0] <= spans[:, 0].min()) & (spans[:, 1] >= spans[:, 1].max())
    return np.zeros_like(is_whole) if is_whole.all() else is_whole


def _moments(windows: Windows, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield moments, best first; without the rows of the whole video."""
    base, last = _quantile(scores), len(scores) - 1
    is_free = np.ones(len(scores), bool)

    def extent(best: int) -> Span:
        likeness = np.einsum("nd,d->n", vectors, vectors[best])  # no threads, which take longer to start
        likeness *= windows.inverse_lengths * windows.inverse_lengths[best]
        shares = _Shares(scores, likeness, base, best)
        start_s, first = _reach(*windows.edges, best, shares.of, is_free)
        # To the right it is the same in a mirror.
        minus_end_s, left = _reach(*windows.mirrored, last - best, lambda place: shares.of(last - place), is_free[::-1])
        is_free[windows.overlapping(first, last - left)] = False
        return start_s, -minus_end_s

    for best in (-scores).argsort(kind="stable").tolist():
        if is_free[best]:
            moment = Moment(int(windows.places[best]), partial(extent, best))
            yield moment
            _ = moment.extent  # which windows are free depends on it


class _Shares:
    """How far windows belong to the moment of a window.

    Args:
        scores: of the windows, (n,).
        likeness: cosines of the windows and the best one, (n,).
        base: of the scores.
        best: the place of the best window.
    """

    def __init__(self, scores: Scores, likeness: Scores, base: float, best: int) -> None:
        self._scores, self._likeness = scores, likeness
        peak = float(scores[best])
        self._ranges = (_range(base, peak), _range(_quantile(likeness), 1.0))

    def of(self, place: int) -> float:
        """The share of a window."""
        (base, peak), (like_base, like_peak) = self._ranges
        return (
            _share(float(self._scores[place]), base, peak) + _share(float(self._likeness[place]), like_base, like_peak)
        ) / 2


def _range(base: float, peak: float) -> tuple[float, float]:
    """The values whose shares are 0 and 1: the base is at least a little below the peak."""
    return min(base, peak - LEAST_RISE * abs(peak)), peak


def _share(value: float, base: float, peak: float) -> float:
    """Where a value lies between the base and the peak."""
    return (value - base) / (peak - base) if base < peak else float(value >= peak)


def _quantile(values: Scores) -> float:
    """The base of some values (n,): `np.quantile`, which takes ten times as long for a few."""
    place = BASE_QUANTILE * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    ordered = values.copy()
    ordered.partition((low, high))
    below, above = float(ordered[low]), float(ordered[high])
    return below + (above - below) * (place - low)


def _reach(
    starts: Sequence[float], ends: Sequence[float], best: int, share: Callable[[int], float], is_free: Mask
) -> tuple[float, int]:
    """Return where a moment starts, and its first window."""
    overlap_s = 0.0
    if best:
        shared_s = min(ends[best - 1], ends[best]) - max(starts[best - 1], starts[best])
        overlap_s = max(0.0, min(shared_s, (ends[best] - starts[best]) / 2))
    start_s, part = starts[best] + overlap_s / 2, 1.0
    first = best
    while first and is_free[first - 1] and starts[first] - ends[first - 1] <= GAP_S:
        own = share(first - 1)
        if own <= APART + _ROUNDING:
            return start_s, first
        # Windows that do not overlap, such as shots, are not divided.
        is_divided = ends[first - 1] > starts[first]
        part = min(1.0, (own - APART) / (LIKE - APART)) if is_divided else 1.0
        start_s -= max(0.0, starts[first] - starts[first - 1]) * part
        first -= 1
    return start_s - overlap_s / 2 * part, first
