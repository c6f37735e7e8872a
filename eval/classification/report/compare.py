"""Whether one classifier is better than another: paired bootstrap of the differences over videos. Imports no torch.

Two reports can be compared only if they have the same videos with the same classes, and were scored by the same
protocol, views, average and join; other pairs are refused, and the message says what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vmr.errors import VmrError
from vmr.eval.classification.report.report import ClassificationReport
from vmr.eval.metrics.accuracy import metric_differences, metrics
from vmr.eval.report.compare import MetricDifference


@dataclass(frozen=True)
class ClassificationComparison:
    """The result of comparing two reports.

    Attributes:
        rows: the metrics of each column that both have, as `views/top-1`.
        num_videos: how many videos were paired.
        differences: how the two evaluations differ, in words; empty unless the comparison was forced.
        same: whether each video has the same result in both.
    """

    rows: tuple[MetricDifference, ...]
    num_videos: int
    differences: tuple[str, ...]
    same: bool


def compare_classification(
    a: ClassificationReport, b: ClassificationReport, *, force: bool = False
) -> ClassificationComparison:
    """Compare `b` with `a`, video by video.

    Args:
        a: the first report.
        b: the second report. Differences are b - a.
        force: if the evaluations differ, compare the videos that both have, with the same class.

    Raises:
        VmrError: the reports differ in data, classes, protocol, views, average or join, and `force` is not given; or
            they have no video in common, or predict something else.
    """
    if a.target != b.target or a.classes != b.classes:
        raise VmrError(
            f"the reports cannot be compared: {len(a.classes)} classes ({a.target}) against {len(b.classes)} "
            f"({b.target}), or other names of classes"
        )
    differences = tuple(_differences(a, b))
    if differences and not force:
        raise VmrError(
            f"the reports cannot be compared: {'; '.join(differences)} (--force compares what can be paired)"
        )
    of_a, of_b = _pairs(a, b)
    if not of_a:
        raise VmrError("no video with the same class is in both reports")
    rows: list[MetricDifference] = []
    same = True
    for column in (name for name in a.scores if name in b.scores):
        rows_a, rows_b = a.metric_rows(column)[of_a], b.metric_rows(column)[of_b]
        same = same and np.array_equal(rows_a, rows_b)
        num_classes = len(a.classes)
        values_a, values_b = (metrics(each, a.target, num_classes) for each in (rows_a, rows_b))
        differs = metric_differences(rows_b, rows_a, a.target, num_classes)
        rows += [
            MetricDifference(f"{column}/{name}", values_a[name], values_b[name], *difference)
            for name, difference in differs.items()
        ]
    return ClassificationComparison(tuple(rows), len(of_a), differences, same)


def _differences(a: ClassificationReport, b: ClassificationReport) -> Iterator[str]:
    """Return the differences of the two evaluations in words. The size of a view is the classifier's own affair."""
    pairs = (
        ("protocol", _protocol_in_words(a), _protocol_in_words(b)),
        ("views", _views_in_words(a), _views_in_words(b)),
        ("average of", a.average, b.average),
        ("joined by", a.join, b.join),
    )
    for what, of_a, of_b in pairs:
        if of_a != of_b:
            yield f"{what} {of_a} against {of_b}"
    if a.videos != b.videos:
        only_a, only_b = len(set(a.videos) - set(b.videos)), len(set(b.videos) - set(a.videos))
        yield f"{len(a.videos)} videos against {len(b.videos)}, {only_a} of the first and {only_b} of the second alone"
    elif (a.labels, a.values) != (b.labels, b.values):
        yield "some videos have other labels"


def _protocol_in_words(report: ClassificationReport) -> str:
    protocol = report.protocol
    return f"{protocol.name} version {protocol.version} ({protocol.hash}) on {report.dataset}"


def _views_in_words(report: ClassificationReport) -> str:
    views = report.views
    return f"{views.num_segments} x {views.num_crops} by rule {views.frames}"


def _pairs(a: ClassificationReport, b: ClassificationReport) -> tuple[list[int], list[int]]:
    """The places in each of the videos that both have with the same label."""
    truth_a, truth_b = (report.values or report.labels for report in (a, b))
    place = {video: number for number, video in enumerate(b.videos)}
    shared = [
        (number, place[video])
        for number, video in enumerate(a.videos)
        if video in place and truth_a[number] == truth_b[place[video]]
    ]
    return [of_a for of_a, _ in shared], [of_b for _, of_b in shared]
