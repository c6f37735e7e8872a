"""Moments of whole videos, best first, from a store that finds single windows.

The videos of the best windows are scored window by window, and only as many of them as are needed.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vmr.errors import IndexFileError
from vmr.retrieval.searching.moments import Merge, Moment, Scores, Windows
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import Space, Span, Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.held_rows import HeldRows
from vmr.retrieval.vectors.ranking import inner_products
from vmr.retrieval.vectors.store import Ids, Vectors

_MORE = 4  # times as many windows are asked for if those that were found are not enough

Rank = tuple[float, str, float, float, int]
Find = Callable[[int], tuple[Vectors, Ids]]
"""find(n) returns scores, best first, and ids of the n best windows; id -1 for none."""


@dataclass(frozen=True, eq=False)
class ScoredVideo:
    """All windows of a video that have a vector in a space, with their scores.

    Attributes:
        video: the video.
        windows: its windows, n of them.
        scores: (n,).
        vectors: as they are stored, (n, D).
    """

    video: Video
    windows: Windows
    scores: Scores
    vectors: Vectors

    def candidates(self, merge: Merge) -> Iterator["Candidate"]:
        """Yield the moments of the video, best first."""
        path = path_to_text(self.video.file)
        for moment in merge(self.windows, self.scores, self.vectors):
            yield Candidate(self, path, moment)


class Candidate:
    """A moment that may become a hit.

    Args:
        scored: its video.
        path: of the video, as indexes write and order it.
        moment: its part of the video.

    Attributes:
        scored: as given.
        video: its video.
        score: of its best window.
        window_id: its best window.
        moment: as given.
    """

    __slots__ = ("_path", "_rank", "moment", "score", "scored", "video", "window_id")

    def __init__(self, scored: ScoredVideo, path: str, moment: Moment) -> None:
        self.scored, self.video, self.moment = scored, scored.video, moment
        self.score = float(scored.scores[moment.best])
        self.window_id = scored.video.first_window + moment.best
        self._path = path
        self._rank: Rank | None = None

    def over(self, start_s: float, end_s: float) -> "Candidate":
        """Return one with the same best window that is another part of the video."""
        return Candidate(self.scored, self._path, Moment(self.moment.best, lambda: (start_s, end_s)))

    @property
    def start_s(self) -> float:
        """Where it starts, in seconds."""
        return self.moment.extent[0]

    @property
    def end_s(self) -> float:
        """Where it ends, in seconds."""
        return self.moment.extent[1]

    @property
    def is_whole(self) -> bool:
        """Whether it is the row of a whole video that has windows as well."""
        return self.moment.is_whole

    @property
    def span(self) -> Span:
        """Start and end of its best window, in seconds."""
        start_s, end_s = self.scored.windows.spans[self.moment.best].tolist()
        return start_s, end_s

    @property
    def vector(self) -> Vectors:
        """The vector of its best window, as it is stored, (D,)."""
        vector: Vectors = self.scored.vectors[self.moment.best]
        return vector

    @property
    def rank(self) -> Rank:
        """The lowest is the best; those that tie come in the order of the index."""
        if self._rank is None:
            self._rank = (-self.score, self._path, *self.moment.extent, self.window_id)
        return self._rank

    @property
    def best_rank(self) -> Rank:
        """A rank that comes before `rank`, known before start and end are."""
        return (-self.score, self._path, -math.inf, -math.inf, -1)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a space, to be compared with a query.

    Attributes:
        snapshot: of the index.
        space: which space.
        query: the vector (D,).
        find: searches windows.
        total: how many windows it can find, at most.
        held: the rows in memory; None to read them from the database.
        cut: first window -> windows of videos that were scored before; only with rows in memory.
    """

    snapshot: Snapshot
    space: Space
    query: Vectors
    find: Find
    total: int
    held: HeldRows | None = None
    cut: dict[int, Windows] = field(default_factory=dict)

    def video_of(self, window_id: int) -> Video:
        """Return the video of a window.

        Raises:
            IndexFileError: it is missing.
        """
        held = self.held
        video = self.snapshot.video_of_window(window_id) if held is None else held.video_of(window_id)
        if video is None:
            raise lost_window(window_id)
        return video

    def scored(self, video: Video) -> ScoredVideo:
        """Score all windows of a video.

        Raises:
            IndexFileError: windows or vectors of the video are missing or damaged.
        """
        if self.held is not None and len(vectors := self.held.vectors_of(video)) == video.num_windows:
            windows = self.cut.get(video.first_window)
            if windows is None:
                windows = self.cut[video.first_window] = Windows(self.held.spans(video).copy(), vectors)
            return ScoredVideo(video, windows, inner_products(vectors, self.query), vectors)
        ids = np.arange(video.first_window, video.first_window + video.num_windows)
        spans = self.snapshot.spans(video)
        vectors, is_there = self.snapshot.vectors(self.space.id, ids)
        if len(spans) != video.num_windows or not is_there.all():
            known = self.snapshot.hits(ids[is_there].tolist())
            raise lost_window(next((number for number in ids.tolist() if number not in known), video.first_window))
        return ScoredVideo(video, Windows(spans, vectors), inner_products(vectors, self.query), vectors)


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
