"""`vmr-eval compare`: whether one evaluation is better than another."""

import sys


def compare(a: str, b: str, column: str | None = None, force: bool = False) -> None:
    """Compare two reports query by query: the second against the first, by paired bootstrap.

    Args:
        a: the report to compare with, as vmr-eval --out wrote it
        b: the report that may be better
        column: the kind of score to compare, such as embedding; embedding=vtm compares the first report's embedding
            with the second's vtm, which needs --force; default, every kind that both have
        force: compare the queries that can be paired, even if protocol, gallery, queries or kind differ
    """
    from vmr.cli.output import print_table
    from vmr.eval.report.report import Report

    result = Report.load(a).compare(Report.load(b), column=column, force=force)
    for difference in result.differences:
        print(f"FORCED although the reports differ: {difference}", file=sys.stderr)
    for part in result.columns:
        kinds = part.kind_a if part.kind_a == part.kind_b else f"{part.kind_a} against {part.kind_b}"
        rows = [
            (
                row.metric,
                f"{row.a:.1f}",
                f"{row.b:.1f}",
                f"{row.difference:+.1f}",
                f"{row.low:+.1f} to {row.high:+.1f}",
                "clear" if row.clear else "not clear",
            )
            for row in part.rows
        ]
        print_table(f"{kinds} scores", ("metric", "a", "b", "b - a", "95 % interval", "difference"), rows)
        counts = ", ".join(f"{count} queries {name.replace('_', ' ')}" for name, count in part.num_queries.items())
        print(f"paired: {counts}")
        if part.same:
            print("the same: every query has the same rank in both")
    if result.left_out:
        print(f"only in one report: {', '.join(result.left_out)}")
