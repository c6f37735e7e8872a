"""From the scores of a video's windows to its moments.

Neighbours of a good window belong to its moment as far as they answer the query alike and look alike. Each has a share:
0 for a window that is as far from the best one as most of the video, 1 for one that is like it. Where windows overlap,
a window's score and vector are about the means over its seconds, so a neighbour with half a share shows the moment in
half of its time: a moment reaches to a side by the distances between the neighbours' starts times their shares.

Shapes: n windows of a video, D dimensions.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.retrieval.vectors.store import Mask, Vectors

Spans = NDArray[np.float64]
Scores = NDArray[np.float32]
Shares = NDArray[np.float64]

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


class Moment(NamedTuple):
    """A part of a video.

    Attributes:
        best: place of its best window among the video's windows.
        start_s: where it starts, in seconds.
        end_s: where it ends.
        is_whole: whether it is the row of a whole video that has windows as well.
    """

    best: int
    start_s: float
    end_s: float
    is_whole: bool = False


Merge = Callable[[Spans, Scores, Vectors], Iterator[Moment]]
"""Makes moments of start and end of windows in seconds (n, 2), their scores (n,) and vectors (n, D): best first."""


def single_windows(spans: Spans, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield each window as a moment; see `Merge`."""
    for place in np.lexsort((spans[:, 1], spans[:, 0], -scores)).tolist():
        yield Moment(place, *spans[place].tolist())


def merged_moments(spans: Spans, scores: Scores, vectors: Vectors) -> Iterator[Moment]:
    """Yield moments that do not overlap, and rows of the whole video; see `Merge`."""
    is_whole = whole_rows(spans)
    windows = np.flatnonzero(~is_whole)
    windows = windows[np.lexsort((spans[windows, 1], spans[windows, 0]))]
    whole = [Moment(row, float(spans[row, 0]), float(spans[row, 1]), True) for row in np.flatnonzero(is_whole).tolist()]
    return heapq.merge(
        (
            Moment(int(windows[best]), start_s, end_s)
            for best, start_s, end_s in _moments(spans[windows], scores[windows], vectors[windows])
        ),
        sorted(whole, key=lambda one: -scores[one.best]),
        key=lambda one: (-scores[one.best], one.start_s, one.end_s, one.best),
    )


def whole_rows(spans: Spans) -> Mask:
    """Tell which windows (n, 2) reach from the first start to the last end, while others do not: bool (n,)."""
    is_whole: Mask = (spans[:, 0] <= spans[:, 0].min()) & (spans[:, 1] >= spans[:, 1].max())
    return np.zeros_like(is_whole) if is_whole.all() else is_whole


def _moments(spans: Spans, scores: Scores, vectors: Vectors) -> Iterator[tuple[int, float, float]]:
    """Yield best window, start and end of each moment, best first; the windows are in the order of time."""
    starts, ends = spans.T
    values, units = scores.astype(np.float64), _units(vectors)
    base = float(np.quantile(values, BASE_QUANTILE))
    is_free = np.ones(len(spans), bool)
    for best in np.argsort(-scores, kind="stable").tolist():
        if not is_free[best]:
            continue
        likeness = np.einsum("nd,d->n", units, units[best]).astype(np.float64)  # no threads, which take longer to start
        looks_alike = _shares(likeness, float(np.quantile(likeness, BASE_QUANTILE)), 1.0)
        shares = (_shares(values, base, float(values[best])) + looks_alike) / 2
        start_s, first = _reach(starts, ends, best, shares, is_free)
        # To the right it is the same in a mirror.
        mirrored = (-ends[::-1], -starts[::-1], len(spans) - 1 - best, shares[::-1], is_free[::-1])
        minus_end_s, last = _reach(*mirrored)
        merged = slice(first, len(spans) - last)
        is_free &= (starts >= ends[merged].max()) | (ends <= starts[merged].min())
        is_free[merged] = False
        yield best, start_s, -minus_end_s


def _units(vectors: Vectors) -> Vectors:
    """Vectors (n, D) with length 1; those of length 0 stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    lengths[lengths == 0] = 1
    units: Vectors = vectors / lengths[:, None]
    return units


def _shares(values: NDArray[np.float64], base: float, peak: float) -> Shares:
    """Where values (n,) lie between the base, 0, and the peak, 1; the base is at least a little below the peak."""
    base = min(base, peak - LEAST_RISE * abs(peak))
    return (values - base) / (peak - base) if base < peak else np.where(values >= peak, 1.0, 0.0)


def _reach(starts: Shares, ends: Shares, best: int, shares: Shares, is_free: Mask) -> tuple[float, int]:
    """Return where a moment starts, and its first window."""
    overlap_s = 0.0
    if best:
        shared_s = min(ends[best - 1], ends[best]) - max(starts[best - 1], starts[best])
        overlap_s = max(0.0, min(shared_s, (ends[best] - starts[best]) / 2))
    start_s, part = starts[best] + overlap_s / 2, 1.0
    first = best
    while first and is_free[first - 1] and starts[first] - ends[first - 1] <= GAP_S:
        if shares[first - 1] <= APART + _ROUNDING:
            return float(start_s), first
        # Windows that do not overlap, such as shots, are not divided.
        is_divided = ends[first - 1] > starts[first]
        part = min(1.0, (shares[first - 1] - APART) / (LIKE - APART)) if is_divided else 1.0
        start_s -= max(0.0, starts[first] - starts[first - 1]) * part
        first -= 1
    return float(start_s - overlap_s / 2 * part), first
