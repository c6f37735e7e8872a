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
        self._find_extent, self._extent = find_extent, None

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


Merge = Callable[[Spans, Scores, Vectors], Iterator[Moment]]
"""Makes moments of start and end of windows in seconds (n, 2), their scores (n,) and vectors (n, D): best first."""


def single_windows(spans: Spans, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield each window as a moment; see `Merge`."""
    for place in np.lexsort((spans[:, 1], spans[:, 0], -scores)).tolist():
        yield _window(spans, place)


def merged_moments(spans: Spans, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield moments that do not overlap, and rows of the whole video; see `Merge`."""
    if len(spans) == 1:
        yield _window(spans, 0)
        return
    is_whole = whole_rows(spans)
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    windows = order[~is_whole[order]]
    moments = _moments(spans[windows], scores[windows], vectors[windows], windows)
    if not is_whole.any():
        yield from moments
        return
    whole = [_window(spans, row, is_whole=True) for row in np.flatnonzero(is_whole).tolist()]
    yield from heapq.merge(
        moments,
        sorted(whole, key=lambda one: -scores[one.best]),
        key=lambda one: (-scores[one.best], one.start_s, one.end_s, one.best),
    )


def whole_rows(spans: Spans) -> Mask:
    """Tell which windows (n, 2) reach from the first start to the last end, while others do not: bool (n,)."""
    is_whole: Mask = (spans[:, 0] <= spans[:, 0].min()) & (spans[:, 1] >= spans[:, 1].max())
    return np.zeros_like(is_whole) if is_whole.all() else is_whole


def _window(spans: Spans, place: int, is_whole: bool = False) -> Moment:
    return Moment(place, lambda: (float(spans[place, 0]), float(spans[place, 1])), is_whole)


def _moments(spans: Spans, scores: Scores, vectors: Vectors, places: NDArray[np.int64]) -> Iterator[Moment]:
    """Yield moments, best first; the windows are in the order of time, and have these places in the video."""
    starts, ends = spans.T
    edges = starts.tolist(), ends.tolist()
    # To the right it is the same in a mirror.
    mirrored_edges = (-ends[::-1]).tolist(), (-starts[::-1]).tolist()
    values, units = scores.astype(np.float64), _units(vectors)
    base, last = _quantile(values), len(spans) - 1
    is_free = np.ones(len(spans), bool)

    def extent(best: int) -> Span:
        likeness = np.einsum("nd,d->n", units, units[best]).astype(np.float64)  # no threads, which take longer to start
        peak, like_base = float(values[best]), _quantile(likeness)

        def share(place: int) -> float:
            like = _share(float(likeness[place]), like_base, 1.0)
            return (_share(float(values[place]), base, peak) + like) / 2

        start_s, first = _reach(*edges, best, share, is_free)
        minus_end_s, left = _reach(*mirrored_edges, last - best, lambda place: share(last - place), is_free[::-1])
        merged = slice(first, len(spans) - left)
        is_free[(starts < ends[merged].max()) & (ends > starts[merged].min())] = False
        is_free[merged] = False
        return start_s, -minus_end_s

    for best in np.argsort(-scores, kind="stable").tolist():
        if is_free[best]:
            moment = Moment(int(places[best]), partial(extent, best))
            yield moment
            _ = moment.extent  # which windows are free depends on it


def _units(vectors: Vectors) -> Vectors:
    """Vectors (n, D) with length 1; those of length 0 stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    lengths[lengths == 0] = 1
    units: Vectors = vectors / lengths[:, None]
    return units


def _quantile(values: NDArray[np.float64]) -> float:
    """The base of some values (n,): `np.quantile`, which takes ten times as long for a few."""
    place = BASE_QUANTILE * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    ordered = values.copy()
    ordered.partition((low, high))
    below, above = float(ordered[low]), float(ordered[high])
    return below + (above - below) * (place - low)


def _share(value: float, base: float, peak: float) -> float:
    """Where a value lies between the base, 0, and the peak, 1; the base is at least a little below the peak."""
    base = min(base, peak - LEAST_RISE * abs(peak))
    return (value - base) / (peak - base) if base < peak else float(value >= peak)


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
