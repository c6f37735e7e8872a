"""Which pairs re-ranking scores again, and the matrices that hold the new scores.

As upstream does with k = 128, the k best videos of every text and the k best texts of every video are scored again by
the fusion layers, which attend from the text to the video. `vmr.retrieval.reranking.engine` does this in bounded
memory.

Shapes: Q texts, V videos. Higher scores are better.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

NOT_RERANKED = -100.0
"""The score of every pair that is no candidate, as in upstream: below any logit of a sound model."""

Scores = NDArray[np.float32]
Match = Callable[[int, NDArray[np.int64]], Scores]
"""match(video, texts): takes the number of a video and the numbers of M texts, returns logits (M,)."""

_SORTED_AT_ONCE = 1 << 20  # scores that are sorted at a time, which bounds the working memory


class Reranked(NamedTuple):
    """New scores of the candidates, and `NOT_RERANKED` for all other pairs.

    Each direction has its own candidates.

    Attributes:
        text_to_video: (Q, V).
        video_to_text: (V, Q).
    """

    text_to_video: Scores
    video_to_text: Scores


class Candidates:
    """The pairs that re-ranking scores. Among equal scores the first ones are taken.

    Args:
        scores: (Q, V), by which candidates are chosen; -inf for a pair that an approximate search did not find, which
            is never a candidate.
        k: candidates of a query, at least 1.

    Attributes:
        by_text: bool (Q, V), the k best videos of every text.
        by_video: bool (Q, V), the k best texts of every video.

    Raises:
        VmrError: k is below 1, or a score is NaN.
    """

    def __init__(self, scores: Scores, k: int) -> None:
        if k < 1:
            raise VmrError(f"k is {k}: re-ranking needs at least one candidate a query")
        if num_broken := int(np.isnan(scores).sum()):
            raise VmrError(f"{num_broken} of {scores.size} scores are NaN: nothing can be re-ranked by them")
        self.by_text = _best(scores, k)
        self.by_video = _best(scores.T, k).T

    @property
    def num_videos(self) -> int:
        """How many videos there are, V."""
        return int(self.by_text.shape[1])

    @property
    def num_pairs(self) -> int:
        """How many logits there are to compute; a pair that both directions ask for counts once."""
        return sum(len(self.texts_of(video)) for video in range(self.num_videos))

    def texts_of(self, video: int) -> NDArray[np.int64]:
        """Return the numbers of the texts that a video is matched with, increasing."""
        return np.flatnonzero(self.by_text[:, video] | self.by_video[:, video])

    def score(self, match: Match) -> Reranked:
        """Score the candidates.

        Args:
            match: called once for each video that has candidates, in increasing order, with all of its texts. So each
                video is processed once, and a pair that both directions ask for is scored once.

        Raises:
            VmrError: a logit is not finite.
        """
        num_texts, num_videos = self.by_text.shape
        text_to_video = np.full((num_texts, num_videos), NOT_RERANKED, np.float32)
        video_to_text = np.full((num_videos, num_texts), NOT_RERANKED, np.float32)
        for video in range(num_videos):
            texts = self.texts_of(video)
            if len(texts):
                logits = require_finite(match(video, texts), video)
                asked_by_text, asked_by_video = self.by_text[texts, video], self.by_video[texts, video]
                text_to_video[texts[asked_by_text], video] = logits[asked_by_text]
                video_to_text[video, texts[asked_by_video]] = logits[asked_by_video]
        return Reranked(text_to_video, video_to_text)


def require_finite(logits: Scores, video: int) -> Scores:
    """Return the logits of a video unchanged; raise VmrError if one is not finite."""
    if not np.isfinite(logits).all():
        raise VmrError(f"video {video} has matching logits that are not finite: check the model's weights")
    return logits


def _best(scores: Scores, k: int) -> NDArray[np.bool_]:
    """Which items are among the k best of their row, a few rows at a time."""
    chosen = np.zeros(scores.shape, dtype=bool)
    rows_at_once = max(1, _SORTED_AT_ONCE // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows_at_once):
        rows = scores[start : start + rows_at_once]
        best = np.argsort(-rows, axis=1, kind="stable")[:, :k]
        np.put_along_axis(chosen[start : start + rows_at_once], best, True, axis=1)
        chosen[start : start + rows_at_once] &= rows > -np.inf
    return chosen
