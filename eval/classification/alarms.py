"""Signs that the result of a classifier is wrong: a broken model still gives numbers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_MANY_TIES = 0.1  # share of the videos
_MOST = 0.5  # share of the videos that are taken for one class
_FEWEST = 20  # videos from which a share means anything


def classification_alarms(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    intervals: Mapping[str, tuple[float, float]],
    classes: Sequence[str],
) -> Iterator[str]:
    """Yield what is suspicious about a result, one sentence for each finding.

    It looks for videos with several equal best classes, one class that most videos are taken for although few are of
    it, and an accuracy that chance can reach.

    Args:
        scores: (V, C).
        labels: (V,).
        intervals: of the metrics; `top-1` is used.
        classes: names of the C classes.
    """
    best = scores.max(axis=1)
    num_tied = int(((scores == best[:, None]).sum(axis=1) > 1).sum())
    if num_tied > _MANY_TIES * len(scores):
        yield f"{num_tied} of {len(scores)} videos have several classes with the same best score."
    if len(scores) < _FEWEST:
        return
    predicted = np.bincount(scores.argmax(axis=1), minlength=len(classes)) / len(scores)
    actual = np.bincount(labels, minlength=len(classes)) / len(scores)
    most = int(predicted.argmax())
    if predicted[most] > _MOST and predicted[most] > 2 * actual[most]:
        yield (
            f"{100 * predicted[most]:.0f} % of the videos are taken for '{classes[most]}', of which are "
            f"{100 * actual[most]:.0f} %."
        )
    chance, low = 100 / len(classes), intervals["top-1"][0]
    if low <= chance:
        yield f"Top-1 may be no better than chance, {chance:.1f} %: its interval begins at {low:.1f} %."
