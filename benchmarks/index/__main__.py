"""The index of vmr beside its peers: `python -m benchmarks.index`.

    python -m benchmarks.index                             1,000,000 rows; the peers with 100,000
    python -m benchmarks.index --keep FOLDER --large-peers some peers with 1,000,000 as well, which takes an hour
    python -m benchmarks.index --quick                     10,000 rows

The vectors are synthetic, see data.py. Every index is built in a process of its own with one thread, and opened,
searched and changed in fresh processes in turns; the CPU time of the whole process counts, the smallest of all rounds.
Peers that are not installed are named and left out: `pip install -e '.[bench]'` installs all but hnswlib, which has no
wheels and needs a compiler (`pip install hnswlib`).
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.common import environment
from benchmarks.index.data import WINDOWS, Data, make_data
from benchmarks.index.measure import Built, apart, build, change, serve
from benchmarks.index.report import Row, Rows, best_changed, best_served, goal_table, goals, tables
from benchmarks.index.roster import LARGE, OURS, ROSTER, missing

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")


def compare(folder: Path, data: Path, names: Sequence[str], rounds: int, seconds: float, console: Console) -> Rows:
    """Build every index and measure all of them in turns.

    Args:
        folder: where the indexes lie; one that is there is not built again.
        data: the folder of the data.
        names: of ROSTER.
        rounds: how often each is measured.
        seconds: CPU time for a setting or a filter.
        console: for the names of those that are left out.

    Returns:
        What was measured, by name.
    """
    built: dict[str, Built] = {}
    for name in names:
        index, absent = _place(folder, name), missing(name)
        record = index.with_suffix(".json")
        if absent:
            console.print(f"{name}: left out: {absent}")
        elif record.exists():
            built[name] = Built(**json.loads(record.read_text(encoding="utf-8")))
        else:
            console.print(f"{name}: building")
            shutil.rmtree(index, ignore_errors=True)
            index.mkdir(parents=True)
            built[name] = apart(build, name, data, index)
            record.write_text(json.dumps(asdict(built[name])), encoding="utf-8")
    served, changed = {name: [] for name in built}, {name: [] for name in built}
    for number in range(rounds):
        for name in built:
            console.print(f"{name}: round {number + 1} of {rounds}")
            served[name].append(apart(serve, name, data, _place(folder, name), seconds))
            changed[name].append(apart(change, name, data, _place(folder, name)))
    return {name: Row(built[name], best_served(served[name]), best_changed(changed[name])) for name in built}


def _place(folder: Path, name: str) -> Path:
    return folder / name.replace(" ", "-").replace(",", "-")


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, object]:
    """Run the benchmark and print its tables.

    Args:
        options: of the command line.
        folder: for data and indexes.
        console: to print to.

    Returns:
        All numbers.
    """
    sizes = dict.fromkeys((options.peers_at, options.rows))
    measured: dict[int, Rows] = {}
    for size in sizes:
        data = folder / f"data-{size}-{options.dim}-{options.queries}"
        apart(make_data, data, size, options.dim, options.queries)
        names = options.only if size == options.peers_at else [OURS, *(LARGE if options.large_peers else ())]
        measured[size] = compare(folder / f"indexes-{size}", data, names, options.rounds, options.seconds, console)
        for table in tables(measured[size], Data(data).num_rows):
            console.print(table)
    found = list(goals(measured[options.peers_at], measured[options.rows]))
    console.print(goal_table(found))
    rows = {str(size): {name: asdict(row) for name, row in rows.items()} for size, rows in measured.items()}
    return {"environment": environment(), "goals": [asdict(goal) for goal in found], "rows": rows}


def main() -> None:
    """Parse the options, run the benchmark, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help=f"rounded up to videos of {WINDOWS} windows")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--peers-at", type=int, default=100_000, help="rows at which the peers are measured")
    parser.add_argument("--large-peers", action="store_true", help=f"measure {' and '.join(LARGE)} at --rows as well")
    parser.add_argument("--only", nargs="+", choices=list(ROSTER), default=list(ROSTER), help=f"some, and {OURS}")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU time for a setting or a filter")
    parser.add_argument("--quick", action="store_true", help="10,000 rows, 50 queries, one round")
    parser.add_argument("--keep", type=Path, help="a folder for data and indexes, which are used again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.rows = options.peers_at = 10_000
        options.queries, options.rounds, options.seconds = 50, 1, 0.2
    options.only = list(dict.fromkeys([OURS, *options.only]))
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before the processes that measure start
    console = Console()
    with TemporaryDirectory() as temporary:
        record = run(options, options.keep or Path(temporary), console)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
