"""The tables of a report, the same for Markdown and HTML. Imports no torch."""

from dataclasses import dataclass

from vmr.eval.metrics.columns import CONTROL_KINDS, ColumnInfo
from vmr.eval.report.reference import ReferenceRow
from vmr.eval.report.report import DIRECTIONS, Report
from vmr.eval.report.saved import SavedReport

CURVE_AT = (1, 5, 10, 20, 50, 100)
THIS_REPORT = "this report"  # the source named in our own rows


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its content.
        small: a text beside it in small letters, such as an interval; may be empty.
    """

    text: str
    small: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: its title.
        header: the names of its columns.
        rows: its rows; the first cell of each is the name of the row.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def column_title(kind: str, info: ColumnInfo) -> str:
    """Return a column's name with its marks: `embedding+dsl (uses the other test queries)`.

    Args:
        kind: the name of the column.
        info: the description of the column.
    """
    return f"{kind} ({info.marks})" if info.marks else kind


def score_table(report: Report, kind: str) -> Table:
    """Return the table of one column: a row for each direction, a cell for each metric.

    Args:
        report: the report.
        kind: the name of the column.
    """
    metrics = report.scores[kind]
    names = list(dict.fromkeys(metric.split("/")[1] for metric in metrics if "/" in metric))
    rows = tuple(
        (Cell(label), *(_score_cell(report, kind, f"{direction}/{name}") for name in names))
        for direction, label in DIRECTIONS.items()
        if any(metric.startswith(f"{direction}/") for metric in metrics)
    )
    return Table(f"{column_title(kind, report.columns[kind])} scores", ("", *names), rows)


def other_scores(report: Report, kind: str) -> tuple[tuple[str, Cell], ...]:
    """Return the name and value of each metric of a column that has no direction: `rsum`, `accuracy`.

    Args:
        report: the report.
        kind: the name of the column.
    """
    return tuple((metric, _score_cell(report, kind, metric)) for metric in report.scores[kind] if "/" not in metric)


def _score_cell(report: Report, kind: str, metric: str) -> Cell:
    if metric not in report.scores[kind]:
        return Cell("-")
    interval = report.intervals.get(kind, {}).get(metric)
    small = f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else ""
    return Cell(f"{report.scores[kind][metric]:.1f}", small)


def reference_table(report: Report, direction: str) -> Table:
    """Return our columns, without the controls, and published results; each row says how it was scored.

    Args:
        report: the report.
        direction: `text_to_video` or `video_to_text`.
    """
    recalls = ("R@1", "R@5", "R@10")
    ours = tuple(
        (
            Cell(report.encoder),
            Cell(kind, info.marks),
            Cell(
                "-"
                if report.complete and not report.partial
                else f"over {report.num_videos} of {report.num_videos_asked}"
            ),
            *(Cell(f"{report.scores[kind][f'{direction}/{name}']:.1f}") for name in recalls),
            Cell(THIS_REPORT),
        )
        for kind, info in report.columns.items()
        if f"{direction}/R@1" in report.scores[kind] and kind not in CONTROL_KINDS
    )
    published = tuple(_reference_cells(row) for row in report.reference if row.direction == direction)
    header = ("model", "kind of score", "setting", *recalls, "source")
    return Table(f"{DIRECTIONS[direction].capitalize()}, beside published results", header, (*ours, *published))


def _reference_cells(row: ReferenceRow) -> tuple[Cell, ...]:
    recalls = (Cell("-" if recall is None else f"{recall:.1f}") for recall in row.recalls)
    return (Cell(row.model), Cell(row.kind), Cell(row.setting), *recalls, Cell(row.source))


def curve_table(report: Report, direction: str) -> Table:
    """Return R@K at several K for every column whose ranks are known: the recall curve in numbers.

    Args:
        report: the report.
        direction: `text_to_video` or `video_to_text`.
    """
    rows = tuple(
        (Cell(kind), *(Cell(f"{recall_at(ranks[direction], k):.1f}") for k in CURVE_AT))
        for kind, ranks in report.ranks.items()
        if ranks.get(direction)
    )
    header = ("", *(f"R@{k}" for k in CURVE_AT))
    return Table(f"Recall in percent, {DIRECTIONS[direction]}", header, rows)


def recall_at(ranks: tuple[int, ...], k: int) -> float:
    """Return the share of queries, in percent, whose rank is at most k.

    Args:
        ranks: ranks of the queries, from 1; at least one.
        k: K of R@K.
    """
    return 100.0 * sum(rank <= k for rank in ranks) / len(ranks)


def protocol_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the facts about the data and protocol, as names and values."""
    protocol = report.protocol
    followed: tuple[tuple[str, str], ...] = ()
    if protocol is not None:
        followed = (
            ("protocol", f"{protocol.name}, version {protocol.version}: {protocol.title}"),
            ("protocol hash", protocol.hash),
            ("what it is", protocol.note),
        )
    facts = (
        *followed,
        ("data set", report.dataset),
        ("scored", report.coverage),
        ("frames", f"{report.num_frames}, sampled by rule {report.sampling}, read by {report.reader}"),
        ("re-ranked", f"{report.rerank_depth} candidates of each query" if report.rerank_depth else "no"),
    )
    return tuple((name, value) for name, value in facts if value)


def environment_facts(report: SavedReport, kind: str, model: str) -> tuple[tuple[str, str], ...]:
    """Return the facts about code, machine and libraries, as names and values.

    Args:
        report: a report of any kind.
        kind: what the model is, such as `encoder`.
        model: its name.
    """
    machine = report.hardware
    return (
        ("command", report.command),
        ("date", report.date),
        (kind, f"{model}: {report.about}"),
        ("fingerprint", report.fingerprint),
        ("commit", _commit_words(report)),
        ("processor", f"{machine.cpu}, {machine.num_cores} cores"),
        ("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("GPU", machine.gpu or "none in use"),
        *report.versions.items(),
    )


def _commit_words(report: SavedReport) -> str:
    commit = report.commit
    if commit is None:
        return "not a checkout"
    return f"{commit.id}, with changes that are not in it" if commit.dirty else commit.id


def warnings(report: Report) -> tuple[str, ...]:
    """Return the warnings to show before any number: alarms, and that a part of the data set was not scored."""
    partial = f"PARTIAL: a smoke run over the first {report.limit} videos, not a result on {report.dataset}."
    missing = f"The scores are over {report.coverage}."
    return (
        *report.alarms,
        *((partial,) if report.partial else ()),
        *((missing,) if not report.complete else ()),
    )
