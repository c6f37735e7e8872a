"""How much load `vmr-serve` carries: `python -m benchmarks.serve`.

    python -m benchmarks.serve                             a minute of searches by text, then 20 s by moment
    python -m benchmarks.serve --seconds 600 --keep DIR    ten minutes; the index in DIR is used again
    python -m benchmarks.serve --moments 5000 --seconds 5 --like-seconds 5   to try it

An index of 100,000 moments (see data.py) is served by a real `vmr-serve`. 16 clients in another process search, each as
soon as it has the answer before; 20 players read 256 KB of a video a second; a writer adds a video or removes one every
second, and searches for it. All of them share the cores of this machine. Sentences are all different, so no cache of
vectors helps; --repeated asks for each sentence this many times. The numbers of each part are printed when it ends.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console

from benchmarks.common import environment
from benchmarks.serve.data import Served, make_served, sentences
from benchmarks.serve.load import Answered, play, search
from benchmarks.serve.writing import write
from vmr.retrieval.storage.reader import IndexReader

NUM_FILES = 20
RANGE_BYTES = 1 << 18
REPORT_S = 10.0
TARGETS = {"query": 150.0, "like": 400.0}
TARGET_P99_MS, TARGET_STALE_S, TARGET_GROWTH = 250.0, 2.0, 0.05
START_S = 120.0


class Running(NamedTuple):
    """A service that runs.

    Attributes:
        address: where it answers.
        pid: its process.
        started_s: seconds until it answered.
    """

    address: str
    pid: int
    started_s: float


class Memory(threading.Thread):
    """The memory of a process over time.

    Attributes:
        samples: seconds since the start, and bytes of its resident set.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._began_s = psutil.Process(pid), time.monotonic()
        self._is_over = threading.Event()
        self.samples: list[tuple[float, int]] = []

    def run(self) -> None:
        """Look at it every second."""
        while not self._is_over.wait(1.0):
            self.samples.append((time.monotonic() - self._began_s, self._process.memory_info().rss))

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()

    def growth(self) -> float | None:
        """By which share the mean of the last ten seconds is above that of ten seconds after the first minute."""
        early = [rss for at_s, rss in self.samples if 60 <= at_s < 70]
        late = [rss for at_s, rss in self.samples if at_s > self.samples[-1][0] - 10]
        return float(np.mean(late) / np.mean(early) - 1) if len(early) >= 5 and self.samples[-1][0] > 80 else None


