"""Metrics of classifiers against numbers that were worked out by hand, and against slower ways."""

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.eval.metrics.accuracy import (
    best_classes,
    class_ranks,
    confusion,
    merge_views,
    metric_differences,
    metric_intervals,
    metric_rows,
    metrics,
)

SCORES = np.array([[0.7, 0.2, 0.1, 0, 0, 0, 0], [0.3, 0.4, 0.3, 0, 0, 0, 0], [0.1, 0.6, 0.3, 0, 0, 0, 0]])


def test_worked_by_hand():
    rows = metric_rows(SCORES, [0, 0, 1], "single")
    assert rows.tolist() == [[0, 1], [0, 3], [1, 1]]
    values = metrics(rows, "single", 7)
    assert values == pytest.approx({"top-1": 200 / 3, "top-5": 100.0, "mean class accuracy": 75.0})


def test_equal_and_nan_scores_are_never_right():
    equal = np.full((2, 7), 0.5)
    assert class_ranks(equal, [0, 6]).tolist() == [7, 7]
    own, other = SCORES.copy(), SCORES.copy()
    own[0, 0], other[0, 4] = np.nan, np.nan
    assert class_ranks(own, [0, 0, 1]).tolist() == [8, 3, 1]
    assert class_ranks(other, [0, 0, 1]).tolist() == [2, 3, 1]
    few = np.full((1, 3), np.nan)
    assert class_ranks(few, [1]).tolist() == [4]
    assert metrics(metric_rows(few, [1], "single"), "single", 3) == {"top-1": 0.0, "mean class accuracy": 0.0}
    for table in (equal, own[:2], other[:2]):
        for labels in ([0, 6], [3, 3]):
            ranks, best = class_ranks(table, labels), best_classes(table, labels, 7)
            for label, rank, row in zip(labels, ranks.tolist(), best.tolist(), strict=True):
                assert rank == row.index(label) + 1 or (rank, row.index(label)) == (8, 6)


def test_wrong_shapes_and_labels_are_refused():
    with pytest.raises(VmrError, match="labels are 0 to 7, but the scores have 7 classes"):
        class_ranks(SCORES, [0, 1, 7])
    with pytest.raises(VmrError, match="expected \\(videos, classes\\)"):
        class_ranks(SCORES, [0, 1])
    with pytest.raises(VmrError, match="at least one view"):
        merge_views(np.zeros((0, 3)))


def test_mean_of_probabilities_and_of_logits_differ():
    # view 1 is sure of class 0, views 2 and 3 prefer class 1 a little
    views = np.log([[0.98, 0.01, 0.01], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    assert merge_views(views) == pytest.approx([1.38 / 3, 1.01 / 3, 0.61 / 3])
    of_logits = np.prod(np.exp(views), axis=0) ** (1 / 3)
    assert merge_views(views, average="logits") == pytest.approx(of_logits / of_logits.sum(), rel=1e-5)
    assert merge_views([[0.0, np.log(3)], [0.0, -np.log(3)]], "multi") == pytest.approx([0.5, 0.5])
    assert merge_views([[-200.0, 200.0]], "multi").tolist() == [0.0, 1.0]
    assert merge_views([[1.0], [2.5]], "regression").tolist() == [1.75]


def test_mean_average_precision_by_hand():
    # class 0: right at places 1 and 3 -> (1 + 2/3) / 2; class 1 ties everywhere -> share of the right ones, 1/4
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.5], [0.1, 0.5]])
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
    assert metrics(metric_rows(scores, truth, "multi"), "multi", 2)["mAP"] == pytest.approx(100 * (5 / 6 + 1 / 4) / 2)
    scores[0, 0] = np.nan  # it is there, and comes last: places 2 and 4 -> (1/2 + 2/4) / 2
    assert metrics(metric_rows(scores, truth, "multi"), "multi", 2)["mAP"] == pytest.approx(100 * (1 / 2 + 1 / 4) / 2)


def test_resampled_map_is_that_of_the_drawn_videos():
    random = np.random.default_rng(3)
    scores, truth = random.integers(0, 4, (12, 3)) / 4, random.integers(0, 2, (12, 3))
    pick = random.integers(0, 12, 12)
    from vmr.eval.metrics.accuracy import _mean_average_precision

    rows = metric_rows(scores, truth, "multi")
    counted = _mean_average_precision(rows, np.bincount(pick, minlength=12)[None])["mAP"][0]
    assert counted == pytest.approx(metrics(rows[pick], "multi", 3)["mAP"])


def test_squared_error_by_hand():
    rows = metric_rows([[1.0], [4.0]], [2.0, 2.0], "regression")
    assert metrics(rows, "regression", 1) == {"MSE": 2.5}
    assert metric_intervals(rows, "regression", 1)["MSE"] == (1.0, 4.0)  # both draws may be the same video


def test_intervals_agree_with_drawing_videos():
    random = np.random.default_rng(0)
    labels = random.integers(0, 8, 150)
    scores = random.normal(size=(150, 8)) + 1.5 * (labels[:, None] == np.arange(8))
    rows = metric_rows(scores, labels, "single")
    values, found = metrics(rows, "single", 8), metric_intervals(rows, "single", 8)
    drawn = [metrics(rows[random.integers(0, 150, 150)], "single", 8) for _ in range(1500)]
    for name, value in values.items():
        low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        assert found[name][0] <= value <= found[name][1]
        assert found[name] == pytest.approx((low, high), abs=2.0), name


def test_paired_difference_of_one_model_with_itself_is_zero():
    rows = metric_rows(SCORES, [0, 0, 1], "single")
    for difference in metric_differences(rows, rows, "single", 7).values():
        assert difference == (0.0, 0.0, 0.0, 1.0)
    better = metric_rows(np.eye(7)[[0, 0, 1]], [0, 0, 1], "single")
    difference = metric_differences(better, rows, "single", 7)
    assert difference["top-1"].value == pytest.approx(100 / 3) and difference["top-1"].low >= 0


def test_confusion_counts_right_by_predicted():
    assert confusion([0, 0, 1], [0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
