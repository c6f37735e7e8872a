"""The search of one space of an index: checks what is wanted, and finds moments."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from vmr.checks import check_type, real_number, whole_number
from vmr.errors import VmrError
from vmr.retrieval.results import Hit
from vmr.retrieval.searching.candidates import Candidate, ScoredVideo, best_candidates
from vmr.retrieval.searching.distinct import Kept, distinct
from vmr.retrieval.searching.filters import parsed
from vmr.retrieval.searching.moments import merged_moments, single_windows
from vmr.retrieval.searching.query import Query
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.where import Where
from vmr.retrieval.vectors.store import Ids, Vectors

_WINDOWS_PER_MOMENT = 8  # asked for at first: those of a moment overlap, and some moments show the same
_FIRST_WINDOWS = 64

# float16 makes vectors of length 1 longer by up to this, and their scores with themselves larger than 1.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Wanted:
    """What a search shall return, see `VideoIndex.search`."""

    k: int
    where: Where | None
    per_video: int | None
    rerank: int | None
    min_match: float | None
    keep_duplicates: bool
    overlapping: bool

    @classmethod
    def checked(
        cls,
        k: int,
        *,
        where: str | None,
        per_video: int | None,
        rerank: int | None,
        min_match: float | None,
        keep_duplicates: bool,
        overlapping: bool,
    ) -> "Wanted":
        """Check the options of a search.

        Raises:
            VmrError: one is out of range, or `where` is no condition.
        """
        if min_match is not None and not 0 <= real_number("min_match", min_match) <= 1:
            raise VmrError(f"min_match is {min_match!r:.60}, but must be between 0 and 1")
        check_type("keep_duplicates", keep_duplicates, bool)
        check_type("overlapping", overlapping, bool)
        return cls(
            k=whole_number("k", k),
            where=parsed(where),
            per_video=None if per_video is None else whole_number("per_video", per_video),
            rerank=None if rerank is None else whole_number("rerank", rerank),
            min_match=None if min_match is None else float(min_match),
            keep_duplicates=keep_duplicates,
            overlapping=overlapping,
        )


def find_moments(
    query: Query, wanted: Wanted, find: Callable[[int], tuple[Vectors, Ids]], snapshot: Snapshot, space: Space
) -> list[Kept]:
    """Find the moments nearest to a query.

    Args:
        query: what to look for.
        wanted: what to return.
        find: find(n) returns scores, best first, and ids of the n best windows; id -1 for none.
        snapshot: of the index.
        space: the space that is searched.

    Raises:
        IndexFileError: something that the search reads is damaged.
    """
    merge = single_windows if wanted.overlapping else merged_moments
    k = max(wanted.k, wanted.rerank or 0)
    first = max(_FIRST_WINDOWS, _WINDOWS_PER_MOMENT * k)
    return distinct(
        best_candidates(find, first, query.vector, snapshot, space.id, merge),
        k,
        per_video=wanted.per_video,
        keep_duplicates=wanted.keep_duplicates,
        seed=_seed(query, snapshot, space),
    )


def hit_of(kept: Kept, space: Space) -> Hit:
    """Describe a moment that was found."""
    moment = kept.moment
    return Hit(
        score=_clamped(moment.score),
        video=moment.video.file,
        start_s=moment.start_s,
        end_s=moment.end_s,
        moment_id=moment.window_id,
        video_id=moment.video.id,
        match=None,
        space=space.name,
        missing=not os.path.exists(moment.video.file),  # noqa: PTH110, in Python 3.11 Path.exists may raise
        duplicates=tuple(kept.duplicates),
    )


def _seed(query: Query, snapshot: Snapshot, space: Space) -> Candidate | None:
    """The moment whose like is wanted, as one that was found first."""
    if query.seed is None:
        return None
    video = snapshot.video_of_window(query.seed.window_id)
    assert video is not None, "query_of_moment has found it"
    scored = ScoredVideo.of(video, space.id, query.vector, snapshot)
    (itself,) = (one for one in scored.candidates(single_windows) if one.window_id == query.seed.window_id)
    return replace(itself, start_s=query.seed.start_s, end_s=query.seed.end_s)


def _clamped(score: float) -> float:
    """A score of vectors of length 1 that rounding made larger than 1."""
    return math.copysign(1.0, score) if 1 < abs(score) <= 1 + _ROUNDING else score
