"""Metrics of classifiers: from the views' logits to scores, from scores to ranks, accuracies and errors. numpy only.

The axis convention is that of the project: `scores[i, j]` is video i against class j, and higher is better. Worked by
hand, three videos of the classes 0, 0 and 1:

    scores = [[0.7, 0.2, 0.1],     class 0 scores 0.7, nothing reaches it          -> rank 1
              [0.3, 0.4, 0.3],     class 0 scores 0.3, classes 1 and 2 reach it    -> rank 3
              [0.1, 0.6, 0.3]]     class 1 scores 0.6, nothing reaches it          -> rank 1

    top-1 = 2/3 = 66.7 %; class 0 is right once in two, class 1 once in one: mean class accuracy = 75 %

Ranks are pessimistic, as in retrieval: a class that ties with the right one is ranked before it. A classifier that
gives every class the same score is therefore never right, and neither is one that gives NaN.

Shapes: V videos, C classes, W views of a video, R resamples.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError
from vmr.eval.metrics.bootstrap import Difference, Statistic, statistic_differences, statistic_intervals
from vmr.targets import Target

Average = Literal["probabilities", "logits"]
"""What is averaged over the views of a video."""

TOP_AT = (1, 5)
NUM_TOP = 5
"""How many classes of each video a report names."""

Floats = NDArray[np.float64]


def merge_views(logits: ArrayLike, target: Target = "single", average: Average = "probabilities") -> Floats:
    """Return the scores of one video from the logits of its views.

    Args:
        logits: real numbers, (W, C), each view once.
        target: what the classifier predicts.
        average: `probabilities` for the mean of the views' probabilities, each computed in float32; `logits` for the
            probabilities of the mean logits. A regression averages its predictions in either case.

    Returns:
        (C,): probabilities; for `regression` the predictions.

    Raises:
        VmrError: there is no view.
    """
    views = np.asarray(logits, np.float32)
    if views.ndim != 2 or not len(views):
        raise VmrError(f"logits must be (views, classes) with at least one view, got shape {views.shape}")
    if target != "regression":
        probabilities = _softmax if target == "single" else _sigmoid
        if average == "logits":
            views = views.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        views = probabilities(views)
    merged: Floats = views.mean(axis=0, dtype=np.float64)
    return merged


def class_ranks(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return the rank, from 1, of each video's own class.

    The rank is 1 + the number of other classes that score at least as much. NaN of another class counts as above. If
    the own class scores NaN, the rank is C + 1: it is not among the classes at all.

    Args:
        scores: real numbers, (V, C).
        labels: the number of each video's class, (V,).

    Raises:
        VmrError: there is no video or class, or a label is none of the classes.
    """
    table, own = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if table.ndim != 2 or 0 in table.shape or own.shape != (len(table),):
        raise VmrError(f"scores of shape {table.shape} with labels of shape {own.shape}: expected (videos, classes)")
    if own.min() < 0 or own.max() >= table.shape[1]:
        raise VmrError(f"labels are {own.min()} to {own.max()}, but the scores have {table.shape[1]} classes")
    own_scores = np.take_along_axis(table, own[:, None], axis=1)  # (V, 1)
    rivals = ~(table < own_scores)  # a NaN on either side is a rival
    np.put_along_axis(rivals, own[:, None], False, axis=1)
    ranks: NDArray[np.int64] = 1 + rivals.sum(axis=1, dtype=np.int64)
    ranks[np.isnan(own_scores[:, 0])] = table.shape[1] + 1
    return ranks


def best_classes(scores: ArrayLike, labels: ArrayLike, k: int = NUM_TOP) -> NDArray[np.int64]:
    """Return the k best classes of each video, best first, in the order that `class_ranks` counts by.

    Args:
        scores: as in `class_ranks`.
        labels: as in `class_ranks`: among equal classes, the own class comes last.
        k: how many; at most C are returned.

    Returns:
        Numbers of classes, (V, min(k, C)).
    """
    table, own = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    is_own = own[:, None] == np.arange(table.shape[1])
    lost = is_own & np.isnan(table)
    ranked = np.where(lost, -np.inf, np.where(np.isnan(table), np.inf, table))
    best: NDArray[np.int64] = np.lexsort((is_own, -ranked), axis=1)[:, :k]
    return best


def stored_rows(
    target: Target, labels: Sequence[Any] | NDArray[Any], values: ArrayLike, ranks: ArrayLike, scores: ArrayLike
) -> NDArray[Any]:
    """Return the rows of `metric_rows` from what a report stores.

    Args:
        target: what is predicted.
        labels: `single`: classes (V,); `multi`: the numbers of each video's classes.
        values: `regression`: numbers (V,).
        ranks: `single`: of the right classes (V,).
        scores: `multi` and `regression`: (V, C).
    """
    if target == "single":
        return np.stack([np.asarray(labels, np.int64), np.asarray(ranks, np.int64)], axis=1)
    if target == "regression":
        return metric_rows(scores, values, target)
    truth = np.zeros(np.shape(scores))
    for row, numbers in zip(truth, labels, strict=True):
        row[list(numbers)] = 1
    return metric_rows(scores, truth, target)


