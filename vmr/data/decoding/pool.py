"""Decoding many videos in worker processes that may hang, crash or be killed without harm to the job.

The workers are plain programs on pipes, not `multiprocessing`: spawn and forkserver run the user's main script again in
each worker (a ten-line script without a `__main__` guard would start itself over), and fork is unsafe once torch or
OpenMP threads run. A process, not a thread, because a decoder stuck or crashed in C can only be ended with its process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.segments import DecodedSegment, FrameSpec
from vmr.data.training.clips import ClipJob
from vmr.errors import VmrError

_START_S = 120.0  # for a worker to start on a busy machine
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class DecodedVideo:
    """The end of a video: all its segments have been given."""

    path: str
    num_segments: int
    duration_s: float


@dataclass(frozen=True)
class DecodeFailure:
    """The end of a video that could not be decoded, or not to its end; reason is one line."""

    path: str
    reason: str


Decoded = DecodedSegment | DecodedVideo | DecodeFailure
Clip = NDArray[np.uint8] | DecodeFailure  # uint8 (T, 3, S, S)


@dataclass(frozen=True)
class SegmentsJob:
    """All segments of one video to decode."""

    path: str
    spec: FrameSpec


class DecodePool:
    """Worker processes that decode; a context manager, which ends them on leaving.

    num_workers: the number of CPUs, but at most 8, if None. timeout_s: a file that delivers nothing for so long has its
    worker killed and counts as failed. Raises VmrError if the reader's package is missing.
    """

    def __init__(self, spec: FrameSpec, num_workers: int | None = None, timeout_s: float = 120.0) -> None:
        check_reader(spec.reader)
        self.spec = spec
        self._workers = _workers(num_workers, timeout_s)
        self.num_workers = len(self._workers)
        self._run: _Run | None = None

    def decode(self, paths: Iterable[str | os.PathLike[str]]) -> Generator[Decoded, None, None]:
        """Segments as they come, those of a file in order, files in any order; for each path one end, good or bad.

        A path given twice is decoded once. Little is decoded ahead of what is taken, and leaving the loop early
        ends the decoding. Raises VmrError if a worker cannot start, or if this pool is decoding already.
        """
        if self._run is not None:
            raise VmrError("this pool is decoding already: use one pool for each loop")
        distinct = list(dict.fromkeys(os.fspath(path) for path in paths))
        self._run = run = _Run([SegmentsJob(path, self.spec) for path in distinct], self._workers)
        remaining = len(distinct)
        try:
            while remaining:
                item = run.results.get()
                if isinstance(item, Exception):
                    raise item
                remaining -= not isinstance(item, DecodedSegment)
                yield item
        finally:
            run.stop(kill=remaining > 0)
            self._run = None

    def close(self) -> None:
        """End the workers; harmless when they have ended already."""
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


class ClipPool:
    """Worker processes that decode training clips, each asked for by itself; `close` ends them.

    num_workers, timeout_s: as for `DecodePool`. Jobs are begun in the order they are submitted.
    """

    def __init__(self, num_workers: int | None = None, timeout_s: float = 120.0) -> None:
        self._workers = _workers(num_workers, timeout_s)
        self._jobs: queue.SimpleQueue[tuple[ClipJob, Future[Clip]] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def submit(self, job: ClipJob) -> Future[Clip]:
        """The clip to come, or why it could not be decoded; a VmrError in its place if a worker cannot start."""
        future: Future[Clip] = Future()
        self._jobs.put((job, future))
        if self._closed.is_set():  # whoever closed the pool may have looked through the jobs before this one came
            future.cancel()
        return future

    def close(self) -> None:
        """End the workers at once. Clips that are still to come never will: their futures are cancelled or failed."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                waiting = self._jobs.get_nowait()
                if waiting is not None:
                    waiting[1].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        _join(self._threads, self._workers, kill=True)
        for worker in self._workers:
            worker.end()

    def _feed(self, worker: _Worker) -> None:
        while (asked := self._jobs.get()) is not None:
            job, future = asked
            if not future.set_running_or_notify_cancel():
                continue
            clip: Clip = DecodeFailure(job.path, "the decoder gave no frames")
            try:
                for item in worker.decode(job):
                    if isinstance(item, DecodedSegment):
                        clip = item.video
                    elif isinstance(item, DecodeFailure):
                        clip = item
            except Exception as error:  # told to whoever waits for the clip: nobody looks into a thread
                future.set_exception(error)
            else:
                future.set_result(clip)


def _workers(num_workers: int | None, timeout_s: float) -> list[_Worker]:
    if num_workers is None:
        num_workers = min(os.cpu_count() or 1, 8)
    if num_workers < 1 or not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise VmrError("num_workers must be at least 1, and timeout_s a positive number of seconds")
    return [_Worker(timeout_s) for _ in range(num_workers)]


def _join(threads: list[threading.Thread], workers: list[_Worker], kill: bool) -> None:
    """Wait for the thread of each worker to end; kill: at once, by ending the workers they wait for."""
    while any(thread.is_alive() for thread in threads):
        for worker, thread in zip(workers, threads, strict=True):
            if kill:  # in the loop, because a thread may just have been starting its worker
                worker.kill()
            thread.join(0.05)


