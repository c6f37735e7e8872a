"""Moments of whole videos, best first, from a store that finds single windows.

The videos of the best windows are scored window by window, and only as many of them as are needed.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vmr.errors import IndexFileError
from vmr.retrieval.searching.moments import Merge, Moment, Scores, Spans
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import Space, Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.ranking import inner_products
from vmr.retrieval.vectors.store import Ids, Vectors

_MORE = 4  # times as many windows are asked for if those that were found are not enough

Rank = tuple[float, str, float, float, int]
Find = Callable[[int], tuple[Vectors, Ids]]
"""find(n) returns scores, best first, and ids of the n best windows; id -1 for none."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A moment that may become a hit.

    Attributes:
        score: of its best window.
        video: its video.
        path: of the video, as indexes write and order it.
        window_id: its best window.
        span: start and end of this window, in seconds.
        vector: of this window, as it is stored, (D,).
        moment: its part of the video.
    """

    score: float
    video: Video
    path: str
    window_id: int
    span: tuple[float, float]
    vector: Vectors
    moment: Moment

    @property
    def start_s(self) -> float:
        """Where it starts, in seconds."""
        return self.moment.start_s

    @property
    def end_s(self) -> float:
        """Where it ends, in seconds."""
        return self.moment.end_s

    @property
    def is_whole(self) -> bool:
        """Whether it is the row of a whole video that has windows as well."""
        return self.moment.is_whole

    @property
    def rank(self) -> Rank:
        """The lowest is the best; those that tie come in the order of the index."""
        return (-self.score, self.path, *self.moment.extent, self.window_id)

    @property
    def best_rank(self) -> Rank:
        """A rank that comes before `rank`, known before start and end are."""
        return (-self.score, self.path, -math.inf, -math.inf, -1)


@dataclass(frozen=True, eq=False)
class ScoredVideo:
    """All windows of a video that have a vector in a space, with their scores.

    Attributes:
        video: the video.
        spans: start and end of each window, in seconds, (n, 2).
        scores: (n,).
        vectors: as they are stored, (n, D).
    """

    video: Video
    spans: Spans
    scores: Scores
    vectors: Vectors

    def candidates(self, merge: Merge) -> Iterator[Candidate]:
        """Yield the moments of the video, best first."""
        path = path_to_text(self.video.file)
        for moment in merge(self.spans, self.scores, self.vectors):
            best = moment.best
            start_s, end_s = self.spans[best].tolist()
            number, score = self.video.first_window + best, float(self.scores[best])
            yield Candidate(score, self.video, path, number, (start_s, end_s), self.vectors[best], moment)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a space, to be compared with a query.

    Attributes:
        snapshot: of the index.
        space: which space.
        query: the vector (D,).
        find: searches windows.
        total: how many windows it can find, at most.
    """

    snapshot: Snapshot
    space: Space
    query: Vectors
    find: Find
    total: int

    def video_of(self, window_id: int) -> Video:
        """Return the video of a window.

        Raises:
            IndexFileError: it is missing.
        """
        video = self.snapshot.video_of_window(window_id)
        if video is None:
            raise lost_window(window_id)
        return video

    def scored(self, video: Video) -> ScoredVideo:
        """Score all windows of a video.

        Raises:
            IndexFileError: windows or vectors of the video are missing or damaged.
        """
        ids = np.arange(video.first_window, video.first_window + video.num_windows)
        spans = self.snapshot.spans(video)
        vectors, is_there = self.snapshot.vectors(self.space.id, ids)
        if len(spans) != video.num_windows or not is_there.all():
            known = self.snapshot.hits(ids[is_there].tolist())
            raise lost_window(next((number for number in ids.tolist() if number not in known), video.first_window))
        return ScoredVideo(video, spans, inner_products(vectors, self.query), vectors)


def best_candidates(rows: Rows, first: int, merge: Merge) -> Iterator[Candidate]:
    """Yield moments, best first, as many as the caller takes.

    Args:
        rows: where to search.
        first: how many windows to ask for first.
        merge: makes moments of windows.

    Raises:
        IndexFileError: windows or vectors of a video are missing or damaged.
    """
    known: list[tuple[Rank, Candidate, Iterator[Candidate]]] = []  # a heap: of each video the next best moment
    scored: set[int] = set()  # windows

    def next_best(certain_above: float) -> Iterator[Candidate]:
        while known and known[0][1].score > certain_above:
            rank, moment, others = known[0]
            if rank < moment.rank:  # its own rank takes time, and is needed only for those that come first
                heapq.heapreplace(known, (moment.rank, moment, others))
                continue
            yield moment
            following = next(others, None)
            if following is None:
                heapq.heappop(known)
            else:
                heapq.heapreplace(known, (following.best_rank, following, others))

    for score, window_id in _windows(rows.find, first):
        # A moment that is not known yet has no better score than the window that is next.
        yield from next_best(score)
        if window_id is None or window_id in scored:
            continue
        video = rows.video_of(window_id)
        scored.update(range(video.first_window, video.first_window + video.num_windows))
        moments = rows.scored(video).candidates(merge)
        best = next(moments)
        heapq.heappush(known, (best.best_rank, best, moments))
        if len(scored) >= rows.total:
            break
    yield from next_best(-np.inf)


def _windows(find: Find, first: int) -> Iterator[tuple[float, int | None]]:
    """Yield scores and ids of windows, best first, asking for more whenever they run out.

    Before it asks for more, it yields the score that none of these exceeds, and None.
    """
    wanted = first
    passed: set[int] = set()
    while True:
        scores, ids = find(wanted)
        is_found = ids >= 0
        is_all = not is_found.all()
        # Windows that were not found may tie with the last ones that were, and come before them.
        is_certain = is_found if is_all else scores > scores.min()
        for score, window_id in zip(scores[is_certain].tolist(), ids[is_certain].tolist(), strict=True):
            if window_id not in passed:
                passed.add(window_id)
                yield score, window_id
        if is_all:
            return
        yield float(scores.min()), None
        wanted *= _MORE


def lost_window(window_id: int) -> IndexFileError:
    """Return an error that says that a window has a vector and no row."""
    return IndexFileError(
        f"the index is damaged: window {window_id} has a vector and no row: see vmr-index verify, and build it again"
    )
