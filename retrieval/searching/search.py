"""The search of one space of an index: checks what is wanted, and finds moments."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_type, real_number, whole_number
from vmr.errors import VmrError
from vmr.retrieval.results import Hit
from vmr.retrieval.searching.candidates import Candidate, Rows, best_candidates
from vmr.retrieval.searching.distinct import Kept, distinct
from vmr.retrieval.searching.filters import parsed
from vmr.retrieval.searching.moments import merged_moments, single_windows, whole_rows
from vmr.retrieval.searching.query import Seed
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.where import Where

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
    before: int | None

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
        before: int | None,
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
            before=None if before is None else whole_number("before", before, 0),
        )


def first_windows(wanted: Wanted) -> int:
    """Return how many windows a search asks for first."""
    return max(_FIRST_WINDOWS, _WINDOWS_PER_MOMENT * max(wanted.k, wanted.rerank or 0))


def find_moments(rows: Rows, wanted: Wanted, seed: Seed | None = None) -> list[Kept]:
    """Find the moments nearest to a query.

    Args:
        rows: where to search, and for what.
        wanted: what to return.
        seed: the moment whose like is wanted.

    Raises:
        IndexFileError: something that the search reads is damaged.
    """
    k = max(wanted.k, wanted.rerank or 0)
    chosen = distinct(
        best_candidates(rows, first_windows(wanted), single_windows if wanted.overlapping else merged_moments),
        k,
        per_video=wanted.per_video,
        keep_duplicates=wanted.keep_duplicates,
        seed=None if seed is None else _as_candidate(seed, rows),
    )
    # A FAISS file that is approximate may name a better window only when it is asked for more.
    return sorted(chosen, key=lambda one: one.moment.rank)


def score_curve(rows: Rows, video_id: int) -> NDArray[np.float64]:
    """Score a video over time, see `VideoIndex.score_curve`.

    Raises:
        VmrError: the index holds no such video, or no vectors of it in the space.
    """
    video = rows.snapshot.video(video_id) if video_id < 2**63 else None
    if video is None:
        raise VmrError(f"the index holds no video {video_id}: it was removed or has changed; search again")
    _, is_there = rows.snapshot.vectors(rows.space.id, np.array([video.first_window]))
    if not is_there[0]:
        raise VmrError(f"video {video_id} has no vectors in the space {rows.space.name}")
    scored = rows.scored(video)
    spans = scored.windows.spans
    curve = np.column_stack([spans, scored.scores])[~whole_rows(spans)]
    ordered: NDArray[np.float64] = curve[np.lexsort((curve[:, 1], curve[:, 0]))]
    return ordered


def hits_of(found: Sequence[Kept], space: Space, matches: Sequence[float] | None) -> list[Hit]:
    """Describe moments that were found.

    Args:
        found: the moments.
        space: the space that was searched.
        matches: of at least these moments, in their order; None if they are not known.
    """
    known = [None] * len(found) if matches is None else matches
    return [_hit(one, space, match) for one, match in zip(found, known, strict=False)]


def _hit(kept: Kept, space: Space, match: float | None) -> Hit:
    moment = kept.moment
    return Hit(
        score=_clamped(moment.score),
        video=moment.video.file,
        start_s=moment.start_s,
        end_s=moment.end_s,
        moment_id=moment.window_id,
        video_id=moment.video.id,
        match=match,
        space=space.name,
        missing=not os.path.exists(moment.video.file),  # noqa: PTH110, in Python 3.11 Path.exists may raise
        duplicates=tuple(kept.duplicates),
    )


def _as_candidate(seed: Seed, rows: Rows) -> Candidate:
    """The moment whose like is wanted, as one that was found."""
    windows = rows.scored(rows.video_of(seed.window_id)).candidates(single_windows)
    itself = next(window for window in windows if window.window_id == seed.window_id)
    return itself.over(seed.start_s, seed.end_s)


def _clamped(score: float) -> float:
    """A score of vectors of length 1 that rounding made larger than 1."""
    return math.copysign(1.0, score) if 1 < abs(score) <= 1 + _ROUNDING else score
