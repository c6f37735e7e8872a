"""A small report on a classifier, worked by hand."""

import numpy as np

from vmr.data.views.spec import ViewSpec
from vmr.eval.classification.report.report import ClassificationReport, ColumnResult, Cost
from vmr.eval.metrics.accuracy import best_classes, class_ranks, metric_intervals, metric_rows, metrics
from vmr.eval.report.report import ProtocolInfo
from vmr.retrieval.results import Failure

CLASSES = ("<script>alert(1)</script>", "$\\frac{1", "a|b*c", "dog & cat", '"quoted"', "plain")
LABELS = (0, 1, 2, 3, 4, 5, 0, 1)
NETWORK = {"width": 16, "num_layers": 1, "image_size": 16, "num_frames": 2, "patch_size": 8, "num_classes": 6}


def scores_of(predicted: tuple[int, ...]) -> np.ndarray:
    """0.5 for the predicted class of each video, 0.3 for the right one, little for the others."""
    scores = np.full((len(LABELS), len(CLASSES)), 0.02)
    scores += np.arange(len(CLASSES)) / 1000
    scores[np.arange(len(LABELS)), LABELS] = 0.3
    scores[np.arange(len(LABELS)), predicted] = 0.5
    return scores


def make_classification_report(
    predicted: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 1, 2), **changes: object
) -> ClassificationReport:
    """Eight videos of six classes; the last two are taken for another class, and a ninth is missing."""
    scores = scores_of(predicted)
    rows = metric_rows(scores, LABELS, "single")
    top = best_classes(scores, LABELS)
    result = ColumnResult(
        top=tuple(tuple(row) for row in top.tolist()),
        probabilities=tuple(tuple(row) for row in np.take_along_axis(scores, top, 1).tolist()),
        ranks=tuple(class_ranks(scores, LABELS).tolist()),
    )
    fields = {
        "dataset": "breakfast",
        "model": "toy",
        "about": "a toy",
        "fingerprint": "f00d",
        "target": "single",
        "classes": CLASSES,
        "views": ViewSpec(2, 16, num_segments=4, num_crops=3),
        "views_of_protocol": True,
        "average": "probabilities",
        "join": "path",
        "reader": "pyav",
        "num_videos": 8,
        "num_videos_asked": 9,
        "failures": (Failure("gone<i>.mp4", "no such file"),),
        "remarks": (),
        "scores": {"views": metrics(rows, "single", len(CLASSES))},
        "intervals": {"views": metric_intervals(rows, "single", len(CLASSES))},
        "videos": tuple(f"video <b>{number}</b>.mp4" for number in range(8)),
        "labels": tuple((label,) for label in LABELS),
        "values": (),
        "results": {"views": result},
        "protocol": ProtocolInfo("breakfast", 1, "0123456789abcdef", "Breakfast", "a note"),
        "notes": ("classes by name",),
        "cost": Cost(7000, 2_000_000_000, dict(NETWORK)),
        "date": "2030-01-02T03:04:05+00:00",
    }
    return ClassificationReport(**{**fields, **changes})
