"""Asking FFmpeg whether files are videos and how long they are.

It is asked in worker processes, because a hostile file can hang or crash it.
"""

from __future__ import annotations

import contextlib
import math
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from vmr.data.decoding.ffmpeg.video_file import NotAVideoError, VideoFile
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import start_workers
from vmr.data.decoding.segments import FileEnd, Segments
from vmr.data.decoding.worker_process import DecodeFailure, WorkerProcess

_FILES_PER_WORKER = 32  # starting a process takes as long as asking about this many files, or more
_HEADER_TIMEOUT_S = 10.0  # a duration is not worth waiting longer for


@dataclass
class ProbeJob:
    """The question whether a file is a video, and how long it is, for a worker process.

    Attributes:
        path: the file.
        is_video: the answer, once the job is done.
        duration_s: seconds, as `VideoFile.probable_s`; None if they cannot be told.
    """

    kind: ClassVar[str] = "vmr.data.discovery.probe:serve_probe"

    path: str
    is_video: bool = False
    duration_s: float | None = None

    def request(self) -> dict[str, Any]:
        """Return the job as JSON."""
        return {"path": self.path}

    def answer(self, question: dict[str, Any]) -> None:
        """Take what the process says about the file."""
        duration_s = question.get("duration_s")
        self.is_video = question.get("is_video") is True
        self.duration_s = duration_s if isinstance(duration_s, float) and 0 < duration_s < math.inf else None

    def accepts(self, shape: Sequence[int]) -> bool:
        """Refuse frames: the process sends none."""
        return False


def serve_probe(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `ProbeJob` in a worker process: open the file, and tell the parent process what it is.

    Raises:
        VideoError: it is a video that cannot be read, such as one whose recording did not finish.
    """
    try:
        video = VideoFile(request["path"], num_threads=1)
    except NotAVideoError:
        ask({"is_video": False})
    else:
        with contextlib.closing(video):
            ask({"is_video": True, "duration_s": video.probable_s})
    yield from ()
    return FileEnd()


def are_videos(paths: Sequence[Path], options: DecodeOptions = DecodeOptions()) -> list[bool | DecodeFailure]:
    """Ask FFmpeg about files.

    Args:
        paths: the files.
        options: how many processes, at most, and how long a file may take.

    Returns:
        For each file whether it is a video, or why it is one that cannot be read; a file that hangs or crashes FFmpeg
        is a failure too.

    Raises:
        VmrError: a worker process cannot start.
    """
    return [job.is_video if failure is None else failure for job, failure in _probe(paths, options)]


def probe_durations(paths: Sequence[str | Path], options: DecodeOptions = DecodeOptions()) -> Iterator[float | None]:
    """Ask FFmpeg how long videos are, without decoding them: about a millisecond each.

    Args:
        paths: the files.
        options: how many processes, at most, and how long a file may take, but at most 10 s.

    Yields:
        For each file in turn its length in seconds, as the container states it; None where that cannot be told, and
        for a file that cannot be opened or that hangs or crashes FFmpeg.

    Raises:
        VmrError: a worker process cannot start.
    """
    options = replace(options, timeout_s=min(options.timeout_s, _HEADER_TIMEOUT_S))
    for job, failure in _probe(paths, options):
        yield job.duration_s if failure is None else None


def _probe(paths: Sequence[str | Path], options: DecodeOptions) -> Iterator[tuple[ProbeJob, DecodeFailure | None]]:
    """Ask about each file; yield its answer, or why there is none."""
    workers = start_workers(options)[: 1 + len(paths) // _FILES_PER_WORKER]
    idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def ask(path: str | Path) -> tuple[ProbeJob, DecodeFailure | None]:
        worker, job = idle.get(), ProbeJob(str(path))
        try:
            (end,) = worker.decode(job)
        finally:
            idle.put(worker)
        return job, end if isinstance(end, DecodeFailure) else None

    threads = ThreadPoolExecutor(len(workers))
    try:
        yield from threads.map(ask, paths)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        threads.shutdown()
        for worker in workers:
            worker.end()
