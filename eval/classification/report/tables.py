"""The tables of a report on a classifier, the same for Markdown, HTML and the terminal. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.eval.classification.report.report import MAIN, ClassificationReport
from vmr.eval.metrics.accuracy import confusion
from vmr.eval.report.tables import THIS_REPORT, Cell, Table

NUM_WORST = 6
NUM_PAIRS = 10

JOINS = {
    "path": "the views of one path, with its folders",
    "clip": "each trimmed clip of a file by itself",
    "basename": "files whose names are equal up to the first dot; the first of them counts, as in upstream's code",
}
COLUMNS = {
    MAIN: "the views of each video",
    "static": "each view is one frame repeated: what this scores needs no motion",
    "shuffled": "the frames of each view are out of order: what this scores needs no order",
}


class ClassScore(NamedTuple):
    """How often the videos of a class were right.

    Attributes:
        number: of the class.
        name: of the class.
        num_videos: how many of its videos were scored.
        num_right: how many of them were right.
        taken_for: the class that most of the others were taken for; None if all were right.
        num_taken: how many of them were.
    """

    number: int
    name: str
    num_videos: int
    num_right: int
    taken_for: str | None
    num_taken: int

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100.0 * self.num_right / self.num_videos


def score_table(report: ClassificationReport) -> Table:
    """Return the metrics: a row for each column, a cell for each metric with its interval."""
    metrics = list(report.scores[MAIN])
    digits = 3 if report.target == "regression" else 1
    rows = tuple(
        (Cell(column), *(_score(report, column, metric, digits) for metric in metrics)) for column in report.scores
    )
    return Table("scores", ("", *metrics), rows)


def _score(report: ClassificationReport, column: str, metric: str, digits: int) -> Cell:
    bounds = report.intervals.get(column, {}).get(metric)
    small = f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}" if bounds else ""
    return Cell(f"{report.scores[column][metric]:.{digits}f}", small)


def confusion_matrix(report: ClassificationReport) -> NDArray[np.int64]:
    """Return how often videos of a class were taken for each class: (C, C), row right, column predicted."""
    own = [numbers[0] for numbers in report.labels]
    best = [row[0] for row in report.results[MAIN].top]
    return confusion(own, best, len(report.classes))


def class_scores(report: ClassificationReport) -> tuple[ClassScore, ...]:
    """Return the classes that have a video, the worst first; of equal ones the one with more videos."""
    counts = confusion_matrix(report)
    rows = []
    for number in np.flatnonzero(counts.sum(axis=1)).tolist():
        wrong = counts[number].copy()
        wrong[number] = 0
        other = int(wrong.argmax())
        taken_for = report.classes[other] if wrong[other] else None
        right, total = int(counts[number, number]), int(counts[number].sum())
        rows.append(ClassScore(number, report.classes[number], total, right, taken_for, int(wrong[other])))
    return tuple(sorted(rows, key=lambda row: (row.accuracy, -row.num_videos, row.number)))


def class_table(report: ClassificationReport) -> Table:
    """Return the classes with their accuracies, the worst first."""
    rows = tuple(
        (
            Cell(row.name),
            Cell(str(row.num_videos)),
            Cell(f"{row.accuracy:.1f}"),
            Cell("-" if row.taken_for is None else row.taken_for, f"{row.num_taken}" if row.num_taken else ""),
        )
        for row in class_scores(report)
    )
    return Table("classes, the worst first", ("class", "videos", "top-1", "most often taken for"), rows)


def pair_table(report: ClassificationReport) -> Table:
    """Return the pairs of classes that were confused most often."""
    counts = confusion_matrix(report)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:NUM_PAIRS]
    places = zip(*np.unravel_index(order, counts.shape), strict=True)
    rows = tuple(
        (Cell(report.classes[right]), Cell(report.classes[taken]), Cell(str(counts[right, taken])))
        for right, taken in places
        if counts[right, taken]
    )
    return Table("most frequent confusions", ("right", "predicted", "videos"), rows)


def reference_table(report: ClassificationReport) -> Table:
    """Return our result and published ones; each row says how it was scored."""
    metrics, name, digits = report.scores[MAIN], "top-1", 1
    if report.target == "regression":
        name, digits = "MSE", 2
    setting = (
        "-" if report.complete and not report.partial else f"over {report.num_videos} of {report.num_videos_asked}"
    )
    top5 = f"{metrics['top-5']:.1f}" if "top-5" in metrics else "-"
    ours = (
        Cell(report.model),
        Cell(views_words(report)),
        Cell(setting),
        Cell(f"{metrics[name]:.{digits}f}" if name in metrics else "-"),
        Cell(top5),
        Cell(THIS_REPORT),
    )
    published = tuple(
        (
            Cell(row.model),
            Cell(row.views),
            Cell(row.setting or "-"),
            Cell(f"{row.top1:.{digits}f}"),
            Cell("-" if row.top5 is None else f"{row.top5:.1f}"),
            Cell(row.source),
        )
        for row in sorted(report.reference, key=lambda row: row.model != report.model)  # its own published score first
    )
    header = ("model", "views", "setting", name, "top-5", "source")
    return Table("beside published results", header, (ours, *published))


def views_words(report: ClassificationReport) -> str:
    """Return the views in words: `8 x 224, 4 x 3`."""
    views = report.views
    return f"{views.num_frames} x {views.size}, {views.num_segments} x {views.num_crops}"


def protocol_facts(report: ClassificationReport) -> tuple[tuple[str, str], ...]:
    """Return the facts about the data and protocol, as names and values."""
    protocol, views = report.protocol, report.views
    own = "" if report.views_of_protocol else " (--views, not the protocol's)"
    averaged = {"probabilities": "softmax", "logits": "logits"}[report.average]
    average = "the mean of the views' predictions" if report.target == "regression" else f"the mean of the {averaged}"
    if report.target == "multi" and report.average == "probabilities":
        average = "the mean of the sigmoid"
    return (
        ("protocol", f"{protocol.name}, version {protocol.version}: {protocol.title}"),
        ("protocol hash", protocol.hash),
        ("what it is", protocol.note),
        ("data set", report.dataset),
        ("scored", report.coverage),
        ("views", f"{views.num_segments} segments x {views.num_crops} crops{own}"),
        ("frames", f"{views.num_frames} of {views.size} pixels, by rule {views.frames}, read by {report.reader}"),
        ("score of a video", average),
        ("joined", f"by {report.join}: {JOINS[report.join]}"),
        *((f"note {number}", note) for number, note in enumerate(report.notes, start=1)),
    )


def warnings(report: ClassificationReport) -> tuple[str, ...]:
    """Return the warnings to show before any number."""
    partial = f"PARTIAL: a smoke run over the first {report.limit} videos, not a result on {report.dataset}."
    missing = f"The scores are over {report.coverage}."
    views = f"The views are not those of {report.protocol.name}: its scores cannot be compared with these."
    other = not report.views_of_protocol and report.protocol.name != "file"
    return (
        *report.alarms,
        *((partial,) if report.partial else ()),
        *((missing,) if not report.complete else ()),
        *((views,) if other else ()),
    )
