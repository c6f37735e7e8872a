"""Retrieval metrics: from a score matrix to ranks, from ranks to R@K, median and mean rank.

The one axis convention of the project: `scores[i, j]` is query i against gallery item j, and higher is better.
Worked by hand, two queries against four items, where query 0 belongs to item 0 and query 1 to item 3:

    scores = [[0.9, 0.1, 0.3, 0.2],     item 0 scores 0.9, nothing beats it           -> rank 1
              [0.5, 0.8, 0.1, 0.4]]     item 3 scores 0.4, items 0 and 1 are above it -> rank 3

    ranks 1, 3 -> R@1 = 1/2 = 50 %, R@5 = R@10 = 100 %, MdR = 2, MnR = 2

Ranks are pessimistic: an item that ties with the right one is ranked before it. A model that gives every pair the same
score therefore gets the worst rank everywhere, not a perfect one.
"""

from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError

RECALL_AT = (1, 5, 10)

# Rows are compared in blocks of about this many scores, so that the working memory stays at a few tens of MB
# however large the matrix is.
_BLOCK_ELEMENTS = 1 << 22

GroundTruth = Sequence[int] | Sequence[Sequence[int]] | Sequence[int | Sequence[int]] | NDArray[np.integer]
VideoOfText = GroundTruth
"""For each text the index of its video, or several, or an empty sequence: no video."""


def ranks(scores: ArrayLike, ground_truth: GroundTruth | None = None) -> NDArray[np.int64]:
    """Return the rank, from 1, of each query's best right answer.

    The rank is 1 + the number of gallery items, other than the query's own items, that score at least as much as the
    best own item. Other own items never count against the query. NaN counts as above (the model gave no evidence that
    the item is worse), and so does +inf; -inf counts as below.

    Args:
        scores: real numbers, (num_queries, num_gallery), higher is better.
        ground_truth: for each query the index of its gallery item, or a list of several; None means that query i
            belongs to item i, and needs a square matrix.

    Returns:
        int64 (num_queries,).

    Raises:
        VmrError: there is no query or no gallery item; `ground_truth` does not fit the matrix; or a query's score
            against one of its own items is NaN or infinite, because it has no rank then.
    """
    matrix = _score_matrix(scores)
    own_items = _own_items(ground_truth, matrix.shape[0], matrix.shape[1])
    return _ranks(matrix, np.arange(len(matrix)), own_items)


def retrieval_metrics(scores: ArrayLike, ground_truth: GroundTruth | None = None) -> dict[str, float]:
    """Return R@1, R@5, R@10 (percent, [0, 100]), MdR and MnR (median and mean rank, from 1) for one direction.

    With an even number of queries the median is the mean of the two middle ranks, as in numpy, so MdR may end in .5.
    Nothing is rounded here.

    Args:
        scores: as in `ranks`.
        ground_truth: as in `ranks`.

    Raises:
        VmrError: as in `ranks`.
    """
    return summary(ranks(scores, ground_truth))


class DirectionRanks(NamedTuple):
    """The rank of every query, from 1, text to video and video to text.

    Row n of each belongs to the n-th text that has a video, and to the n-th video that has a text: `query_indices`.
    """

    text_to_video: NDArray[np.int64]
    """(num_texts with a video,)"""
    video_to_text: NDArray[np.int64]
    """(num_videos with a text,)"""


