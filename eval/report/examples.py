"""The queries that a report shows: the encoder's worst and best. Imports no torch.

Shapes: Q queries (texts), V videos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError

GROUPS = ("worst", "best")


@dataclass(frozen=True)
class Example:
    """A text query, and the videos that were retrieved for it.

    Attributes:
        group: one of GROUPS.
        text: the query.
        video: id of the video that it belongs to.
        rank: the rank of that video, from 1.
        retrieved: id and score of the videos that were retrieved, best first; a score that is not finite is None.

    Raises:
        VmrError: the group is unknown.
    """

    group: str
    text: str
    video: str
    rank: int
    retrieved: tuple[tuple[str, float | None], ...]

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise VmrError(f"group of an example is {self.group!r}: expected {' or '.join(GROUPS)}")


def pick_examples(
    scores: ArrayLike,
    ranks: Sequence[int] | NDArray[np.integer],
    texts: Sequence[str],
    videos: Sequence[int],
    video_ids: Sequence[str],
    *,
    num_each: int = 5,
    num_retrieved: int = 3,
) -> tuple[Example, ...]:
    """Return the worst text-to-video queries, then the best; no query twice.

    The worst have the greatest ranks. The best have the smallest ranks, and among equal ranks the largest lead over the
    best other video. Of equal queries the first comes first.

    Args:
        scores: (Q, V), higher is better.
        ranks: (Q,), from 1.
        texts: the Q queries.
        videos: for each query the row in `video_ids` of its right video; if several are right, of the one to show.
        video_ids: the V videos.
        num_each: how many of the worst, and how many of the best.
        num_retrieved: how many retrieved videos to name for each query.

    Raises:
        VmrError: the shapes do not fit.
    """
    matrix = np.asarray(scores)
    rows, own = np.arange(len(matrix)), np.asarray(videos, dtype=np.int64)
    if not matrix.shape == (len(texts), len(video_ids)) or not len(ranks) == len(own) == len(texts):
        raise VmrError(
            f"scores of shape {matrix.shape} do not fit {len(texts)} texts with {len(ranks)} ranks and "
            f"{len(own)} right videos among {len(video_ids)}"
        )
    others = matrix.astype(np.float64)
    others[rows, own] = -np.inf
    with np.errstate(invalid="ignore"):
        lead = np.nan_to_num(matrix[rows, own] - others.max(axis=1), nan=-np.inf)
    rank = np.asarray(ranks)
    best = np.lexsort((rows, -lead, rank))[:num_each].tolist()
    worst = [query for query in np.lexsort((rows, -rank)).tolist() if query not in best][:num_each]

    def example(group: str, query: int) -> Example:
        order = np.argsort(-matrix[query], kind="stable")[:num_retrieved].tolist()
        retrieved = tuple((video_ids[video], _finite(float(matrix[query, video]))) for video in order)
        return Example(group, texts[query], video_ids[own[query]], int(rank[query]), retrieved)

    return (*(example("worst", query) for query in worst), *(example("best", query) for query in best))


def _finite(score: float) -> float | None:
    return score if np.isfinite(score) else None
