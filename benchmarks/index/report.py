"""Tables of what was measured, and the goals."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from rich.table import Table

from benchmarks.index.data import COLUMNS, SHARES, Filter
from benchmarks.index.measure import Built, Changed, Served
from benchmarks.index.peer import GOOD, Point
from benchmarks.index.roster import OURS, ROSTER


@dataclass(frozen=True)
class Row:
    """All that was measured of an index.

    Attributes:
        built: what it took to build; None if it was there already.
        served: the best of all rounds.
        changed: the best of all rounds.
    """

    built: Built | None
    served: Served
    changed: Changed


Rows = Mapping[str, Row]


def best_served(rounds: list[Served]) -> Served:
    """Combine rounds: the smallest of every time and of the memory, which other work disturbed least.

    Args:
        rounds: of one index.

    Returns:
        One round.
    """
    times = ("open_s", "open_cpu_s", "first_cpu_s", "warm_cpu_s", "peak_mb", "private_mb")
    least = {name: min(getattr(one, name) for one in rounds) for name in times}
    sweep = _best_points([one.sweep for one in rounds])
    filtered = {name: _best_points([one.filtered[name] for one in rounds]) for name in rounds[0].filtered}
    return Served(**least, sweep=sweep, filtered=filtered)


def best_changed(rounds: list[Changed]) -> Changed:
    """Combine rounds: the smallest times; all must have been right.

    Args:
        rounds: of one index.

    Returns:
        One round.
    """
    removals = [one.remove_cpu_s for one in rounds if one.remove_cpu_s is not None]
    return Changed(
        min(one.add_cpu_s for one in rounds),
        min(removals, default=None),
        all(one.found for one in rounds),
        all(one.gone for one in rounds),
    )


def _best_points(rounds: list[list[Point]]) -> list[Point]:
    return [replace(points[0], cpu_ms=min(p.cpu_ms for p in points)) for points in zip(*rounds, strict=True)]


def overview(rows: Rows, num_rows: int) -> Table:
    """Show what it takes to build, open and change each index.

    Args:
        rows: by name.
        num_rows: of the index.

    Returns:
        The table.
    """
    columns = ("index", "build, CPU s", "disk, MB", "open, ms", "first search, CPU ms", "peak MB", "private MB")
    out = _table(f"{num_rows:,} rows", *columns, "add 1024, CPU ms", "on disk", "remove 64, CPU ms")
    for name, (built, served, changed) in ((name, (row.built, row.served, row.changed)) for name, row in rows.items()):
        out.add_row(
            name,
            f"{built.cpu_s:.1f}" if built else "-",
            f"{sum(built.disk_mb.values()):.0f}" if built else "-",
            f"{served.open_s * 1e3:.0f}",
            f"{served.first_cpu_s * 1e3:.1f}",
            f"{served.peak_mb:.0f}",
            f"{served.private_mb:.0f}",
            f"{changed.add_cpu_s * 1e3:.1f}" + ("" if changed.found else ", NOT FOUND"),
            "yes" if ROSTER[name].lasting else "no",
            _removal(changed),
        )
    return out


def _removal(changed: Changed) -> str:
    if changed.remove_cpu_s is None:
        return "cannot"
    return f"{changed.remove_cpu_s * 1e3:.1f}" + ("" if changed.gone else ", STILL FOUND")


def sweep(rows: Rows) -> Table:
    """Show recall against CPU time for each setting.

    Args:
        rows: by name.

    Returns:
        The table; "front" marks points that no other beats in recall and time.
    """
    out = _table("recall@10 and CPU time of a query", "index", "setting", "recall@10", "CPU ms", "front")
    for name, row in rows.items():
        for point in row.served.sweep:
            front = "" if beaten_by(point, rows) else "front"
            out.add_row(name, str(point.setting or "-"), f"{point.recall:.3f}", f"{point.cpu_ms:.3f}", front)
    return out


def beaten_by(point: Point, rows: Rows) -> str:
    """Find what is at least as good as a point in recall and in time, and better in one of them.

    Args:
        point: of one of the rows.
        rows: by name.

    Returns:
        Name and setting; empty if the point is on the Pareto front.
    """
    for name, row in rows.items():
        for other in row.served.sweep:
            as_good = other.recall >= point.recall and other.cpu_ms <= point.cpu_ms
            if as_good and (other.recall, other.cpu_ms) != (point.recall, point.cpu_ms):
                return f"{name} at {other.setting}: {other.recall:.3f}, {other.cpu_ms:.3f} ms"
    return ""


def filtered(rows: Rows, column: str) -> Table:
    """Show recall and CPU time with filters.

    Args:
        rows: by name.
        column: of COLUMNS.

    Returns:
        The table.
    """
    shares = [share for share in SHARES if share < 1]
    title = f"recall@10, CPU ms of a query; filter by whole videos: {column}"
    out = _table(title, "index", "setting", *(f"{share:.1%}" for share in shares))
    for name, row in rows.items():
        points = [row.served.filtered.get(Filter(column, share).name, []) for share in shares]
        if not any(points):
            out.add_row(name, "cannot filter", *("" for _ in shares))
        for same in zip(*points, strict=True):
            cells = (f"{point.recall:.3f}, {point.cpu_ms:.2f}" for point in same)
            out.add_row(name, str(same[0].setting or "-"), *cells)
    return out


@dataclass(frozen=True)
class Goal:
    """Something that was to be reached.

    Attributes:
        goal: what.
        measured: what was measured.
        met: whether it was reached.
    """

    goal: str
    measured: str
    met: bool


def goals(beside_peers: Rows, large: Rows) -> Iterator[Goal]:
    """Compare what was measured with the goals.

    Args:
        beside_peers: our index and its peers, at the size of the peers.
        large: our index at the full size; and peers, if they were measured there.

    Yields:
        One goal after the other.
    """
    for rows, where in ((beside_peers, "beside the peers"), (large, "at the full size")):
        if len(rows) > 1:
            point = rows[OURS].served.sweep[0]
            beaten = beaten_by(point, rows)
            measured = f"{point.recall:.3f}, {point.cpu_ms:.3f} ms" + (f"; beaten by {beaten}" if beaten else "")
            yield Goal(f"on the Pareto front of recall@10 and CPU time, {where}", measured, not beaten)
    row = large[OURS]
    points = [(point.recall, name) for name, points in row.served.filtered.items() for point in points]
    worst, name = min([*points, (row.served.sweep[0].recall, "no filter")])
    yield Goal(f"recall@10 at least {GOOD} with every filter", f"{worst:.3f} ({name})", worst >= GOOD)
    opened = row.served.open_s
    yield Goal("open in less than 0.1 s, files in the cache", f"{opened:.3f} s", opened < 0.1)
    added = row.changed.add_cpu_s
    yield Goal("1024 rows added and found in less than 0.1 CPU s", f"{added:.3f} s", added < 0.1 and row.changed.found)
    if row.built is not None:
        derived = sum(size for name, size in row.built.disk_mb.items() if name.endswith(".faiss"))
        total = sum(row.built.disk_mb.values())
        yield Goal("FAISS files at most 600 MB", f"{derived:.0f} MB", derived <= 600)
        yield Goal("all files at most 1700 MB", f"{total:.0f} MB", total <= 1700)


def goal_table(found: list[Goal]) -> Table:
    """Show the goals.

    Args:
        found: of `goals`.

    Returns:
        The table.
    """
    out = _table("goals", "goal", "measured", "met")
    for goal in found:
        out.add_row(goal.goal, goal.measured, "yes" if goal.met else "NO")
    return out


def tables(rows: Rows, num_rows: int) -> Iterator[Table]:
    """Give all tables of one size.

    Args:
        rows: by name.
        num_rows: of the index.

    Yields:
        One table after the other.
    """
    yield overview(rows, num_rows)
    yield sweep(rows)
    for column in COLUMNS:
        yield filtered(rows, column)


def _table(title: str, *columns: str) -> Table:
    out = Table(title=title, title_justify="left")
    for column in columns:
        out.add_column(column)
    return out
