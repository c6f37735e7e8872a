"""Decoding many videos in worker processes. If a worker hangs, crashes or is killed, only its current file fails."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Generic, TypeVar

from vmr.cpus import num_cpus
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.segments import WHOLE, DecodedSegment, FrameSpec, Part, Segmenter
from vmr.data.decoding.segments_job import SegmentsJob
from vmr.data.decoding.worker_process import (
    Decoded,
    DecodedPart,
    DecodedVideo,
    DecodeFailure,
    DecodeJob,
    DecodeRestart,
    WorkerProcess,
    damage_failure,
)
from vmr.data.remark import Remark
from vmr.errors import VmrError
from vmr.memory import format_bytes, peak_bytes

J = TypeVar("J", bound=DecodeJob)
R = TypeVar("R")

_SEGMENTS_WAITING = 2  # for each worker: decoded in advance
_WORKER_BYTES = 112 * 2**20  # of a process that decodes 1920x1080: 97 MiB, measured with two threads
_GROWTH_BYTES = 96 * 2**20  # what this process is to need beside frames: batches of an encoder, vectors, an index


class DecodePool:
    """Worker processes that decode videos. As a context manager, it ends them on exit.

    Args:
        spec: which frames to take of each segment.
        segmenter: cuts each video into spans; None makes one segment of the whole video.
        options: the reader, the number of processes, and how long to wait for a file.
        memory_bytes: how much memory this process and the workers may use together; None for no limit. Fewer workers
            start if there is too little for all. Those that need more than is usual end when their file is done, all
            but one.

    Attributes:
        spec: as given.
        segmenter: as given.
        options: as given.
        num_workers: the number of worker processes.

    Raises:
        VmrError: the reader's package is missing, or the memory is too little for one worker.
    """

    def __init__(
        self,
        spec: FrameSpec,
        segmenter: Segmenter | None = None,
        options: DecodeOptions = DecodeOptions(),
        memory_bytes: int | None = None,
    ) -> None:
        check_reader(options.reader)
        self.spec, self.segmenter, self.options = spec, segmenter, options
        self._memory_bytes = memory_bytes
        workers = start_workers(options)
        self._workers = workers[: _affordable(len(workers), spec, memory_bytes)]
        self.num_workers = len(self._workers)
        self._run: _Run | None = None

    def decode(self, paths: Iterable[str | os.PathLike[str]]) -> Generator[Decoded, None, None]:
        """Decode videos.

        A path that is given twice is decoded once. Only a few segments are decoded in advance. Leaving the loop early
        stops the decoding. A long video is decoded in parts, at the same time; they do not depend on the number of
        workers.

        Args:
            paths: videos or pictures.

        Yields:
            The segments of each file, followed by one `DecodedVideo` or `DecodeFailure` for the file. Files and parts
            of a file come in any order, and their segments may alternate; those of a part are in order, and a
            `DecodedPart` follows them unless the file ends. After a `DecodeRestart`, what came of the file is void.

        Raises:
            VmrError: a worker cannot start, this pool is decoding already, or it is closed while it decodes.
        """
        if self._run is not None:
            raise VmrError("this pool is decoding already: use one pool for each loop")
        distinct = list(dict.fromkeys(os.fspath(path) for path in paths))
        jobs = [SegmentsJob(path, self.spec, self.options.reader, self.segmenter) for path in distinct]
        self._run = run = _Run(jobs, self._workers, self._memory_bytes)
        remaining = len(jobs)
        try:
            while remaining:
                item = run.next_item()
                if item is not None:
                    remaining -= isinstance(item, DecodedVideo | DecodeFailure)
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


class JobPool(Generic[J, R]):
    """Worker processes for jobs that give one segment each. Jobs are begun in the order in which they are submitted.

    Args:
        options: the number of processes, how long a file may go without delivering anything, and whether a damaged
            video is a failure; the reader is that of each job.
        result: makes the result of a job from its segment and from what was noticed about the file.
    """

    def __init__(self, options: DecodeOptions, result: Callable[[J, DecodedSegment, tuple[Remark, ...]], R]) -> None:
        self._workers, self._strict, self._result = start_workers(options), options.strict, result
        self.num_workers = len(self._workers)
        self._jobs: queue.SimpleQueue[tuple[J, Future[R | DecodeFailure]] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def submit(self, job: J) -> Future[R | DecodeFailure]:
        """Submit a job.

        Returns:
            A future of its result, or of the failure. The future raises VmrError if a worker cannot start.
        """
        future: Future[R | DecodeFailure] = Future()
        self._jobs.put((job, future))
        if self._closed.is_set():  # the thread that closed the pool may not have seen this job
            future.cancel()
        return future

    def close(self) -> None:
        """End the workers at once. Futures of unfinished jobs are cancelled or failed."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                waiting = self._jobs.get_nowait()
                if waiting is not None:
                    waiting[1].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        join_threads(self._threads, self._workers, kill=True)
        for worker in self._workers:
            worker.end()

    def _feed(self, worker: WorkerProcess) -> None:
        while (submitted := self._jobs.get()) is not None:
            job, future = submitted
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._run(worker, job))
            except Exception as error:  # raised where the result is waited for; in a thread it would be lost
                future.set_exception(error)

    def _run(self, worker: WorkerProcess, job: J) -> R | DecodeFailure:
        segment: DecodedSegment | None = None
        end: Decoded | None = None
        for item in worker.decode(job):
            if isinstance(item, DecodedSegment):
                segment = item
            else:
                end = item
        if isinstance(end, DecodeFailure):
            return end
        if segment is None or not isinstance(end, DecodedVideo):
            return DecodeFailure(job.path, "the decoder gave no frames")
        return (damage_failure(job.path, end.remarks) if self._strict else None) or self._result(
            job, segment, end.remarks
        )


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


