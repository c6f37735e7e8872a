"""Whether one evaluation is better than another: paired bootstrap of the differences. Imports no torch.

Two reports can be compared only if they have the same queries, gallery and protocol, and scored them in the same way;
other pairs are refused, and the message says what differs. Reports hold the rank of each query, so they are compared
query by query, which detects far smaller differences than two separate intervals.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.eval.metrics.bootstrap import paired_difference
from vmr.eval.metrics.ranks import summary
from vmr.eval.report.report import DIRECTIONS, Report


@dataclass(frozen=True)
class MetricDifference:
    """How two reports, a and b, differ in one metric over the queries that both have.

    Attributes:
        metric: such as `text_to_video/R@1`.
        a: its value in the first report.
        b: its value in the second report.
        difference: b - a.
        low: lower bound of the 95 % interval of the difference.
        high: upper bound of the 95 % interval of the difference.
        share_not_above: share of the resamples, in [0, 1], in which b - a is 0 or less.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    share_not_above: float

    @property
    def clear(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ColumnComparison:
    """A column of one report against a column of the other.

    Attributes:
        kind_a: the column of the first report.
        kind_b: the column of the second report.
        num_queries: for each direction, how many queries were paired.
        rows: the metrics.
        same: whether each of these queries has the same rank in both.
    """

    kind_a: str
    kind_b: str
    num_queries: dict[str, int]
    rows: tuple[MetricDifference, ...]
    same: bool


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two reports.

    Attributes:
        columns: the columns that were compared.
        differences: how the two evaluations differ, in words; empty unless the comparison was forced.
        left_out: columns that only one report has.
    """

    columns: tuple[ColumnComparison, ...]
    differences: tuple[str, ...]
    left_out: tuple[str, ...]


def compare(a: Report, b: Report, *, column: str | None = None, force: bool = False) -> Comparison:
    """Compare `b` with `a`, query by query.

    Args:
        a: the first report.
        b: the second report. Differences are b - a.
        column: the column to compare; `A=B` names one for each report; default, all columns that both have.
        force: if the reports differ, compare the queries that can be paired: those whose text, or video, occurs exactly
            once in both reports.

    Raises:
        VmrError: the reports differ in protocol, gallery, queries or kind of score, and `force` is not given (the
            message names the differences); or a report holds no ranks, a named column does not exist, or no query can
            be paired.
    """
    kinds = _kinds(a, b, column)
    differences = (*_differences(a, b), *(words for pair in kinds for words in _kind_differences(a, b, *pair)))
    if differences and not force:
        raise VmrError(
            f"the reports cannot be compared: {'; '.join(differences)} (--force compares what can be paired)"
        )
    paired = {kind for pair in kinds for kind in pair}
    left_out = () if column else tuple(kind for kind in {**a.scores, **b.scores} if kind not in paired)
    return Comparison(tuple(_column(a, b, *pair) for pair in kinds), differences, left_out)


def _kinds(a: Report, b: Report, column: str | None) -> list[tuple[str, str]]:
    if column is None:
        kinds = [(kind, kind) for kind in a.ranks if kind in b.ranks]
        if not kinds:
            raise VmrError(
                f"no kind of score that both hold ranks of: {_held(a)} against {_held(b)}; "
                "name one of each, such as --column embedding=vtm, with --force"
            )
        return kinds
    of_a, _, of_b = column.partition("=")
    pair = (of_a, of_b or of_a)
    for which, report, kind in zip(("first", "second"), (a, b), pair, strict=True):
        if kind not in report.ranks:
            raise VmrError(f"the {which} report has no ranks of kind '{kind}': it holds {_held(report)}")
    return [pair]


def _held(report: Report) -> str:
    return ", ".join(report.ranks) or "none"


def _differences(a: Report, b: Report) -> Iterator[str]:
    """Return the differences of the two evaluations in words."""
    protocol_a, protocol_b = _protocol_in_words(a), _protocol_in_words(b)
    if protocol_a != protocol_b:
        yield f"protocol {protocol_a} against {protocol_b}"
    if a.num_videos != b.num_videos:
        yield f"a gallery of {a.num_videos} videos against {b.num_videos}"
    if a.num_texts != b.num_texts:
        yield f"a gallery of {a.num_texts} texts against {b.num_texts}"
    for kind, of_a, of_b in (("text", a.text_ids, b.text_ids), ("video", a.video_ids, b.video_ids)):
        if of_a != of_b:
            yield f"{kind} queries: {_first_difference(of_a, of_b)}"


def _protocol_in_words(report: Report) -> str:
    protocol = report.protocol
    if protocol is None:
        return report.dataset
    # A user's file and the parts of the synthetic benchmark share a protocol, but not the data.
    return f"{protocol.name} version {protocol.version} ({protocol.hash}) on {report.dataset}"


def _first_difference(a: Sequence[str], b: Sequence[str]) -> str:
    if len(a) != len(b):
        return f"{len(a)} against {len(b)}"
    number = next(number for number, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    return f"the same number, but number {number + 1} is {a[number]!r:.60} against {b[number]!r:.60}"


def _kind_differences(a: Report, b: Report, kind_a: str, kind_b: str) -> Iterator[str]:
    if kind_a != kind_b:
        yield f"scores of kind {kind_a} against {kind_b}"
    elif a.columns[kind_a] != b.columns[kind_b]:
        yield f"{kind_a}: {a.columns[kind_a].about} against {b.columns[kind_b].about}"


def _column(a: Report, b: Report, kind_a: str, kind_b: str) -> ColumnComparison:
    rows: list[MetricDifference] = []
    num_queries, same = {}, True
    for direction in DIRECTIONS:
        queries = [report.text_ids if direction == "text_to_video" else report.video_ids for report in (a, b)]
        ranks_a, ranks_b = a.ranks[kind_a].get(direction, ()), b.ranks[kind_b].get(direction, ())
        if not ranks_a or not ranks_b:
            continue
        rows_a, rows_b = _pairs(*queries)
        if not rows_a:
            raise VmrError(f"no query of {DIRECTIONS[direction]} is in both reports")
        num_queries[direction] = len(rows_a)
        paired_a, paired_b = np.array(ranks_a)[rows_a], np.array(ranks_b)[rows_b]
        rows += _metrics(direction, paired_a, paired_b)
        same = same and np.array_equal(paired_a, paired_b)
    if not rows:
        raise VmrError(f"kinds {kind_a} and {kind_b} have no direction in common")
    return ColumnComparison(kind_a, kind_b, num_queries, tuple(rows), same)


def _pairs(a: Sequence[str], b: Sequence[str]) -> tuple[list[int], list[int]]:
    """The rows of each that are the same query: all if the lists are equal, else queries that both hold once."""
    if a == b:
        return list(range(len(a))), list(range(len(b)))
    once_a, once_b = ({query for query, count in Counter(queries).items() if count == 1} for queries in (a, b))
    row_of_b = {query: row for row, query in enumerate(b) if query in once_b}
    rows_a = [row for row, query in enumerate(a) if query in once_a and query in row_of_b]
    return rows_a, [row_of_b[a[row]] for row in rows_a]


def _metrics(direction: str, ranks_a: NDArray[np.int64], ranks_b: NDArray[np.int64]) -> list[MetricDifference]:
    of_a, of_b = summary(ranks_a), summary(ranks_b)
    return [
        MetricDifference(f"{direction}/{name}", of_a[name], of_b[name], *difference)
        for name, difference in paired_difference(ranks_b, ranks_a).items()
    ]
