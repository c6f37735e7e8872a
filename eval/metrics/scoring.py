"""From scores to what a report says of them: ranks, metrics, intervals, alarms. Imports no torch.

Shapes: Q texts, V videos, D dimensions. Scores are higher for what fits better.
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
class Scores:
    """The scores of one kind.

    text_to_video: (Q, V). video_to_text: (V, Q), None where they are the same turned over. not_found: whether -inf
    stands for what a search missed. text_vectors, video_vectors: (Q, D) and (V, D) that the scores come from, where
    they should be looked at for damage.
    """

    text_to_video: Matrix
    video_to_text: Matrix | None = None
    not_found: bool = False
    text_vectors: Matrix | None = None
    video_vectors: Matrix | None = None


@dataclass(frozen=True)
class Column:
    """What one kind of score comes to: metrics, their 95 % intervals, ranks (None for multiple choice), alarms."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    ranks: DirectionRanks | None
    alarms: tuple[str, ...]


def measure(scores: Scores, data: RetrievalSet, *, alarming: bool = True) -> Column:
    """The column of these scores over the texts and videos of `data`; alarming: whether a bad result is a surprise."""
    if data.choices:
        hits = choice_hits(scores.text_to_video, data.choices)
        return Column({CHOICE_METRIC: 100.0 * float(hits.mean())}, {CHOICE_METRIC: share_interval(hits)}, None, ())
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
    return Column(bidirectional_summary(ranks), intervals(ranks), ranks, tuple(found) if alarming else ())