class _Run:
    """One call of `DecodePool.decode`: a thread for each worker, taking jobs from one queue and filling another."""

    def __init__(self, jobs: list[SegmentsJob], workers: list[_Worker]) -> None:
        self.results: queue.Queue[Decoded | Exception] = queue.Queue(maxsize=2 * len(workers))
        self._jobs: queue.SimpleQueue[SegmentsJob] = queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._stopped = threading.Event()
        self._workers = workers[: len(jobs)]
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def _feed(self, worker: _Worker) -> None:
        try:
            while not self._stopped.is_set():
                for item in worker.decode(self._jobs.get_nowait()):
                    self._put(item)
        except queue.Empty:
            return
        except Exception as error:  # told to whoever iterates: nobody looks into a thread
            self._put(error)

    def _put(self, item: Decoded | Exception) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.results.put(item, timeout=0.1)
                return

    def stop(self, kill: bool) -> None:
        """Wait for the threads to end; kill: at once, by ending the workers they wait for."""
        if kill:
            self._stopped.set()
        _join(self._threads, self._workers, kill)
        if kill:  # another thread may be waiting for more
            with contextlib.suppress(queue.Empty):
                while True:
                    self.results.get_nowait()
            self.results.put(VmrError("the pool was closed while it was decoding"))


class _WorkerLostError(Exception):
    """The worker is gone; the message says why."""


class _Worker:
    """One decoding process, started when first needed and again after it was lost."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, job: SegmentsJob | ClipJob) -> Iterator[Decoded]:
        """Everything the worker has to say about one file. Raises VmrError if it cannot be started."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            self._requests.write(json.dumps(asdict(job)).encode() + b"\n")
            self._requests.flush()
            while True:
                with self._watched(self._timeout_s):
                    item = self._answer(job)
                yield item
                if not isinstance(item, DecodedSegment):
                    return
        except (OSError, _WorkerLostError) as error:
            self.end()
            yield DecodeFailure(job.path, str(error))

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer learns that it is gone."""
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """End the process and leave nothing of it behind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (self._requests, self._replies, self._stderr):
                with contextlib.suppress(OSError):  # a request that was never read cannot be flushed any more
                    stream.close()

    def _start(self) -> None:
        self.end()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process lives
        command = [sys.executable, "-c", _WORKER_PROGRAM, *_import_path()]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert process.stdin is not None and process.stdout is not None
        self._requests, self._replies, self._process = process.stdin, process.stdout, process
        try:
            with self._watched(_START_S):
                self._header()
        except _WorkerLostError as error:
            self.end()
            raise VmrError(f"the decoding process does not start: {error}") from None

    def _answer(self, job: SegmentsJob | ClipJob) -> Decoded:
        header = self._header()
        path, wanted = job.path, job.spec
        try:
            if header["kind"] == "failure":
                return DecodeFailure(path, str(header["reason"]))
            if header["kind"] == "video":
                return DecodedVideo(path, int(header["num_segments"]), float(header["duration_s"]))
            num_frames, *shape = header["shape"]
            fewest = wanted.num_frames if isinstance(job, ClipJob) else 1
            if not fewest <= num_frames <= wanted.num_frames or shape != [3, wanted.size, wanted.size]:
                raise ValueError
            video = np.empty((num_frames, *shape), np.uint8)
            if self._replies.readinto(video.data.cast("B")) < video.nbytes:  # type: ignore[attr-defined]
                raise EOFError
            return DecodedSegment(path, float(header["start_s"]), float(header["end_s"]), video)
        except (KeyError, TypeError, ValueError):
            raise _WorkerLostError("the decoder gave an answer that makes no sense") from None

    def _header(self) -> Any:
        line = self._replies.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            return json.loads(line)
        except ValueError:
            raise _WorkerLostError("the decoder gave an answer that makes no sense") from None

    @contextlib.contextmanager
    def _watched(self, timeout_s: float) -> Iterator[None]:
        """Kill the worker if it takes longer than this; say why, if its answer ends early."""
        process = self._process
        if process is None:
            raise _WorkerLostError("the decoder was stopped")
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        watchdog = threading.Timer(timeout_s, expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        except EOFError:
            late = f"no answer for {timeout_s:g} s, decoder stopped"
            raise _WorkerLostError(late if expired.is_set() else self._how_it_ended(process)) from None
        finally:
            watchdog.cancel()
            watchdog.join()

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            status = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the decoder stopped answering"
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (out of memory, or ended by hand)" if name == "SIGKILL" else ""
            return f"the decoder was killed by {name}{hint}"
        self._stderr.seek(0)
        last_words = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"the decoder exited with status {status}" + "".join(f": {line}" for line in last_words)


# Started with -c rather than -m: -m would search the current folder first, where a user may keep a file named av.py,
# and only Python 3.11 has an option against that.
_WORKER_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from vmr.data.decoding.worker import main; main()"


def _import_path() -> list[str]:
    """Where the worker looks for modules: where this process does, save for the current folder and the script's own.

    Those two are the user's, and a file there may bear the name of a module that the worker needs. A vmr that was
    itself found there, or through the hook of an editable install, is put first.
    """
    package_root = str(Path(__file__).absolute().parents[3])
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    users = {str(Path.cwd()), str(Path(script).absolute().parent) if script else ""}
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    path = [entry for entry in path if entry not in users]
    return path if package_root in path else [package_root, *path]
