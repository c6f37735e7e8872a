"""How long `vmr-index build` with `offline` takes, beside the least that it must do and beside another commit.

    python -m benchmarks.build
    python -m benchmarks.build --hours 0.1 --quick --before 5085497

Every row is a process of its own, with the processes that it starts. The floor is the CPU time of decoding all frames
of the file with one thread, and of encoding each frame that the index needs once, each measured alone. The test footage
is made at the first run and kept in vmr's cache folder.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.build.footage import Footage
from benchmarks.build.measure import DECODE, ENCODE, REPOSITORY, Cost, alone, build
from benchmarks.common import environment
from vmr.cpus import num_cpus
from vmr.memory import format_bytes

SIZES = ((640, 360), (1280, 720))
GOPS = (12, 250)
VARIANTS = (("--frames", "keyframes"), ("--skip-still", "0.02"), ("--segments", "shots"))
SHORT = Footage(640, 360, 12, 2)
_FRAMES_PER_S = 1  # 8 in a window of 8 s


class Report:
    """The rows, which are printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self._console = Console(width=150)

    def add(self, footage: Footage, what: str, cost: Cost, *, floor_s: float | None, goals: Sequence[str] = ()) -> None:
        """Add what a build cost.

        Args:
            footage: the videos.
            what: was run.
            cost: what it cost.
            floor_s: the least CPU time that it must take; None if that was not measured.
            goals: in words, with whether they are met.
        """
        row: dict[str, object] = {"footage": footage.name, "seconds": footage.seconds, "what": what, **asdict(cost)}
        row["times_real_time"] = footage.seconds / cost.wall_s
        row["busy"] = cost.cpu_s / cost.wall_s / num_cpus()
        row["to_floor"] = None if floor_s is None else cost.cpu_s / floor_s
        row["goals"] = list(goals)
        self.rows.append(row)

    def add_alone(self, footage: Footage, what: str, cpu_s: float) -> None:
        """Add the CPU time of a part alone."""
        self.rows.append({"footage": footage.name, "seconds": footage.seconds, "what": what, "cpu_s": cpu_s})

    def print(self) -> None:
        """Print a table for each footage."""
        for name in dict.fromkeys(row["footage"] for row in self.rows):
            table = Table(title=str(name), title_justify="left")
            for column in ("", "CPU s", "wall s", "x real time", "cores busy", "peak memory", "to floor", "goals"):
                table.add_column(column, justify="left" if column in ("", "goals") else "right")
            for row in (row for row in self.rows if row["footage"] == name):
                table.add_row(*_cells(row))
            self._console.print(table)


def _cells(row: dict[str, object]) -> Iterator[str]:
    yield str(row["what"])
    yield f"{row['cpu_s']:.2f}"
    for key, form in (("wall_s", "{:.1f}"), ("times_real_time", "{:.0f}"), ("busy", "{:.0%}")):
        yield form.format(row[key]) if key in row else ""
    yield format_bytes(int(str(row["peak_bytes"]))) if "peak_bytes" in row else ""
    yield f"{row['to_floor']:.2f}" if row.get("to_floor") else ""
    yield "; ".join(map(str, row.get("goals", [])))  # type: ignore[call-overload]


def measure(report: Report, footage: Footage, before: Path | None, *, variants: bool) -> None:
    """Measure a build of one file, the least that it must do, and the same by another commit.

    Args:
        report: takes the rows.
        footage: the file.
        before: a working tree of the other commit; None to leave it out.
        variants: whether to measure the options that make a build faster or slower as well.
    """
    folder = footage.file().parent
    decode_s = alone(DECODE, str(footage.file()))
    encode_s = alone(ENCODE, footage.seconds * _FRAMES_PER_S)
    report.add_alone(footage, "decoding all frames, alone", decode_s)
    report.add_alone(footage, f"encoding {footage.seconds * _FRAMES_PER_S} frames, alone", encode_s)
    floor_s = decode_s + encode_s
    cost = build(folder, REPOSITORY)
    goals = [_goal("to floor", cost.cpu_s / floor_s, 1.4), _goal("busy", cost.cpu_s / cost.wall_s / num_cpus(), 0.85)]
    if (footage.width, footage.height) == SIZES[0]:
        goals.append(_goal("x real time", footage.seconds / cost.wall_s, 60))
    report.add(footage, "build", cost, floor_s=floor_s, goals=goals)
    if before is not None:
        earlier = build(folder, before)
        ratio = _goal("times the CPU time", earlier.cpu_s / cost.cpu_s, 4)
        report.add(footage, "build, before", earlier, floor_s=floor_s, goals=[ratio])
    for options in VARIANTS if variants else VARIANTS[:1]:
        other = build(folder, REPOSITORY, *options)
        faster = cost.cpu_s / other.cpu_s
        goals = [_goal("times as fast", faster, 3)] if footage.gop <= 60 and "keyframes" in options else []
        report.add(footage, f"build {' '.join(options)}", other, floor_s=None, goals=goals)


def _goal(what: str, value: float, goal: float) -> str:
    """Whether a goal is met: `to floor` must not be above it, everything else not below."""
    is_met = value <= goal if what in ("to floor", "CPU s") else value >= goal
    return f"{what} {value:.2f}, goal {goal:g}: {'met' if is_met else 'MISSED'}"


@contextmanager
def working_tree(revision: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder, with the compiled kernels of this working tree."""
    with TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), revision], check=True, capture_output=True)
        try:
            for kernel in (REPOSITORY / "vmr/ops").glob("*.so"):
                shutil.copy(kernel, tree / "vmr/ops")
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


def main() -> None:
    """Run everything, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description=__doc__, formatter_class=_Help)
    parser.add_argument("--hours", type=float, default=1.0, help="length of each file (default 1)")
    parser.add_argument("--quick", action="store_true", help="only 640x360 with GOP 12")
    parser.add_argument("--before", metavar="REV", help="a commit to compare with, such as 5085497")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    arguments = parser.parse_args()
    seconds = round(3600 * arguments.hours)
    report = Report()
    start = [build(SHORT.file().parent, REPOSITORY) for _ in range(2)][1]  # the first makes what is kept
    report.add(SHORT, "build of 2 s of video", start, floor_s=None, goals=[_goal("CPU s", start.cpu_s, 2.5)])
    every = [Footage(*size, gop, seconds) for size in SIZES for gop in GOPS]
    if arguments.before:
        with working_tree(arguments.before) as tree:
            _measure_all(report, every[: 1 if arguments.quick else None], tree)
    else:
        _measure_all(report, every[: 1 if arguments.quick else None], None)
    report.print()
    about = environment()
    print(", ".join(f"{key} {value}" for key, value in about.items()), f"cores used {num_cpus()}", sep=", ")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"environment": about, "rows": report.rows}, indent=1), "utf-8")


def _measure_all(report: Report, every: Sequence[Footage], before: Path | None) -> None:
    for footage in every:
        print(f"measuring {footage.name}, {footage.seconds} s", file=sys.stderr, flush=True)
        measure(report, footage, before, variants=footage is every[0])


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


if __name__ == "__main__":
    main()
