"""Functions that the benchmarks share: peers timed in turns, each in its own process, and a record of the machine."""

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

Work = Callable[[], object]

TURN_SECONDS = 0.02  # a fast peer repeats its work for this long before the next peer's turn
PAUSE_SECONDS = 0.01  # between turns, so that the idle threads of the last peer stop spinning


@dataclass
class Measurement:
    """The times and memory of one peer.

    Attributes:
        name: the peer.
        seconds: the time of each run.
        extra_memory_mb: the growth of its process's peak memory during the first run.
        peak_memory_mb: that peak.
        absent: why the peer could not run; empty if it could.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    extra_memory_mb: float = 0.0
    peak_memory_mb: float = 0.0
    absent: str = ""

    @property
    def best(self) -> float:
        """The time of the shortest run, which other processes disturbed least."""
        return min(self.seconds)


def measure_in_turns(
    prepare: Callable[..., Work], peers: Sequence[str], arguments: tuple[Any, ...], *, seconds: float, threads: int
) -> list[Measurement]:
    """Time `prepare(peer, *arguments)()` for every peer, each in a new process.

    The peers run in turns, one at a time, so that other work on the machine slows all of them. Each peer runs at least
    twice, and stops when its share of `seconds` is spent.

    Args:
        prepare: a function of a module; it makes the inputs and returns the work. It is called in the peer's process.
        peers: the peers' names, the first argument of `prepare`.
        arguments: the other arguments of `prepare`.
        seconds: for all peers together, roughly.
        threads: torch's threads in each process.

    Returns:
        One measurement for each peer, in their order.
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


def measure_in_one_process(
    prepare: Callable[..., Work], peers: Sequence[str], arguments: tuple[Any, ...], *, seconds: float
) -> list[Measurement]:
    """Time the CPU seconds of `prepare(peer, *arguments)()` for every peer, in turns, on one thread of this process.

    This is for a machine that is busy with other work, where a process for each peer takes minutes to start.

    Args:
        prepare: makes the inputs and returns the work.
        peers: the peers' names, the first argument of `prepare`.
        arguments: the other arguments of `prepare`.
        seconds: for all peers together, roughly.

    Returns:
        One measurement for each peer, in their order, without memory.
    """
    import torch

    torch.set_num_threads(1)
    works = [(Measurement(peer), prepare(peer, *arguments)) for peer in peers]
    for _, work in works:
        work()  # not counted
    for turn in range(200):
        for result, work in works:
            if turn < 2 or sum(result.seconds) < seconds / len(peers):
                result.seconds.extend(_timed(work, time.process_time))
    return [result for result, _ in works]


def environment() -> dict[str, str]:
    """Describe this machine, for the record beside the numbers.

    Returns:
        Date, commit, processor, kernel and versions.
    """
    from vmr.ops import available_backends

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
    """Run a peer in its process: once to measure its memory, then whenever it receives "run"."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        work = prepare(*arguments)
        before = _reset_peak_memory()
        work()
        peak = peak_memory()
        connection.send(((peak - before) / 2**20, peak / 2**20))
    except Exception as error:  # the other peers continue
        connection.send(f"{type(error).__name__}: {error}")
        return
    while connection.recv() == "run":
        connection.send(_timed(work, time.perf_counter))


def _timed(work: Work, clock: Callable[[], float]) -> list[float]:
    """The seconds of each run in a turn."""
    times: list[float] = []
    while sum(times) < TURN_SECONDS:
        start = clock()
        work()
        times.append(clock() - start)
    return times


def _reset_peak_memory() -> int:
    """Reset the peak memory to the memory in use, if the kernel can (Linux); returns the peak in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()


def peak_memory() -> int:
    """Measure the peak memory of this process.

    Returns:
        The peak of its resident set, in bytes.
    """
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
