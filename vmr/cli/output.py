"""How results look on a terminal: results on standard output, everything else on standard error."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable

from vmr.progress import printable

if TYPE_CHECKING:
    from vmr.eval.classification.report.report import ClassificationReport
    from vmr.eval.report.report import Report
    from vmr.eval.report.tables import Cell, Table
    from vmr.retrieval.results import Failure, VideoRemark


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output.

    No cell is cut. On a terminal long cells are folded to its width; in a pipe every row is one line.

    Args:
        title: the title above the table.
        columns: the names of the columns; without any name the table has no header.
        rows: the cells.
    """
    table = RichTable(title=printable(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    width = None if sys.stdout.isatty() else 10_000
    Console(markup=False, emoji=False, highlight=False, width=width).print(table)


def print_failures(failures: Sequence["Failure"]) -> None:
    """Print every video that was left out, with the reason, on standard error.

    Args:
        failures: the videos.
    """
    for failure in failures:
        print(printable(f"left out: {failure.video}: {failure.reason}"), file=sys.stderr)


def print_remarks(remarks: Sequence["VideoRemark"]) -> None:
    """Print what was noticed about videos that were read, on standard error.

    Args:
        remarks: what was noticed.
    """
    for remark in remarks:
        print(printable(f"noticed: {remark.video}: {remark.text}"), file=sys.stderr)


def print_report(report: "Report") -> None:
    """Print a report: its warnings on standard error; a table for each column, and published results.

    Args:
        report: the report.
    """
    from vmr.eval.report.report import DIRECTIONS
    from vmr.eval.report.tables import other_scores, reference_table, score_table, warnings

    for warning in warnings(report):
        print(f"WARNING: {printable(warning)}", file=sys.stderr)
    for kind in report.scores:
        table = score_table(report, kind)
        if table.rows:
            print_table(f"{report.dataset}, {report.encoder}, {table.caption}", table.header, _lines(table))
        for name, cell in other_scores(report, kind):
            print(f"{kind} {name} {_with_small(cell)}")
    if report.intervals:
        print("below each score: its 95 % bootstrap interval over the queries")
    for direction in DIRECTIONS if report.reference else ():
        table = reference_table(report, direction)
        print_table(table.caption, table.header[:-1], [[_with_small(cell) for cell in row[:-1]] for row in table.rows])
    print(f"over {report.coverage}")
    print(f"{report.encoder}: {report.about}")


def print_classification(report: "ClassificationReport") -> None:
    """Print a report on a classifier: its warnings on standard error; its scores, and published results.

    Args:
        report: the report.
    """
    from vmr.eval.classification.report.tables import JOINS, reference_table, score_table, views_words, warnings

    for warning in warnings(report):
        print(f"WARNING: {printable(warning)}", file=sys.stderr)
    for note in report.notes:
        print(f"noticed: {printable(note)}", file=sys.stderr)
    table = score_table(report)
    print_table(f"{report.dataset}, {report.model}, {table.caption}", table.header, _lines(table))
    print("below each score: its 95 % bootstrap interval over the videos")
    if report.reference:
        table = reference_table(report)
        print_table(table.caption, table.header[:-1], [[_with_small(cell) for cell in row[:-1]] for row in table.rows])
    print(f"over {report.coverage}, views {views_words(report)}, joined by {report.join} ({JOINS[report.join]})")
    print(f"{report.model}: {report.about}")


def _lines(table: "Table") -> list[list[str]]:
    """The rows of a table, each with its intervals below it."""
    return [
        line
        for row in table.rows
        for line in ([cell.text for cell in row], ["", *(cell.small for cell in row[1:])])
        if any(line)
    ]


def _with_small(cell: "Cell") -> str:
    return f"{cell.text} ({cell.small})" if cell.small else cell.text


def clock(seconds: float, tenths: bool = False) -> str:
    """Return a time in a video as hours:minutes:seconds: 75.5 -> 0:01:16, or with tenths 0:01:15.5.

    Args:
        seconds: from 0.
        tenths: whether tenths of a second are shown; otherwise it is rounded to seconds, half a second up.
    """
    count = math.floor(seconds * 10 + 0.5) if tenths else math.floor(seconds + 0.5) * 10
    minutes, rest = divmod(count, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest // 10:02d}" + (f".{rest % 10}" if tenths else "")
