"""What the benchmarks share: peers in processes of their own, timed in turns, and a record of where it was done."""

import contextlib
import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from vmr.ops import available_backends

Work = Callable[[], object]

TURN_SECONDS = 0.02  # a fast peer repeats its work for so long before the next one has its turn
PAUSE_SECONDS = 0.01  # between turns, until the idle threads of the last peer have stopped spinning


@dataclass
class Measurement:
    """One peer's times in seconds, the growth of its peak memory over the first run and that peak, or why not."""

    name: str
    seconds: list[float] = field(default_factory=list)
    extra_memory_mb: float = 0.0
    peak_memory_mb: float = 0.0
    absent: str = ""

    @property
    def best(self) -> float:
        """The shortest run: what the work takes when nothing else disturbs it."""
        return min(self.seconds)


def measure_in_turns(
    prepare: Callable[..., Work], peers: Sequence[str], arguments: tuple[Any, ...], *, seconds: float, threads: int
) -> list[Measurement]:
    """Time `prepare(peer, *arguments)()` for every peer, each in a fresh process.

    The peers run one after the other, round after round, so that whatever slows the machine slows all of them; the
    others wait. A peer slower than a tenth of its share of `seconds` is asked less often, at least twice.

    Args:
        prepare: a function of a module; it makes the inputs and returns the work. Called in the peer's process.
        peers: names, the first argument of `prepare`.
        arguments: the others.
        seconds: for all peers together, about.
        threads: for torch in each process.
    """
    context = multiprocessing.get_context("spawn")
    results, connections = [], []
    for name in peers:
        ours, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, prepare, (name, *arguments), threads), daemon=True).start()
        theirs.close()
        connections.append(ours)
        results.append(Measurement(name))
        _record(results[-1], ours)  # the first run, with its memory; the time is not counted
    share = seconds / len(peers)
    for turn in range(200):
        for result, connection in zip(results, connections, strict=True):
            if not result.absent and (turn < 2 or sum(result.seconds) < share):
                time.sleep(PAUSE_SECONDS)
                connection.send("run")
                result.seconds.extend(connection.recv())
    for connection in connections:
        with contextlib.suppress(BrokenPipeError):
            connection.send("stop")
    return results


def environment() -> dict[str, str]:
    """Date, commit, processor and versions, for the record beside the numbers."""
    versions = {}
    for package in ("torch", "transformers", "mambapy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": available_backends()["cpu"],
        "python": platform.python_version(),
        **versions,
    }


def _record(result: Measurement, connection: Connection) -> None:
    first = connection.recv()
    if isinstance(first, str):
        result.absent = first
    else:
        result.extra_memory_mb, result.peak_memory_mb = first


def _serve(connection: Connection, prepare: Callable[..., Work], arguments: tuple[Any, ...], threads: int) -> None:
    """A peer's process: one run to learn its memory, then its turns, for which it is told "run"."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        work = prepare(*arguments)
        before = _reset_peak_memory()
        work()
        peak = peak_memory()
        connection.send(((peak - before) / 2**20, peak / 2**20))
    except Exception as error:  # the others go on
        connection.send(f"{type(error).__name__}: {error}")
        return
    while connection.recv() == "run":
        times: list[float] = []
        while sum(times) < TURN_SECONDS:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        connection.send(times)


def _reset_peak_memory() -> int:
    """Bytes in use; the peak starts from there where the kernel can reset it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        root = Path(__file__).parent
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not in a repository"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
