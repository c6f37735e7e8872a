"""A report as Markdown. Imports no torch."""

from vmr.eval.report.report import DIRECTIONS, Report
from vmr.eval.report.saved import SavedReport
from vmr.eval.report.tables import (
    Cell,
    Table,
    column_title,
    environment_facts,
    other_scores,
    protocol_facts,
    reference_table,
    score_table,
    warnings,
)


def to_markdown(report: Report) -> str:
    """Return a report as Markdown, without its ranks and examples; warnings stand first.

    Args:
        report: the report.
    """
    parts = [f"# {plain(report.encoder)} on {plain(report.dataset)}"]
    parts += [f"> **WARNING: {plain(warning)}**" for warning in warnings(report)]
    intervals = " In brackets: 95 % bootstrap intervals over the queries." if report.intervals else ""
    parts += [f"Over {report.coverage}.{intervals}", "## Scores"]
    for kind in report.scores:
        parts += _column(report, kind)
    if report.reference:
        parts += ["## Published results", *_published(report)]
    parts += [
        "## Protocol",
        facts_table(protocol_facts(report)),
        "## Environment",
        facts_table(environment_facts(report, "encoder", report.encoder)),
    ]
    return "\n\n".join(parts + left_out(report)) + "\n"


def left_out(report: SavedReport) -> list[str]:
    """Return the sections on the videos that were left out, and on those that were read with remarks.

    Args:
        report: a report of any kind.
    """
    parts = []
    if report.failures:
        rows = tuple((Cell(failure.video), Cell(failure.reason)) for failure in report.failures)
        parts += ["## Left out", table_lines(Table("", ("video", "reason"), rows))]
    if report.remarks:
        rows = tuple((Cell(remark.video), Cell(remark.text)) for remark in report.remarks)
        parts += ["## Read with remarks", table_lines(Table("", ("video", "remark"), rows))]
    return parts


def _column(report: Report, kind: str) -> list[str]:
    info = report.columns[kind]
    table = score_table(report, kind)
    others = ", ".join(f"{name} {_cell(cell)}" for name, cell in other_scores(report, kind))
    return [
        f"### {plain(column_title(kind, info))}",
        f"{plain(info.about)}.",
        *([table_lines(table)] if table.rows else []),
        *([others] if others else []),
    ]


def _published(report: Report) -> list[str]:
    tables = (reference_table(report, direction) for direction in DIRECTIONS)
    return [part for table in tables for part in (f"**{table.caption}**", table_lines(table)) if table.rows]


def facts_table(facts: tuple[tuple[str, str], ...]) -> str:
    """Return names and values as a table without a header."""
    return table_lines(Table("", ("", ""), tuple((Cell(name), Cell(value)) for name, value in facts)))


def table_lines(table: Table) -> str:
    """Return a table without its caption."""
    lines = [table.header, ("---",) * len(table.header), *(tuple(map(_cell, row)) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    return f"{plain(cell.text)} ({plain(cell.small)})" if cell.small else plain(cell.text)


def plain(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged: a caption may hold a pipe, a tag or a line break."""
    escaped = "".join(f"\\{character}" if character in "\\|*_`[]" else character for character in text)
    return " ".join(escaped.replace("&", "&amp;").replace("<", "&lt;").split())
