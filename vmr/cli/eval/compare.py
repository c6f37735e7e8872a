"""`vmr-eval compare`: whether one evaluation is better than another, and at what cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.eval.classification.report.report import ClassificationReport
    from vmr.eval.report.compare import MetricDifference
    from vmr.models.classification.config import NetworkConfig

_HEADER = ("metric", "a", "b", "b - a", "95 % interval", "difference")


def compare(
    a: str,
    b: str,
    more: list[str] | None = None,
    column: str | None = None,
    force: bool = False,
    measure: bool = False,
) -> None:
    """Compare two reports query by query, or video by video: the second against the first, by paired bootstrap.

    Reports on classifiers are also shown in one table, beside their parameters and operations; there may be more than
    two, and each is compared with the first.

    Args:
        a: the report to compare with, as vmr-eval --out wrote it
        b: the report that may be better
        more: further reports on classifiers, each to be compared with the first
        column: the kind of score to compare, such as embedding; embedding=vtm compares the first report's embedding
            with the second's vtm, which needs --force; default, every kind that both have
        force: compare what can be paired, even if protocol, gallery, queries, videos or kind differ
        measure: also measure the CPU seconds and the memory of each classifier on this machine, with one thread
    """
    from vmr.eval.report.saved import task_of_report

    files = [a, b, *(more or ())]
    tasks = {file: task_of_report(file) for file in files}
    if len(set(tasks.values())) > 1:
        other = next(file for file in files if tasks[file] != tasks[a])
        raise VmrError(f"{a} is a report on {tasks[a]}, {other} one on {tasks[other]}: they have nothing to compare")
    if tasks[a] == "retrieval":
        if more:
            raise VmrError(f"{more[0]}: two reports on retrieval are compared at a time")
        if measure:
            raise VmrError("--measure measures classifiers, but these are reports on retrieval: leave it out")
        _compare_retrieval(a, b, column, force)
    elif column is not None:
        raise VmrError("--column is for reports on retrieval: reports on classifiers are compared in every column")
    else:
        _compare_classification(files, force, measure)


def _compare_retrieval(a: str, b: str, column: str | None, force: bool) -> None:
    from vmr.cli.output import print_table
    from vmr.eval.report.report import Report

    result = Report.load(a).compare(Report.load(b), column=column, force=force)
    _print_forced(result.differences)
    for part in result.columns:
        kinds = part.kind_a if part.kind_a == part.kind_b else f"{part.kind_a} against {part.kind_b}"
        print_table(f"{kinds} scores", _HEADER, _rows(part.rows, 1))
        counts = ", ".join(f"{count} queries {name.replace('_', ' ')}" for name, count in part.num_queries.items())
        print(f"paired: {counts}")
        if part.same:
            print("the same: every query has the same rank in both")
    if result.left_out:
        print(f"only in one report: {', '.join(result.left_out)}")


def _compare_classification(files: Sequence[str], force: bool, measure: bool) -> None:
    from vmr.cli.output import print_table
    from vmr.eval.classification.report.report import ClassificationReport

    reports = [ClassificationReport.load(file) for file in files]
    digits = 3 if reports[0].target == "regression" else 1
    results = [reports[0].compare(report, force=force) for report in reports[1:]]  # before anything is measured
    networks = [_network_of(file, report) if measure else None for file, report in zip(files, reports, strict=True)]
    _print_costs(files, reports, networks, measure)
    for file, result in zip(files[1:], results, strict=True):
        _print_forced(result.differences)
        print_table(f"{file} (b) against {files[0]} (a)", _HEADER, _rows(result.rows, digits))
        print(f"paired: {result.num_videos} videos")
        if result.same:
            print("the same: every video has the same result in both")


def _print_costs(
    files: Sequence[str],
    reports: Sequence[ClassificationReport],
    networks: Sequence[NetworkConfig | None],
    measure: bool,
) -> None:
    """Print what each classifier scores, and what it costs."""
    from vmr.cli.output import print_table
    from vmr.eval.classification.report.report import MAIN
    from vmr.eval.classification.report.tables import views_words

    names = list(reports[0].scores[MAIN])
    digits = 3 if reports[0].target == "regression" else 1
    measured: Iterable[tuple[str, ...]] = _measured(reports, networks) if measure else [()] * len(reports)
    rows = []
    for file, report, times in zip(files, reports, measured, strict=True):
        cost, views = report.cost, report.views.num_views
        rows.append(
            (
                Path(file).name,
                report.model,
                views_words(report),
                *(f"{report.scores[MAIN][name]:.{digits}f}" for name in names),
                "-" if cost is None else f"{cost.parameters / 1e6:.3g} M",
                "-" if cost is None else f"{cost.operations / 1e9:.3g} G x {views}",
                *times,
            )
        )
    costs = ("parameters", "operations of a view x views", *(("CPU s a video", "memory of a view") if measure else ()))
    print_table("accuracy and cost", ("report", "classifier", "views", *names, *costs), rows)


def _network_of(file: str, report: ClassificationReport) -> NetworkConfig | None:
    """The network of a report's classifier, for the report's views; a size that the report lacks is the usual one."""
    from vmr.from_json import from_json
    from vmr.models.classification.config import NetworkConfig

    if report.cost is None:
        return None
    network = {**asdict(NetworkConfig()), **report.cost.network}
    try:
        sizes: NetworkConfig = from_json(NetworkConfig, network, "cost.network")
        return replace(sizes, num_frames=report.views.num_frames, image_size=report.views.size)
    except VmrError as error:
        raise VmrError(f"{file}: --measure cannot build this network: {error}: evaluate again") from None


def _measured(
    reports: Sequence[ClassificationReport], networks: Sequence[NetworkConfig | None]
) -> Iterable[tuple[str, str]]:
    """CPU seconds of a video and memory of a view, in words, of each classifier."""
    from vmr.memory import format_bytes
    from vmr.models.classification.measuring import measure

    for report, network in zip(reports, networks, strict=True):
        if network is None:
            yield "-", "-"
            continue
        found = measure(network)
        yield f"{found.cpu_seconds * report.views.num_views:.3g}", format_bytes(found.memory_bytes)


def _rows(differences: Iterable[MetricDifference], digits: int) -> list[tuple[str, ...]]:
    return [
        (
            row.metric,
            f"{row.a:.{digits}f}",
            f"{row.b:.{digits}f}",
            f"{row.difference:+.{digits}f}",
            f"{row.low:+.{digits}f} to {row.high:+.{digits}f}",
            "clear" if row.clear else "not clear",
        )
        for row in differences
    ]


def _print_forced(differences: Iterable[str]) -> None:
    for difference in differences:
        print(f"FORCED although the reports differ: {difference}", file=sys.stderr)
