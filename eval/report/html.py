"""A report as one self-contained HTML page: no network, no JavaScript. Needs jinja2, matplotlib, pillow; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmr.errors import MissingExtraError
from vmr.eval.report import plots as report_plots
from vmr.eval.report.examples import GROUPS
from vmr.eval.report.frame_strips import FrameStrips
from vmr.eval.report.report import DIRECTIONS, Report
from vmr.eval.report.tables import (
    column_title,
    curve_table,
    environment_facts,
    other_scores,
    protocol_facts,
    reference_table,
    score_table,
    warnings,
)

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "alarms": "alarms",
    "summary": "summary",
    "scores": "scores",
    "published": "published results",
    "curves": "recall curves",
    "histogram": "ranks",
    "queries": "worst and best queries",
    "protocol": "protocol",
    "environment": "environment",
    "failures": "left out",
}
"""The id of each section of the page, in order, and what the list of sections calls it."""


def to_html(report: Report, video_files: Mapping[str, Path] | None = None) -> str:
    """Return the whole report as a page.

    Args:
        report: the report.
        video_files: id of a video -> its file, for the frames of the worst and best queries. A video without a readable
            file is shown as a placeholder with its name.

    Raises:
        MissingExtraError: jinja2, matplotlib or pillow is not installed.
    """
    return render(
        "report.html.j2",
        title=f"{report.encoder} on {report.dataset}",
        sections=SECTIONS,
        report=report,
        warnings=warnings(report),
        columns=[_column(report, kind) for kind in report.scores],
        reference=[table for table in (reference_table(report, way) for way in DIRECTIONS) if report.reference],
        curves=report_plots.recall_curves(report),
        curve_tables=[table for table in (curve_table(report, way) for way in DIRECTIONS) if table.rows],
        histogram=report_plots.rank_histogram(report),
        examples=_examples(report, FrameStrips(video_files or {}, report.num_frames)),
        protocol=protocol_facts(report),
        environment=environment_facts(report, "encoder", report.encoder),
    )


def render(template: str, **values: Any) -> str:
    """Return a page made from a template of this package; every value is escaped.

    Args:
        template: the name of its file.
        **values: what it shows.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", "report") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _column(report: Report, kind: str) -> dict[str, Any]:
    info = report.columns[kind]
    metrics, intervals = report.scores[kind], report.intervals.get(kind, {})
    head = next((name for name in ("text_to_video/R@1", "accuracy") if name in metrics), next(iter(metrics), ""))
    return {
        "kind": kind,
        "title": column_title(kind, info),
        "marks": info.marks,
        "about": info.about,
        "table": score_table(report, kind),
        "others": other_scores(report, kind),
        "head": head.replace("_", " ").replace("/", " "),
        "value": metrics.get(head),
        "interval": intervals.get(head),
    }


def _examples(report: Report, strips: FrameStrips) -> list[dict[str, Any]]:
    """For each column and group the queries, with strips of the right video and of the retrieved videos."""
    return [
        {
            "kind": kind,
            "groups": {
                group: [
                    {
                        "text": example.text,
                        "rank": example.rank,
                        "own": strips.of(example.video),
                        "retrieved": [
                            {"strip": strips.of(video), "score": score, "right": video == example.video}
                            for video, score in example.retrieved
                        ],
                    }
                    for example in examples
                    if example.group == group
                ]
                for group in GROUPS
            },
        }
        for kind, examples in report.examples.items()
    ]