def bidirectional_ranks(
    scores: ArrayLike, video_of_text: VideoOfText, video_to_text: ArrayLike | None = None, *, not_found: bool = False
) -> DirectionRanks:
    """Return the ranks of both directions.

    Text to video has one query per text. Video to text has one query per video, and its best-ranked own text counts.

    Args:
        scores: real numbers, (num_texts, num_videos), higher is better.
        video_of_text: video_of_text[i] is the index of the video that text i describes, a sequence if several videos
            are right, or empty: such a text is a distractor, which is in the gallery but is no query. A video may have
            several texts; a video without a text is a distractor too.
        video_to_text: scores of the other direction, (num_videos, num_texts), if they are not the transposed `scores`,
            as after re-ranking.
        not_found: whether the scores are of a search that may miss items, with -inf for an item that was not found. If
            all own items of a query were missed, its rank is then the last, which else is an error.

    Raises:
        VmrError: as in `ranks`, or no text has a video.
    """
    matrix = _score_matrix(scores)
    num_texts, num_videos = matrix.shape
    own_items = right_answers(video_of_text, num_texts, num_videos)
    back = matrix.T if video_to_text is None else _score_matrix(video_to_text)
    if back.shape != (num_videos, num_texts):
        raise VmrError(f"video_to_text has shape {back.shape}, expected ({num_videos}, {num_texts})")
    return DirectionRanks(
        *(
            _ranks(direction, _queries(own), [items for items in own if items], not_found)
            for direction, own in zip((matrix, back), own_items, strict=True)
        )
    )


