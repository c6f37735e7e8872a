"""Decoding many videos in worker processes. If a worker hangs, crashes or is killed, only its current file fails."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Generator, Iterable
from types import TracebackType

from vmr.cpus import num_cpus
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.segments import DecodedSegment, FrameSpec, Segmenter
from vmr.data.decoding.segments_job import SegmentsJob
from vmr.data.decoding.worker_process import Decoded, WorkerProcess
from vmr.errors import VmrError


class DecodePool:
    """Worker processes that decode videos. As a context manager, it ends them on exit.

    Args:
        spec: which frames to take of each segment.
        segmenter: cuts each video into spans; None makes one segment of the whole video.
        options: the reader, the number of processes, and how long to wait for a file.

    Attributes:
        spec: as given.
        segmenter: as given.
        options: as given.
        num_workers: the number of worker processes.

    Raises:
        VmrError: the reader's package is missing.
    """

    def __init__(
        self, spec: FrameSpec, segmenter: Segmenter | None = None, options: DecodeOptions = DecodeOptions()
    ) -> None:
        check_reader(options.reader)
        self.spec, self.segmenter, self.options = spec, segmenter, options
        self._workers = start_workers(options)
        self.num_workers = len(self._workers)
        self._run: _Run | None = None

    def decode(self, paths: Iterable[str | os.PathLike[str]]) -> Generator[Decoded, None, None]:
        """Decode videos.

        A path that is given twice is decoded once. Only a few segments are decoded in advance. Leaving the loop early
        stops the decoding.

        Args:
            paths: videos or pictures.

        Yields:
            The segments of each file in order, followed by one `DecodedVideo` or `DecodeFailure` for the file. Files
            come in any order, and their segments may alternate.

        Raises:
            VmrError: a worker cannot start, this pool is decoding already, or it is closed while it decodes.
        """
        if self._run is not None:
            raise VmrError("this pool is decoding already: use one pool for each loop")
        distinct = list(dict.fromkeys(os.fspath(path) for path in paths))
        jobs = [SegmentsJob(path, self.spec, self.options.reader, self.segmenter) for path in distinct]
        self._run = run = _Run(jobs, self._workers)
        remaining = len(jobs)
        try:
            while remaining:
                item = run.results.get()
                if isinstance(item, BaseException):
                    raise item
                remaining -= not isinstance(item, DecodedSegment)
                yield item
        finally:
            run.stop(kill=remaining > 0)
            self._run = None

    def peak_bytes(self) -> int:
        """Return the most memory that the running workers have used together; 0 on other systems than Linux."""
        return sum(worker.peak_bytes() for worker in self._workers)

    def close(self) -> None:
        """Stop decoding and end the workers. Does nothing if they have ended."""
        if self._run is not None:
            self._run.stop(kill=True)
        for worker in self._workers:
            worker.end()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def start_workers(options: DecodeOptions) -> list[WorkerProcess]:
    """Create worker processes. Each starts when it gets its first job.

    Args:
        options: the number of processes, and how long to wait for an answer.

    Returns:
        The workers.
    """
    num_workers = min(num_cpus(), 8) if options.num_workers is None else options.num_workers
    return [WorkerProcess(options.timeout_s) for _ in range(num_workers)]


def join_threads(threads: list[threading.Thread], workers: list[WorkerProcess], kill: bool) -> None:
    """Wait until the threads of all workers have ended.

    Args:
        threads: one for each worker.
        workers: the workers, in the same order.
        kill: whether to kill the workers, so that the threads that wait for them end at once.
    """
    while any(thread.is_alive() for thread in threads):
        for worker, thread in zip(workers, threads, strict=True):
            if kill:  # repeated, because a thread may start its worker after the first time
                worker.kill()
            thread.join(0.05)


class _Run:
    """One call of `DecodePool.decode`. Each worker has a thread, which takes jobs from one queue and fills another."""

    def __init__(self, jobs: list[SegmentsJob], workers: list[WorkerProcess]) -> None:
        self.results: queue.Queue[Decoded | BaseException] = queue.Queue(maxsize=2 * len(workers))
        self._jobs: queue.SimpleQueue[SegmentsJob] = queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._stopped = threading.Event()
        self._workers = workers[: len(jobs)]
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def _feed(self, worker: WorkerProcess) -> None:
        try:
            while not self._stopped.is_set():
                for item in worker.decode(self._jobs.get_nowait()):
                    self._put(item)
        except queue.Empty:
            return
        except BaseException as error:  # raised again in the thread that iterates; here it would be lost
            self._put(error)

    def _put(self, item: Decoded | BaseException) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.results.put(item, timeout=0.1)
                return

    def stop(self, kill: bool) -> None:
        """Wait until the threads have ended; with `kill`, kill their workers, so that they end at once."""
        if kill:
            self._stopped.set()
        join_threads(self._threads, self._workers, kill)
        if kill:  # another thread may be waiting for results
            with contextlib.suppress(queue.Empty):
                while True:
                    self.results.get_nowait()
            self.results.put(VmrError("the pool was closed while it was decoding"))
