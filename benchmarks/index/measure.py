"""What one process measures of one peer: building, opening, searching, filtering, adding and removing.

Every function runs in a process of its own, so that its memory and its opening are those of a fresh start.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from benchmarks.common import peak_memory
from benchmarks.index.data import FILTERS, NEW_VIDEOS, WINDOWS, Data, Filter
from benchmarks.index.peer import Peer, Point
from benchmarks.index.roster import make

LEAST_QUERIES = 20

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Built:
    """What it takes to build.

    Attributes:
        cpu_s: CPU time, of all threads.
        peak_mb: peak memory of the process, with the mapped vectors that it reads.
        disk_mb: of all files, by the name of the file or of the first folder.
    """

    cpu_s: float
    peak_mb: float
    disk_mb: dict[str, float]


@dataclass(frozen=True)
class Served:
    """What an index that was opened in a new process does.

    Attributes:
        open_s: seconds until it can be searched, after imports.
        open_cpu_s: CPU time of that.
        first_cpu_s: CPU time of the first search.
        warm_cpu_s: CPU time of what opening began in the background, such as the check of a file.
        peak_mb: peak memory of the process when it has made all searches, with mapped pages of files.
        private_mb: what only this process holds of it; 0 where the system does not tell.
        sweep: one point for each setting.
        filtered: points for each filter, by name, see `Peer.filter_settings`; empty if it cannot filter.
    """

    open_s: float
    open_cpu_s: float
    first_cpu_s: float
    warm_cpu_s: float
    peak_mb: float
    private_mb: float
    sweep: list[Point]
    filtered: dict[str, list[Point]]


@dataclass(frozen=True)
class Changed:
    """What a change of an open index takes.

    Attributes:
        add_cpu_s: CPU time until NEW_VIDEOS videos are added and a search finds the last of them.
        remove_cpu_s: CPU time until a video is removed and a search does not find it; None if it cannot remove.
        found: whether the search found the new window.
        gone: whether no search found the removed video.
    """

    add_cpu_s: float
    remove_cpu_s: float | None
    found: bool
    gone: bool


def apart(function: Callable[Given, Result], /, *given: Given.args, **named: Given.kwargs) -> Result:
    """Call a function in a new process.

    Args:
        function: of a module.
        given: its arguments.
        named: its arguments.

    Returns:
        What it returns; its errors are raised.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given, **named).result()


def build(name: str, folder: Path, index: Path) -> Built:
    """Build an index.

    Args:
        name: of the peer.
        folder: of the data.
        index: an empty folder.

    Returns:
        What it took.
    """
    started = time.process_time()
    make(name).build(Data(folder), index)
    cpu_s, sizes = time.process_time() - started, dict[str, float]()
    for path in index.rglob("*"):
        if path.is_file():
            part = path.relative_to(index).parts[0]
            sizes[part] = sizes.get(part, 0) + path.stat().st_size / 1e6
    return Built(cpu_s, peak_memory() / 1e6, sizes)


def serve(name: str, folder: Path, index: Path, seconds: float, filters: Sequence[Filter] = FILTERS) -> Served:
    """Open an index and search it with every setting, and with every filter.

    Args:
        name: of the peer.
        folder: of the data.
        index: the folder that `build` filled.
        seconds: of CPU time for a setting or a filter; afterwards the queries that are left are not made.
        filters: to search with.

    Returns:
        What was measured.
    """
    peer, data = make(name), Data(folder)
    queries, truth = data.queries, data.truth(None)
    peer.imports()
    clock, started = time.perf_counter(), time.process_time()
    peer.open(index)
    open_s, open_cpu_s = time.perf_counter() - clock, time.process_time() - started
    started = time.process_time()
    peer.search(queries[:1], peer.settings[0])
    first_cpu_s = time.process_time() - started
    started = time.process_time()
    peer.wait()
    warm_cpu_s = time.process_time() - started
    sweep = [_search(peer, queries, truth, setting, None, seconds) for setting in peer.settings]
    settings = peer.filter_settings(sweep)
    filtered: dict[str, list[Point]] = {}
    with contextlib.suppress(NotImplementedError):
        for only in filters:
            selected, truth = peer.select(data, only), data.truth(only)
            filtered[only.name] = [_search(peer, queries, truth, setting, selected, seconds) for setting in settings]
    peer.close()
    return Served(open_s, open_cpu_s, first_cpu_s, warm_cpu_s, peak_memory() / 1e6, _private_mb(), sweep, filtered)


def change(name: str, folder: Path, index: Path) -> Changed:
    """Open an index, add videos, remove them again, and search after each.

    Args:
        name: of the peer.
        folder: of the data.
        index: the folder that `build` filled.

    Returns:
        What it took.
    """
    peer, data = make(name), Data(folder)
    first, vectors, setting = data.num_rows, data.new_vectors, peer.settings[-1]
    peer.open(index)
    peer.wait()
    for query in data.queries[:LEAST_QUERIES]:
        peer.search(query[None], setting)
    started = time.process_time()
    peer.add(first, vectors)
    hits = peer.search(vectors[-1:], setting)
    add_cpu_s = time.process_time() - started
    found = first + len(vectors) - 1 in hits
    last = first + len(vectors) - WINDOWS
    remove_cpu_s, gone = None, False
    with contextlib.suppress(NotImplementedError):
        started = time.process_time()
        peer.remove(last, WINDOWS)
        hits = peer.search(vectors[-1:], setting)
        remove_cpu_s = time.process_time() - started
        gone = bool((hits < last).all())
        for video in range(NEW_VIDEOS - 1):
            peer.remove(first + video * WINDOWS, WINDOWS)
    peer.close()
    return Changed(add_cpu_s, remove_cpu_s, found, gone)


def _search(peer: Peer, queries: Any, truth: Any, setting: int, selected: Any, seconds: float) -> Point:
    """Search for one query after the other, as a server does."""
    answers, started = [], time.process_time()
    for query in queries:
        answers.append(peer.search(query[None], setting, selected))
        spent = time.process_time() - started
        if spent > seconds and len(answers) >= LEAST_QUERIES:
            break
    wanted = [row[row >= 0] for row in truth[: len(answers)]]
    recall = [np.isin(right, answer).mean() for right, answer in zip(wanted, answers, strict=True)]
    return Point(setting, float(np.mean(recall)), spent / len(answers) * 1e3, len(answers))


def _private_mb() -> float:
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3
    return 0.0
