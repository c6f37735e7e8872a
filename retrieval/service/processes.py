"""Processes in which hostile files are decoded: few of them, each run with a time limit, killed when one is stuck."""

from __future__ import annotations

import asyncio
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import DecodedSegment, FileEnd, Segments
from vmr.data.decoding.segments_job import WorkerMessageError
from vmr.data.decoding.worker_process import DecodeFailure, WorkerProcess
from vmr.errors import VideoError, VmrError

_MAX_WAITING = 64  # for each process; whoever comes then is told that the service is busy
_MEMORY_BYTES = 3 * 2**30  # of a process; a video of 7680x4320 pixels needs 1.7 GiB at worst

Pictures = Sequence[NDArray[np.uint8]]
"""Pictures, or the bytes of files, of any shapes."""


class BusyError(VmrError):
    """Too many requests wait for a process."""


class TimeLimitError(VmrError):
    """The work took longer than it may; its process was killed."""


@dataclass(frozen=True)
class Answer:
    """What a function answered in a process. The process is not trusted: check what it says.

    Attributes:
        values: a JSON object, at most 60 kB as text.
        pictures: uint8 arrays.
    """

    values: dict[str, Any]
    pictures: tuple[NDArray[np.uint8], ...]


class Processes:
    """Processes that run functions of vmr with one file each. They start when they are needed.

    Args:
        number: how many run at the same time, at most.
        timeout_s: how many seconds a run may take; then its process is killed.
    """

    def __init__(self, number: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(number, "decode")
        self._workers = [WorkerProcess(timeout_s) for _ in range(number)]
        self._idle: queue.LifoQueue[WorkerProcess] = queue.LifoQueue()  # the last one is warm
        for worker in self._workers:
            self._idle.put(worker)
        self._waiting, self._most_waiting = 0, number * _MAX_WAITING

    async def run(self, function: str, request: Mapping[str, Any], name: str, max_bytes: int = 64 * 2**20) -> Answer:
        """Call a function in a process; if the caller is cancelled, the process is killed.

        Args:
            function: "module:function" of vmr. It is called with `request`, and returns the values and the pictures
                of an `Answer`.
            request: a JSON object.
            name: of the file in errors.
            max_bytes: of all pictures together.

        Raises:
            VideoError: the function raised it, failed, or ended the process.
            TimeLimitError: it took too long.
            BusyError: too many others wait.
            VmrError: the process cannot be started.
        """
        if self._waiting >= self._most_waiting:
            raise BusyError("too many videos are being read: try again later")
        job = _Job(name, function, dict(request), max_bytes)
        self._waiting += 1
        future = self._threads.submit(self._work, job)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            job.stop()
            raise
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Kill the processes; whoever waits for one gets an error."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.end()

    def _work(self, job: _Job) -> Answer:
        worker = self._idle.get()
        until = time.monotonic() + self.timeout_s
        try:
            job.start(worker, until)
            *pictures, end = worker.decode(job)
        except _TooSlowError:
            raise _too_slow(job.path, self.timeout_s) from None
        finally:
            job.stop(kill=False)
            self._idle.put(worker)
        if isinstance(end, DecodeFailure):
            raise _too_slow(job.path, self.timeout_s) if time.monotonic() >= until else VideoError(job.path, end.reason)
        return Answer(job.values, tuple(item.frames[0] for item in pictures if isinstance(item, DecodedSegment)))


def _too_slow(name: str, timeout_s: float) -> TimeLimitError:
    return TimeLimitError(f"{name}: took longer than {timeout_s:g} s to read")


class _TooSlowError(Exception):
    """A process goes on telling things after its time is over."""


@dataclass
class _Job:
    """A run of a function, see `vmr.data.decoding.worker_process.DecodeJob`."""

    kind: ClassVar[str] = "vmr.retrieval.service.processes:serve"

    path: str
    function: str
    arguments: dict[str, Any]
    max_bytes: int
    values: dict[str, Any] = field(default_factory=dict)
    _worker: WorkerProcess | None = None
    _until: float = math.inf
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self) -> dict[str, Any]:
        self._check_time()  # whoever waited may have left while the process was starting
        return {"function": self.function, "arguments": self.arguments}

    def answer(self, question: dict[str, Any]) -> None:
        """Take the values. The process tells them before its pictures."""
        self._check_time()
        if not isinstance(question, dict):
            raise WorkerMessageError
        self.values = question

    def accepts(self, shape: Sequence[int]) -> bool:
        """Take one picture, unless there are too many bytes."""
        self._check_time()
        self.max_bytes -= math.prod(shape)
        return all(isinstance(side, int) and side > 0 for side in shape) and shape[0] == 1 and self.max_bytes >= 0

    def _check_time(self) -> None:
        if time.monotonic() >= self._until or self._stopped:
            raise _TooSlowError

    def start(self, worker: WorkerProcess, until: float) -> None:
        """Note which process does the work, and until when."""
        with self._lock:
            self._worker, self._until = worker, until
            self._check_time()

    def stop(self, kill: bool = True) -> None:
        """Note that nobody waits for the work, and end it."""
        with self._lock:
            self._stopped |= kill
            if self._worker is not None and kill:
                self._worker.kill()
            self._worker = None


def serve(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a function in a process, with a limit on its memory.

    Raises:
        VideoError: as the function.
    """
    _limit_memory()
    module, _, function = request["function"].partition(":")
    values, pictures = getattr(import_module(module), function)(request["arguments"])
    ask(values)
    yield from _segments(pictures)
    return FileEnd()


def _segments(pictures: Pictures) -> Iterator[DecodedSegment]:
    for number, picture in enumerate(pictures):
        yield DecodedSegment("", 0.0, 0.0, (picture,), (number,))


def _limit_memory() -> None:
    """Let an allocation fail that a sound video does not need, rather than have the system end another program."""
    if sys.platform == "linux":  # elsewhere the limit does not count what is mapped
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