def metric_rows(scores: ArrayLike, truth: ArrayLike, target: Target) -> NDArray[Any]:
    """Return for each video what its metrics are computed from.

    Args:
        scores: (V, C), as `merge_views` makes them.
        truth: `single`: classes (V,); `multi`: 0 or 1 for each class (V, C); `regression`: numbers (V,).
        target: what is predicted.

    Returns:
        `single`: class and rank, (V, 2); `multi`: scores and truth, (V, 2 C); `regression`: squared errors, (V, 1).

    Raises:
        VmrError: the shapes do not fit.
    """
    if target == "single":
        return np.stack([np.asarray(truth, np.int64), class_ranks(scores, truth)], axis=1)
    table, wanted = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if target == "multi":
        if table.shape != wanted.shape or table.ndim != 2 or not len(table):
            raise VmrError(f"scores of shape {table.shape} with labels of shape {wanted.shape}: expected the same")
        # NaN of a class that is there counts as the last, NaN of one that is not as the first.
        return np.concatenate([np.where(np.isnan(table), np.where(wanted > 0, -np.inf, np.inf), table), wanted], axis=1)
    if table.shape != (len(wanted), 1):
        raise VmrError(f"predictions of shape {table.shape} with {len(wanted)} numbers: expected one for each")
    return (table - wanted[:, None]) ** 2


def metrics(rows: NDArray[Any], target: Target, num_classes: int) -> dict[str, float]:
    """Return the metrics of some videos.

    Args:
        rows: as `metric_rows` makes them.
        target: what is predicted.
        num_classes: C. Without more classes than five there is no top-5, which nothing could miss.

    Returns:
        `single`: `top-1`, `top-5` and `mean class accuracy`, the mean over the classes that occur; `multi`: `mAP`; all
        in percent, [0, 100]. `regression`: `MSE`.
    """
    values = _statistic(target, num_classes)(rows, np.ones((1, len(rows)), np.int64))
    return {name: float(value[0]) for name, value in values.items()}


def metric_intervals(rows: NDArray[Any], target: Target, num_classes: int) -> dict[str, tuple[float, float]]:
    """Return the bounds of the 95 % bootstrap interval over videos of each metric of `metrics`, from its arguments."""
    return statistic_intervals(_few(rows, target), _statistic(target, num_classes))


def metric_differences(a: NDArray[Any], b: NDArray[Any], target: Target, num_classes: int) -> dict[str, Difference]:
    """Return how each metric of `a` differs from that of `b` over the same videos, which are drawn once for both.

    Args:
        a: rows of the videos, as `metric_rows` makes them.
        b: rows of the same videos, in the same order.
        target: what is predicted.
        num_classes: C.

    Raises:
        VmrError: the rows are not of the same videos.
    """
    return statistic_differences(_few(a, target), _few(b, target), _statistic(target, num_classes))


def confusion(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Count how often videos of a class were taken for each class.

    Args:
        labels: the class of each video, (V,).
        predicted: its best class, (V,).
        num_classes: C.

    Returns:
        (C, C): row is the right class, column the predicted one.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _few(rows: NDArray[Any], target: Target) -> NDArray[Any]:
    """The rows with few distinct ones: no metric tells one rank beyond the last K of top-K from another."""
    if target != "single":
        return rows
    return np.stack([rows[:, 0], np.minimum(rows[:, 1], TOP_AT[-1] + 1)], axis=1)


def _statistic(target: Target, num_classes: int) -> Statistic:
    if target == "single":
        return _accuracies if num_classes > TOP_AT[-1] else _without_top_5
    return _mean_average_precision if target == "multi" else _mean_error


def _accuracies(rows: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Floats]:
    """Of rows of class and rank (n, 2), drawn counts times (R, n)."""
    total = counts.sum(axis=1)
    values = {f"top-{k}": 100.0 * (counts @ (rows[:, 1] <= k)) / total for k in TOP_AT}
    order = np.argsort(rows[:, 0], kind="stable")
    rows, counts = rows[order], counts[:, order]
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=rows[0, 0] - 1))  # of the classes that occur
    drawn = np.add.reduceat(counts, starts, axis=1)  # (R, classes)
    right = np.add.reduceat(counts * (rows[:, 1] <= 1), starts, axis=1)
    shares = np.where(drawn > 0, right / np.maximum(drawn, 1), 0.0)
    return values | {"mean class accuracy": 100.0 * shares.sum(axis=1) / (drawn > 0).sum(axis=1)}


def _without_top_5(rows: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Floats]:
    return {name: value for name, value in _accuracies(rows, counts).items() if name != f"top-{TOP_AT[-1]}"}


def _mean_average_precision(rows: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Floats]:
    """Of rows of scores and truth (n, 2 C), drawn counts times (R, n): the mean over the classes that were drawn.

    The precision at a video is that of all videos which score at least as much, so ties have no order.
    """
    num_classes = rows.shape[1] // 2
    total, num_drawn = np.zeros(len(counts)), np.zeros(len(counts))
    for number in range(num_classes):
        order = np.argsort(-rows[:, number], kind="stable")
        below, positive = -rows[order, number], rows[order, num_classes + number] > 0
        drawn = counts[:, order]
        last = np.searchsorted(below, below, side="right") - 1  # of those that score the same
        all_up_to, right_up_to = np.cumsum(drawn, axis=1)[:, last], np.cumsum(drawn * positive, axis=1)[:, last]
        precision = right_up_to / np.maximum(all_up_to, 1)
        num_right = (drawn * positive).sum(axis=1)
        total += (drawn * positive * precision).sum(axis=1) / np.maximum(num_right, 1)
        num_drawn += num_right > 0
    return {"mAP": 100.0 * total / np.maximum(num_drawn, 1)}


def _mean_error(rows: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Floats]:
    return {"MSE": counts @ rows[:, 0] / counts.sum(axis=1)}


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis, in float32."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # Of the negative magnitude, so that nothing overflows.
    small = np.exp(-np.abs(logits))
    result: NDArray[np.float32] = np.where(logits < 0, small, np.float32(1)) / (1 + small)
    return result
