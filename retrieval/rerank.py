"""Re-ranking: the best candidates of a query, scored again by a model that reads the text while looking at the video.

Shapes: Q texts, V videos. Scores are higher for what fits better.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

NOT_RERANKED = -100.0
"""The score of a pair that is no candidate, as upstream's: below any logit of a sane model, the same for all."""

Scores = NDArray[np.float32]
Match = Callable[[int, NDArray[np.int64]], Scores]
"""match(video, texts): the number of one video and of M texts -> logits (M,)."""


class Reranked(NamedTuple):
    """New scores of the candidates, `NOT_RERANKED` elsewhere. The two directions have candidates of their own."""

    text_to_video: Scores
    """(Q, V)"""
    video_to_text: Scores
    """(V, Q)"""


def rerank(scores: Scores, match: Match, k: int) -> Reranked:
    """Scores the k best videos of every text, and the k best texts of every video, again.

    Upstream evaluates so with k = 128. scores: (Q, V), by which candidates are chosen. match: called once for each
    video with every text that needs it, in increasing order, so that what a video costs is paid once and a pair that
    both directions ask for is scored once. Raises VmrError for a k below 1, and where a logit is not finite.
    """
    if k < 1:
        raise VmrError(f"k is {k}: re-ranking needs at least one candidate a query")
    asked_by_text = _candidates(scores, k)  # (Q, V)
    asked_by_video = _candidates(scores.T, k).T  # (Q, V)
    logits = np.full(scores.shape, NOT_RERANKED, np.float32)
    for video in range(scores.shape[1]):
        texts = np.flatnonzero(asked_by_text[:, video] | asked_by_video[:, video])
        if len(texts):
            logits[texts, video] = _finite(match(video, texts), video)
    return Reranked(
        np.where(asked_by_text, logits, np.float32(NOT_RERANKED)),
        np.where(asked_by_video, logits, np.float32(NOT_RERANKED)).T,
    )


def _candidates(scores: Scores, k: int) -> NDArray[np.bool_]:
    """Which items are among the k best of their row; of equal ones the first."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def _finite(logits: Scores, video: int) -> Scores:
    if not np.isfinite(logits).all():
        raise VmrError(f"video {video} has matching logits that are not finite: check the model's weights")
    return logits
