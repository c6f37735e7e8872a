"""Scores of videos from those of their views."""

import numpy as np
from numpy.typing import ArrayLike

from vmr.eval.metrics.accuracy import merge_views, metric_rows, metrics


class Scores:
    """Scores of videos from those of their views."""

    def merge_views(self, logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
        """Return top-1 and top-5 in percent: logits (V, views, classes), labels (V,)."""
        scores = np.stack([merge_views(views) for views in np.asarray(logits)])
        values = metrics(metric_rows(scores, labels, "single"), "single", scores.shape[1])
        return values["top-1"], values["top-5"]

    def merge_regression(self, predictions: ArrayLike, labels: ArrayLike) -> float:
        """Return the mean squared error: predictions (V, views), labels (V,)."""
        scores = np.stack([merge_views(views, "regression") for views in np.asarray(predictions)[:, :, None]])
        return metrics(metric_rows(scores, labels, "regression"), "regression", 1)["MSE"]