def _affordable(wanted: int, spec: FrameSpec, memory_bytes: int | None) -> int:
    """Return how many decoding processes fit into an amount of memory, beside this process.

    Args:
        wanted: how many there are to be at most.
        spec: the frames that they decode.
        memory_bytes: for all processes together; None for no limit.

    Raises:
        VmrError: there is too little memory for one process.
    """
    if memory_bytes is None:
        return wanted
    frames = spec.num_frames * 3 * spec.size**2
    own = peak_bytes() + _GROWTH_BYTES + _SEGMENTS_WAITING * frames
    each = _WORKER_BYTES + (_SEGMENTS_WAITING + 1) * frames
    number = min(wanted, (memory_bytes - own) // each)
    if number < 1:
        raise VmrError(
            f"memory of {format_bytes(memory_bytes)} is too little: {format_bytes(own + each)} are needed for this "
            "process and one that decodes"
        )
    return number


class _Run:
    """One call of `DecodePool.decode`. Each worker has a thread, which takes jobs from one queue and fills another.

    The thread that iterates puts the parts of a video together, so that nothing of a video comes after its end.
    """

    def __init__(self, jobs: list[SegmentsJob], workers: list[WorkerProcess], memory_bytes: int | None) -> None:
        self._results: queue.Queue[tuple[SegmentsJob, Decoded] | BaseException] = queue.Queue(
            maxsize=_SEGMENTS_WAITING * len(workers)
        )
        self._jobs = deque(replace(job, share=self._share) for job in jobs)
        self._jobs_changed = threading.Condition()
        self._parts: dict[str, list[Part]] = {}  # of videos that are decoded in parts
        self._ends: dict[str, dict[Part, DecodedVideo]] = {}
        self._over: set[str] = set()
        self._undivided: set[str] = set()  # that must be decoded as a whole
        self._stopped = threading.Event()
        self._memory_bytes = memory_bytes
        can_divide = any(job.segmenter is not None for job in jobs)
        self._workers = workers if can_divide else workers[: len(jobs)]
        self._running, self._lock = len(self._workers), threading.Lock()
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def next_item(self) -> Decoded | None:
        """Wait for what comes next; None if it is of no use.

        Raises:
            BaseException: whatever a thread raised.
        """
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        job, item = result
        if not self._is_wanted(job):
            return None
        if isinstance(item, DecodedVideo):
            return self._end_part(job, item)
        if isinstance(item, DecodedSegment):
            part = self._part_of(job)
            return item if part == WHOLE else replace(item, part=part)
        if isinstance(item, DecodeFailure):
            self._over.add(job.path)
        else:
            self._undivided.add(job.path)
            self._ends.pop(job.path, None)
        again = [replace(job, share=None, known=None)] if isinstance(item, DecodeRestart) else []
        with self._jobs_changed:
            others = [other for other in self._jobs if other.path != job.path]
            self._jobs = deque([*again, *others])
            self._jobs_changed.notify_all()
        return item

    def _end_part(self, job: SegmentsJob, end: DecodedVideo) -> DecodedPart | DecodedVideo:
        """Note the end of a part of a video, and return it, or the end of the video if it is the last one to end."""
        path, part = job.path, self._part_of(job)
        ends = self._ends.setdefault(path, {})
        ends[part] = end
        if part != WHOLE and len(ends) < len(self._parts[path]):
            return DecodedPart(path, part)
        self._over.add(path)
        in_order = [ends[each] for each in sorted(self._ends.pop(path))]
        return DecodedVideo(
            path,
            sum(each.num_segments for each in in_order),
            max(each.duration_s for each in in_order),
            tuple(dict.fromkeys(remark for each in in_order for remark in each.remarks)),
            end.width,
            end.height,
        )

    def _part_of(self, job: SegmentsJob) -> Part:
        """The part of a video that a job decodes."""
        if job.share is None or job.path not in self._parts:
            return WHOLE
        return self._parts[job.path][0] if job.known is None else job.known["part"]

    def _is_wanted(self, job: SegmentsJob) -> bool:
        is_void = job.share is not None and job.path in self._undivided
        return not (is_void or job.path in self._over or self._stopped.is_set())

    def _share(self, first: Part, jobs: list[SegmentsJob]) -> None:
        """Take the jobs of the further parts of a video; they come before other videos."""
        with self._jobs_changed:
            self._parts[jobs[0].path] = [first, *(job.known["part"] for job in jobs if job.known is not None)]
            self._jobs.extendleft(reversed(jobs))
            self._jobs_changed.notify_all()

    def _feed(self, worker: WorkerProcess) -> None:
        try:
            while not self._is_too_many(worker) and (job := self._next_job()) is not None:
                with contextlib.closing(worker.decode(job)) as items:
                    for item in items:
                        self._put((job, item))
                        if isinstance(item, DecodedSegment) and not self._is_wanted(job):  # another part has failed
                            break
        except BaseException as error:  # raised again in the thread that iterates; here it would be lost
            self._put(error)

    def _next_job(self) -> SegmentsJob | None:
        """Wait for a job, which another one may give away; None when the run is over."""
        with self._jobs_changed:
            self._jobs_changed.wait_for(lambda: self._jobs or self._stopped.is_set())
            return None if self._stopped.is_set() else self._jobs.popleft()

    def _is_too_many(self, worker: WorkerProcess) -> bool:
        """Whether a worker was ended because the processes use more memory than they may, and another one goes on."""
        if self._memory_bytes is None:
            return False
        with self._lock:
            used = peak_bytes() + sum(each.peak_bytes() for each in self._workers)
            if used <= self._memory_bytes or self._running == 1:
                return False
            self._running -= 1
            worker.end()
            return True

    def _put(self, result: tuple[SegmentsJob, Decoded] | BaseException) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(result, timeout=0.1)
                return

    def stop(self, kill: bool) -> None:
        """Wait until the threads have ended; with `kill`, kill their workers, so that they end at once."""
        self._stopped.set()
        with self._jobs_changed:
            self._jobs_changed.notify_all()
        join_threads(self._threads, self._workers, kill)
        if kill:  # another thread may be waiting for results
            with contextlib.suppress(queue.Empty):
                while True:
                    self._results.get_nowait()
            self._results.put(VmrError("the pool was closed while it was decoding"))
