"""Moments of whole videos, best first, from a store that finds single windows.

The videos of the best windows are scored window by window, and only as many of them as are needed.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vmr.errors import IndexFileError
from vmr.retrieval.searching.moments import Moment, Scores, Spans
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.ranking import inner_products
from vmr.retrieval.vectors.store import Ids, Vectors

Merge = Callable[[Spans, Scores], list[Moment]]
Find = Callable[[int], tuple[Vectors, Ids]]
"""find(n) returns scores, best first, and ids of the n best windows; id -1 for none."""


@dataclass(frozen=True)
class Candidate:
    """A moment that may become a hit.

    Attributes:
        score: of its best window.
        video: its video.
        start_s: where it starts, in seconds.
        end_s: where it ends.
        window_id: its best window.
        span: start and end of this window, in seconds.
        vector: of this window, as it is stored, (D,).
    """

    score: float
    video: Video
    start_s: float
    end_s: float
    window_id: int
    span: tuple[float, float]
    vector: Vectors

    @property
    def rank(self) -> tuple[float, str, float, float, int]:
        """The lowest is the best; those that tie come in the order of the index."""
        return (-self.score, path_to_text(self.video.file), self.start_s, self.end_s, self.window_id)


@dataclass(frozen=True)
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

    @classmethod
    def of(cls, video: Video, space_id: int, query: Vectors, snapshot: Snapshot) -> "ScoredVideo":
        """Score the windows of a video against a query (D,).

        Raises:
            IndexFileError: windows or vectors of the video are missing or damaged.
        """
        ids = np.arange(video.first_window, video.first_window + video.num_windows)
        spans = snapshot.spans(video)
        vectors, is_there = snapshot.vectors(space_id, ids)
        if len(spans) != video.num_windows or not is_there.all():
            known = snapshot.hits(ids[is_there].tolist())
            raise _lost(next((number for number in ids.tolist() if number not in known), video.first_window))
        return cls(video, spans, inner_products(vectors, query), vectors)

    def candidates(self, merge: Merge) -> Iterator[Candidate]:
        """Yield the moments of the video."""
        for best, start_s, end_s in merge(self.spans, self.scores):
            span = (float(self.spans[best, 0]), float(self.spans[best, 1]))
            number = self.video.first_window + best
            score = float(self.scores[best])
            yield Candidate(score, self.video, start_s, end_s, number, span, self.vectors[best])


def best_candidates(
    find: Find, first: int, query: Vectors, snapshot: Snapshot, space_id: int, merge: Merge
) -> Iterator[Candidate]:
    """Yield moments, best first, as many as the caller takes.

    Args:
        find: searches windows.
        first: how many windows to ask for first.
        query: (D,).
        snapshot: of the index.
        space_id: the space that is searched.
        merge: makes moments of windows.

    Raises:
        IndexFileError: windows or vectors of a video are missing or damaged.
    """
    known: list[tuple[tuple[float, str, float, float, int], Candidate]] = []  # a heap
    scored: set[int] = set()  # windows
    for score, window_id in _windows(find, first):
        # A moment that is not known yet has no better score than the window that is next.
        while known and known[0][1].score > score:
            yield heapq.heappop(known)[1]
        if window_id is None or window_id in scored:
            continue
        video = snapshot.video_of_window(window_id)
        if video is None:
            raise _lost(window_id)
        scored.update(range(video.first_window, video.first_window + video.num_windows))
        for candidate in ScoredVideo.of(video, space_id, query, snapshot).candidates(merge):
            heapq.heappush(known, (candidate.rank, candidate))
    while known:
        yield heapq.heappop(known)[1]


def _windows(find: Find, first: int) -> Iterator[tuple[float, int | None]]:
    """Yield scores and ids of windows, best first, asking for twice as many whenever they run out.

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
        wanted *= 2


def _lost(window_id: int) -> IndexFileError:
    return IndexFileError(
        f"the index is damaged: window {window_id} has a vector and no row: see vmr-index verify, and build it again"
    )
