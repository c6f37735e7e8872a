"""A report on a classifier as one self-contained HTML page. Needs jinja2, matplotlib, pillow; imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmr.eval.classification.report.plots import confusion_plot
from vmr.eval.classification.report.report import MAIN, ClassificationReport
from vmr.eval.classification.report.tables import (
    COLUMNS,
    NUM_WORST,
    class_scores,
    class_table,
    pair_table,
    protocol_facts,
    reference_table,
    score_table,
    warnings,
)
from vmr.eval.report.frame_strips import FrameStrips
from vmr.eval.report.html import render
from vmr.eval.report.tables import environment_facts

SECTIONS = {
    "alarms": "alarms",
    "summary": "summary",
    "scores": "scores",
    "published": "published results",
    "confusion": "confusion matrix",
    "worst": "worst classes",
    "classes": "all classes",
    "protocol": "protocol",
    "environment": "environment",
    "failures": "left out",
}
NUM_VIDEOS = 3  # of each of the worst classes


def to_html(report: ClassificationReport, video_files: Mapping[str, Path] | None = None) -> str:
    """Return the whole report as a page.

    Args:
        report: the report.
        video_files: name of a video -> its file, for the frames of the worst classes. A video without a readable file
            is shown as a placeholder with its name.

    Raises:
        MissingExtraError: jinja2, matplotlib or pillow is not installed.
    """
    single = report.target == "single"
    return render(
        "classification.html.j2",
        report=report,
        title=f"{report.model} on {report.dataset}",
        sections={name: words for name, words in SECTIONS.items() if single or name not in _OF_CLASSES},
        single=single,
        warnings=warnings(report),
        tiles=_tiles(report),
        scores=score_table(report),
        columns=[(column, COLUMNS[column]) for column in report.scores],
        reference=reference_table(report) if report.reference else None,
        confusion=confusion_plot(report) if single else "",
        pairs=pair_table(report) if single else None,
        worst=_worst(report, FrameStrips(video_files or {}, report.views.num_frames)) if single else [],
        classes=class_table(report) if single else None,
        protocol=protocol_facts(report),
        environment=environment_facts(report, "classifier", report.model),
    )


_OF_CLASSES = ("confusion", "worst", "classes")


def _tiles(report: ClassificationReport) -> list[dict[str, Any]]:
    bounds = report.intervals.get(MAIN, {})
    return [{"name": name, "value": value, "interval": bounds.get(name)} for name, value in report.scores[MAIN].items()]


def _worst(report: ClassificationReport, strips: FrameStrips) -> list[dict[str, Any]]:
    """The worst classes that are not always right, each with videos that were taken for another class."""
    result = report.results[MAIN]
    found = []
    for row in class_scores(report)[:NUM_WORST]:
        if row.taken_for is None:
            continue
        wrong = [
            video
            for video, (labels, rank) in enumerate(zip(report.labels, result.ranks, strict=True))
            if labels[0] == row.number and rank > 1
        ]
        wrong.sort(key=lambda video: -result.ranks[video])
        videos = [
            {
                "strip": strips.of(report.videos[video]),
                "rank": result.ranks[video],
                "predicted": report.classes[result.top[video][0]],
                "probability": result.probabilities[video][0],
            }
            for video in wrong[:NUM_VIDEOS]
        ]
        found.append({"score": row, "videos": videos})
    return found