@contextmanager
def serving(index: Path) -> Iterator[Running]:
    """Start `vmr-serve`, and wait until it answers."""
    command = [str(Path(sys.executable).parent / "vmr-serve"), str(index), "--port", "0"]
    began_s = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if "http://" in line), "")
            if not line:
                raise SystemExit("vmr-serve did not start")
            address = line[line.index("http://") :].split()[0].rstrip("/")
            while not _answers(address):
                if time.monotonic() > began_s + START_S:
                    raise SystemExit("vmr-serve does not answer")
                time.sleep(0.02)
            yield Running(address, process.pid, time.monotonic() - began_s)
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    from urllib.request import urlopen

    try:
        with urlopen(f"{address}/api/v1/healthz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def in_process(function: Callable[..., None], *arguments: Any) -> Callable[[], Any]:
    """Start a process; return a function that waits for what it sends."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()

    def wait() -> Any:
        try:
            return ours.recv()
        finally:
            process.join()

    return wait


def summary(answered: list[Answered], seconds: float) -> dict[str, float]:
    """Give searches a second and milliseconds: the median, and those that 95 and 99 of a hundred stay below."""
    times = 1000 * np.array([took for _, took, status, _ in answered if status in (200, 206)] or [np.nan])
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    longest = float(times.max())
    return {"per_s": len(times) / seconds, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "longest_ms": longest}


def cpu_s(pid: int) -> float:
    """Give the seconds of CPU time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def measure(
    kind: str, service: Running, served: Served, seconds: float, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """Let clients search while others play and write.

    Args:
        kind: "query" or "like".
        service: the service.
        served: its index.
        seconds: how long.
        options: of the command line.
        console: where the numbers are printed.

    Returns:
        The numbers.
    """
    with IndexReader(served.index) as reader, reader.snapshot() as snapshot:
        files = {video.id: video.state.size for video in itertools.islice(snapshot.videos(), options.players)}
        last = int(snapshot.video_ranges(snapshot.spaces()[0].id)[: options.moments // 20].sum(axis=1).max())
    values: Iterator[str | int] = iter(np.random.default_rng(os.getpid()).integers(1, last, 10**7).tolist())
    if kind == "query":
        values = itertools.chain.from_iterable(itertools.repeat(s, options.repeated) for s in sentences(os.getpid()))
    until_s, before_s = time.monotonic() + seconds, cpu_s(service.pid)
    waiting = [
        in_process(search, service.address, kind, values, options.clients, until_s),
        in_process(play, service.address, files, until_s, RANGE_BYTES),
        in_process(write, service.address, served, until_s, options.commit_every),
    ]
    (answered, errors), (played, play_errors), (delays, write_errors) = (wait() for wait in waiting)
    found = {
        "kind": kind,
        "seconds": seconds,
        **summary(answered, seconds),
        "cpu_ms": 1000 * (cpu_s(service.pid) - before_s) / max(1, len(answered)),
        "cpus": (cpu_s(service.pid) - before_s) / seconds,
        "errors": errors + play_errors + write_errors,
        "played_mb_per_s": sum(size for *_, size in played) / seconds / 1e6,
        "play_p99_ms": summary(played, seconds)["p99_ms"],
        "commits": len(delays),
        "stale_s": max(delays, default=float("nan")),
    }
    console.print(
        f"{kind:5}  {found['per_s']:6.1f} searches/s (target {TARGETS[kind]:g})  p50 {found['p50_ms']:.0f} ms  "
        f"p95 {found['p95_ms']:.0f}  p99 {found['p99_ms']:.0f} (target {TARGET_P99_MS:g})  "
        f"longest {found['longest_ms']:.0f}; {found['cpu_ms']:.2f} ms of CPU time of the service each, "
        f"{found['cpus']:.2f} cores"
    )
    console.print(
        f"       {found['commits']} commits, seen after at most {found['stale_s']:.3f} s (target {TARGET_STALE_S:g})  "
        f"players {found['played_mb_per_s']:.1f} MB/s, p99 {found['play_p99_ms']:.0f} ms  "
        f"{len(found['errors'])} errors (target 0)"
    )
    for error in list(dict.fromkeys(found["errors"]))[:5]:
        console.print(f"       {error}", markup=False)
    return found


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Make the index, serve it and load the service."""
    made = make_served(folder / "made", options.moments, NUM_FILES)
    with TemporaryDirectory(dir=folder) as copied:  # which is written
        served = Served(Path(copied))
        for name in ("index", "new.txt", "new.npy"):
            copy = shutil.copytree if name == "index" else shutil.copyfile
            copy(made.folder / name, served.folder / name)
        served.videos.symlink_to(made.videos)
        with serving(served.index) as service:
            console.print(f"answers after {service.started_s:.1f} s")
            memory = Memory(service.pid)
            memory.start()
            parts = []
            left_s = options.seconds
            while left_s > 0:  # in parts, so that there are numbers before the end
                parts.append(measure("query", service, served, min(left_s, options.part), options, console))
                left_s -= options.part
            parts.append(measure("like", service, served, options.like_seconds, options, console))
            memory.stop()
    growth = memory.growth()
    sizes = [rss / 2**20 for _, rss in memory.samples]
    said = "not known before 80 s" if growth is None else f"{growth:+.1%} after the first minute"
    console.print(f"memory {sizes[0]:.0f} MB, then {sizes[-1]:.0f} MB: {said} (target {TARGET_GROWTH:.0%})")
    return {
        "environment": environment(),
        "started_s": service.started_s,
        "parts": parts,
        "growth": growth,
        "rss_mb": sizes,
    }


def main() -> None:
    """Parse the options, run the benchmark, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of searches by text")
    parser.add_argument("--like-seconds", type=float, default=20.0, help="of searches by moment, which follow")
    parser.add_argument("--part", type=float, default=60.0, help="seconds after which numbers are printed")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--players", type=int, default=20)
    parser.add_argument("--commit-every", type=float, default=1.0, help="seconds from one commit to the next")
    parser.add_argument("--repeated", type=int, default=1, help="how often each sentence is asked for")
    parser.add_argument("--keep", type=Path, help="a folder for the index, which is used again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console(width=160, highlight=False)
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        record = run(options, folder, console)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
