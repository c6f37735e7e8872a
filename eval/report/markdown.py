"""A report as Markdown. Imports no torch."""

from vmr.eval.report.report import DIRECTIONS, Report
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
    parts = [f"# {_plain(report.encoder)} on {_plain(report.dataset)}"]
    parts += [f"> **WARNING: {_plain(warning)}**" for warning in warnings(report)]
    intervals = " In brackets: 95 % bootstrap intervals over the queries." if report.intervals else ""
    parts += [f"Over {report.coverage}.{intervals}", "## Scores"]
    for kind in report.scores:
        parts += _column(report, kind)
    if report.reference:
        parts += ["## Published results", *_published(report)]
    parts += ["## Protocol", _facts(protocol_facts(report)), "## Environment", _facts(environment_facts(report))]
    if report.failures:
        rows = tuple((Cell(failure.video), Cell(failure.reason)) for failure in report.failures)
        parts += ["## Left out", _table(Table("", ("video", "reason"), rows))]
    if report.remarks:
        rows = tuple((Cell(remark.video), Cell(remark.text)) for remark in report.remarks)
        parts += ["## Read with remarks", _table(Table("", ("video", "remark"), rows))]
    return "\n\n".join(parts) + "\n"


def _column(report: Report, kind: str) -> list[str]:
    info = report.columns[kind]
    table = score_table(report, kind)
    others = ", ".join(f"{name} {_cell(cell)}" for name, cell in other_scores(report, kind))
    return [
        f"### {_plain(column_title(kind, info))}",
        f"{_plain(info.about)}.",
        *([_table(table)] if table.rows else []),
        *([others] if others else []),
    ]


def _published(report: Report) -> list[str]:
    tables = (reference_table(report, direction) for direction in DIRECTIONS)
    return [part for table in tables for part in (f"**{table.caption}**", _table(table)) if table.rows]


def _facts(facts: tuple[tuple[str, str], ...]) -> str:
    return _table(Table("", ("", ""), tuple((Cell(name), Cell(value)) for name, value in facts)))


def _table(table: Table) -> str:
    lines = [table.header, ("---",) * len(table.header), *(tuple(map(_cell, row)) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    return f"{_plain(cell.text)} ({_plain(cell.small)})" if cell.small else _plain(cell.text)


def _plain(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged: a caption may hold a pipe, a tag or a line break."""
    escaped = "".join(f"\\{character}" if character in "\\|*_`[]" else character for character in text)
    return " ".join(escaped.replace("&", "&amp;").replace("<", "&lt;").split())
