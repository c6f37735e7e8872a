"""What a command costs before its own work begins, and what the threads of torch cost while they wait.

    python -m benchmarks.startup VIDEOS
    python -m benchmarks.startup VIDEOS --runs 5 --json startup.json

Each row is a new process: its CPU time (of the user and of the system, with its child processes) and its peak memory,
both of the whole process with its end. The smallest of several runs counts, which other work on the machine disturbed
least. The networks of `offline` are in the cache, because an index was built before. The second table builds an index
of the videos from Python: with `offline`, which needs no torch, and with a model that torch runs, with torch imported
before vmr and after it, and with the waiting that is the default of torch's OpenMP runtime, which vmr leaves alone if a
user asks for it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from vmr.cpus import SETTINGS
from vmr.retrieval.storage.reader import IndexReader

BUILD = "import sys, vmr; vmr.build_index(sys.argv[1], sys.argv[2], sys.argv[3], overwrite=True)"
OFFLINE, WITH_TORCH = "offline", "videomamba-nano-shapes"
GNU_DEFAULT = {"GOMP_SPINCOUNT": "300000"}  # rounds of the loop in which a thread waits


@dataclass(frozen=True)
class Cost:
    """The cost of a process.

    Attributes:
        name: what ran.
        cpu_s: seconds of CPU time.
        peak_mb: peak memory; of the largest process, if there were several.
        goal: what it should cost at most; empty without a goal.
    """

    name: str
    cpu_s: float
    peak_mb: float
    goal: str = ""


def measure(
    name: str, command: Sequence[str], runs: int, goal: str = "", also: Mapping[str, str] | None = None
) -> Cost:
    """Run a command several times.

    Args:
        name: of the row.
        command: the command line.
        runs: how often to run it.
        goal: what it should cost at most.
        also: environment variables to set; those that choose how OpenMP's threads wait are otherwise absent.

    Returns:
        The smallest CPU time and peak memory of the runs.
    """
    kept = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    costs = []
    for _ in range(runs):
        process = subprocess.Popen(
            command, env={**kept, **(also or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 2):
            raise SystemExit(f"{name}: {said.decode(errors='replace')}")
        costs.append((usage.ru_utime + usage.ru_stime, _megabytes(usage)))
    return Cost(name, min(cpu for cpu, _ in costs), min(peak for _, peak in costs), goal)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def commands(index: Path, runs: int) -> list[Cost]:
    """Measure the commands that do little, and torch alone.

    Args:
        index: an index that `offline` built.
        runs: runs of each.

    Returns:
        One row for each.
    """
    python = [sys.executable, "-c"]
    search, info = (
        [*python, "from vmr.cli.search import main; main()"],
        [*python, "from vmr.cli.index import main; main()"],
    )
    return [
        measure("import torch", [*python, "import torch"], runs),
        measure('vmr-search INDEX "a sentence"', [*search, str(index), "a sentence"], runs, "1.2 s, 350 MB"),
        measure("vmr-search nowhere x", [*search, "nowhere", "x"], runs, "0.6 s"),
        measure("vmr-index info INDEX", [*info, "info", str(index)], runs),
        measure("vmr-search --help", [*search, "--help"], runs),
    ]


def builds(videos: Path, index: Path, runs: int) -> list[Cost]:
    """Measure an index built from Python.

    Args:
        videos: a folder of videos.
        index: the index to write.
        runs: runs of each.

    Returns:
        One row without torch, one for each order of imports, and one for threads that wait as they do by default.
    """
    offline, build, after = (
        [sys.executable, "-c", code, str(videos), str(index), encoder]
        for code, encoder in ((BUILD, OFFLINE), (BUILD, WITH_TORCH), (f"import torch; {BUILD}", WITH_TORCH))
    )
    return [
        measure("offline, without torch", offline, runs),
        measure("vmr imports torch", build, runs),
        measure("torch is imported before vmr", after, runs),
        measure("OMP_WAIT_POLICY=PASSIVE", build, runs, also={"OMP_WAIT_POLICY": "PASSIVE"}),
        measure("GOMP_SPINCOUNT=300000, the default of GNU's runtime", build, runs, also=GNU_DEFAULT),
    ]


def table(title: str, costs: Sequence[Cost]) -> Table:
    """Make a table of costs.

    Args:
        title: of the table.
        costs: the rows.

    Returns:
        The table.
    """
    out = Table(title=title, title_justify="left")
    for column in ("process", "CPU s", "peak MB", "goal"):
        out.add_column(column)
    for cost in costs:
        out.add_row(cost.name, f"{cost.cpu_s:.2f}", f"{cost.peak_mb:.0f}", cost.goal)
    return out


def main() -> None:
    """Run the benchmark, print the tables, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a folder of videos, which are indexed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        index = Path(folder, "index")
        subprocess.run([sys.executable, "-c", BUILD, str(options.videos), str(index), OFFLINE], check=True)
        with IndexReader(index) as reader, reader.snapshot() as snapshot:
            num_videos = snapshot.num_videos()
        started, built = commands(index, options.runs), builds(options.videos, index, options.runs)
    console = Console()
    console.print(table("commands", started))
    console.print(table(f"an index of {num_videos} videos, built from Python", built))
    if options.json:
        # Only now: a process's peak memory counts from that of the process that starts it, and this imports torch.
        from benchmarks.common import environment

        rows = {"commands": [asdict(cost) for cost in started], "builds": [asdict(cost) for cost in built]}
        record = {"environment": environment(), **rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
