"""From the scores of a column to its ranks, metrics, intervals and alarms. Imports no torch.

Shapes: Q texts, V videos, D dimensions. A higher score means a better match.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.eval.metrics.alarms import alarms
from vmr.eval.metrics.bootstrap import intervals, share_interval
from vmr.eval.metrics.multiple_choice import choice_hits
from vmr.eval.metrics.ranks import DirectionRanks, bidirectional_ranks, bidirectional_summary

CHOICE_METRIC = "accuracy"

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class ColumnScores:
    """The scores of one column of a report.

    Attributes:
        text_to_video: (Q, V), higher is better.
        video_to_text: (V, Q); None if they are the transposed scores of text to video.
        not_found: whether -inf stands for an item that a search missed.
        text_vectors: (Q, D), the texts' vectors that the scores were computed from; None if they need no check.
        video_vectors: (V, D), the same for the videos.
    """

    text_to_video: Matrix
    video_to_text: Matrix | None = None
    not_found: bool = False
    text_vectors: Matrix | None = None
    video_vectors: Matrix | None = None


@dataclass(frozen=True)
class ColumnResult:
    """The metrics, intervals, ranks and alarms of one column.

    Attributes:
        metrics: such as `text_to_video/R@1`, in percent or ranks from 1; `accuracy` alone for multiple choice.
        intervals: for the same metrics, the bounds of the 95 % interval.
        ranks: the rank of every query; None for multiple choice.
        alarms: reasons why the scores may be meaningless, one sentence each.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    ranks: DirectionRanks | None
    alarms: tuple[str, ...]

    def ranks_by_direction(self) -> dict[str, tuple[int, ...]]:
        """Return the ranks as a report holds them; nothing for multiple choice."""
        if self.ranks is None:
            return {}
        return {direction: tuple(ranks.tolist()) for direction, ranks in self.ranks._asdict().items()}


def score_column(scores: ColumnScores, data: RetrievalSet, *, with_alarms: bool = True) -> ColumnResult:
    """Compute metrics, intervals, ranks and alarms of one column.

    Args:
        scores: the scores of the texts and videos of `data`.
        data: which text belongs to which video, or the questions of a multiple-choice test.
        with_alarms: look for signs that the scores are meaningless. A control is expected to score badly, so it needs
            no alarms.

    Raises:
        VmrError: the scores do not fit the data, or a query's score against its own item is not finite.
    """
    if data.choices:
        hits = choice_hits(scores.text_to_video, data.choices)
        return ColumnResult(
            {CHOICE_METRIC: 100.0 * float(hits.mean())}, {CHOICE_METRIC: share_interval(hits)}, None, ()
        )
    ranks = bidirectional_ranks(
        scores.text_to_video, data.video_of_text, scores.video_to_text, not_found=scores.not_found
    )
    found = alarms(
        scores.text_to_video,
        data.video_of_text,
        ranks,
        video_to_text=scores.video_to_text,
        query_vectors=scores.text_vectors,
        gallery_vectors=scores.video_vectors,
        not_found=scores.not_found,
    )
    return ColumnResult(bidirectional_summary(ranks), intervals(ranks), ranks, tuple(found) if with_alarms else ())