def right_answers(
    video_of_text: VideoOfText, num_texts: int, num_videos: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the videos of every text and the texts of every video; an empty list if there are none.

    Args:
        video_of_text: as in `bidirectional_ranks`.
        num_texts: how many texts there are.
        num_videos: how many videos there are.

    Raises:
        VmrError: `video_of_text` has another length than `num_texts`, or names a video that does not exist.
    """
    videos_of_text = _own_items(video_of_text, num_texts, num_videos, may_be_empty=True)
    texts_of_video: list[list[int]] = [[] for _ in range(num_videos)]
    for text, videos in enumerate(videos_of_text):
        for video in videos:
            texts_of_video[video].append(text)
    return videos_of_text, texts_of_video


def query_indices(video_of_text: VideoOfText, num_videos: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices, increasing, of the texts and of the videos that the rows of `DirectionRanks` belong to.

    Args:
        video_of_text: as in `bidirectional_ranks`.
        num_videos: how many videos there are.
    """
    texts, videos = right_answers(video_of_text, len(video_of_text), num_videos)
    return _queries(texts), _queries(videos)


def summary(query_ranks: NDArray[np.integer]) -> dict[str, float]:
    """Return the metrics of one direction, those of `retrieval_metrics`, from its ranks.

    Args:
        query_ranks: from 1, (num_queries,).

    Raises:
        VmrError: there is no query.
    """
    if not len(query_ranks):
        raise VmrError("no ranks: there was no query")
    recalls = {f"R@{k}": 100.0 * float(np.mean(query_ranks <= k)) for k in RECALL_AT}
    return recalls | {"MdR": float(np.median(query_ranks)), "MnR": float(np.mean(query_ranks))}


def bidirectional_summary(both: DirectionRanks) -> dict[str, float]:
    """Return the metrics of both directions under `text_to_video/...` and `video_to_text/...`, and their `rsum`.

    Args:
        both: the ranks of both directions.

    Returns:
        The metrics by name; `rsum` is the sum of the six R@K, [0, 600].
    """
    metrics = {
        f"{direction}/{key}": value for direction, row in both._asdict().items() for key, value in summary(row).items()
    }
    metrics["rsum"] = sum(value for key, value in metrics.items() if "/R@" in key)
    return metrics


def bidirectional_metrics(
    scores: ArrayLike, video_of_text: VideoOfText, video_to_text: ArrayLike | None = None
) -> dict[str, float]:
    """Return the metrics of both directions from scores: `bidirectional_summary` of `bidirectional_ranks`.

    Args:
        scores: as in `bidirectional_ranks`.
        video_of_text: as in `bidirectional_ranks`.
        video_to_text: as in `bidirectional_ranks`.

    Raises:
        VmrError: as in `bidirectional_ranks`.
    """
    return bidirectional_summary(bidirectional_ranks(scores, video_of_text, video_to_text))


def _ranks(
    scores: NDArray[np.generic],
    queries: NDArray[np.integer],
    own_items: Sequence[Sequence[int]],
    not_found: bool = False,
) -> NDArray[np.int64]:
    """Rank the rows `queries` of `scores`; own_items[n], never empty, are the right answers of row queries[n]."""
    if not len(queries):
        raise VmrError("no text has a video, so there is nothing to rank")
    result = np.empty(len(queries), dtype=np.int64)
    rows_per_block = max(1, _BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(queries), rows_per_block):
        block = slice(start, start + rows_per_block)
        result[block] = _block_ranks(scores[queries[block]], queries[block], own_items[block], not_found)
    return result


def _block_ranks(
    scores: NDArray[np.generic], queries: NDArray[np.integer], own_items: Sequence[Sequence[int]], not_found: bool
) -> NDArray[np.int64]:
    """Rank every row of one block; `queries` are the rows' numbers in the whole matrix, for the error message."""
    counts = [len(items) for items in own_items]
    rows = np.repeat(np.arange(len(own_items)), counts)  # (num_own,)
    columns = np.concatenate([np.asarray(items, dtype=np.int64) for items in own_items])  # (num_own,)
    own_scores = scores[rows, columns]
    missed = (own_scores == -np.inf) & not_found
    broken = np.flatnonzero(~(np.isfinite(own_scores) | missed))
    if len(broken):
        first = broken[0]
        raise VmrError(
            f"query {queries[rows[first]]} scores {own_scores[first]} against its own gallery item {columns[first]}: "
            "it has no rank; check the embeddings for NaN or infinity"
        )
    best = np.maximum.reduceat(own_scores, np.concatenate([[0], np.cumsum(counts)[:-1]]))  # (num_rows,)
    rivals = ~(scores < best[:, None])  # "not below" rather than ">=", which would let a NaN vanish
    rivals[rows, columns] = False
    num_above: NDArray[np.int64] = rivals.sum(axis=1, dtype=np.int64)
    return 1 + num_above


def _score_matrix(scores: ArrayLike) -> NDArray[np.generic]:
    try:
        matrix = np.asarray(scores)
    except (TypeError, ValueError) as error:  # for example rows of different lengths, or a tensor on a GPU
        raise VmrError(f"scores is not a matrix: {error}") from None
    if matrix.ndim != 2:
        raise VmrError(f"scores must be (num_queries, num_gallery), got shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise VmrError(f"scores must be real numbers, got dtype {matrix.dtype}")
    if 0 in matrix.shape:
        missing = "queries" if matrix.shape[0] == 0 else "gallery items"
        raise VmrError(f"scores has shape {matrix.shape}: no {missing}, so there is nothing to rank")
    return matrix


def _own_items(
    ground_truth: GroundTruth | None, num_queries: int, num_gallery: int, may_be_empty: bool = False
) -> list[list[int]]:
    """Return each query's right gallery items as a list of indices within the gallery."""
    if ground_truth is None:
        if num_queries != num_gallery:
            raise VmrError(
                f"scores has shape ({num_queries}, {num_gallery}): without ground_truth it must be square; "
                "say which gallery item each query belongs to"
            )
        return [[query] for query in range(num_queries)]
    if len(ground_truth) != num_queries:
        raise VmrError(f"ground truth has {len(ground_truth)} entries for {num_queries} queries")
    own_items = [_indices(entry, query, num_gallery) for query, entry in enumerate(ground_truth)]
    if not may_be_empty and [] in own_items:
        raise VmrError(f"query {own_items.index([])} has no right gallery item: leave it out or name one")
    return own_items


def _queries(own_items: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The rows that have a right answer, increasing."""
    return np.array([query for query, items in enumerate(own_items) if items], dtype=np.int64)


def _indices(entry: Any, query: int, num_gallery: int) -> list[int]:
    try:
        items = [index(item) for item in (entry if isinstance(entry, Sequence | np.ndarray) else [entry])]
    except TypeError:
        raise VmrError(f"ground truth of query {query} is {entry!r}: expected an index or a list of indices") from None
    outside = [item for item in items if not 0 <= item < num_gallery]
    if outside:
        raise VmrError(f"ground truth of query {query} names item {outside[0]}; the gallery has 0 to {num_gallery - 1}")
    return items
