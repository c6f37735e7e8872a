"""A report on a classifier as Markdown. Imports no torch."""

from vmr.eval.classification.report.report import ClassificationReport
from vmr.eval.classification.report.tables import (
    COLUMNS,
    class_table,
    pair_table,
    protocol_facts,
    reference_table,
    score_table,
    warnings,
)
from vmr.eval.report.markdown import facts_table, left_out, plain, table_lines
from vmr.eval.report.tables import environment_facts


def to_markdown(report: ClassificationReport) -> str:
    """Return a report as Markdown; warnings stand first.

    Args:
        report: the report.
    """
    parts = [f"# {plain(report.model)} on {plain(report.dataset)}"]
    parts += [f"> **WARNING: {plain(warning)}**" for warning in warnings(report)]
    parts += [f"Over {report.coverage}. In brackets: 95 % bootstrap intervals over the videos."]
    parts += ["## Scores", table_lines(score_table(report))]
    parts += [f"`{column}`: {COLUMNS[column]}." for column in report.scores if len(report.scores) > 1]
    if report.reference:
        parts += ["## Published results", table_lines(reference_table(report))]
    if report.target == "single":
        parts += ["## Classes", table_lines(class_table(report))]
        pairs = pair_table(report)
        if pairs.rows:
            parts += [f"**{pairs.caption}**", table_lines(pairs)]
    parts += ["## Protocol", facts_table(protocol_facts(report))]
    parts += ["## Environment", facts_table(environment_facts(report, "classifier", report.model))]
    return "\n\n".join(parts + left_out(report)) + "\n"
