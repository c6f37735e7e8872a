"""Asking FFmpeg whether files are videos, in worker processes, because a hostile file can hang or crash it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vmr.data.decoding.ffmpeg.video_file import NotAVideoError, VideoFile
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import start_workers
from vmr.data.decoding.segments import Segments
from vmr.data.decoding.worker_process import DecodeFailure, WorkerProcess

_FILES_PER_WORKER = 32  # starting a process takes as long as asking about this many files, or more


@dataclass
class ProbeJob:
    """The question whether a file is a video, for a worker process.

    Attributes:
        path: the file.
        is_video: the answer, once the job is done.
    """

    kind: ClassVar[str] = "vmr.data.discovery.probe:serve_probe"

    path: str
    is_video: bool = False

    def request(self) -> dict[str, Any]:
        """Return the job as JSON."""
        return {"path": self.path}

    def answer(self, question: dict[str, Any]) -> None:
        """Take what the process says about the file."""
        self.is_video = question.get("is_video") is True

    def accepts(self, shape: Sequence[int]) -> bool:
        """Refuse frames: the process sends none."""
        return False


def serve_probe(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `ProbeJob` in a worker process: open the file, and tell the parent process whether it is a video.

    Raises:
        VideoError: it is a video that cannot be read, such as one whose recording did not finish.
    """
    try:
        VideoFile(request["path"], num_threads=1).close()
        is_video = True
    except NotAVideoError:
        is_video = False
    ask({"is_video": is_video})
    yield from ()
    return ()


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
    workers = start_workers(options)[: 1 + len(paths) // _FILES_PER_WORKER]
    idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def ask(path: Path) -> bool | DecodeFailure:
        worker, job = idle.get(), ProbeJob(str(path))
        try:
            (end,) = worker.decode(job)
        finally:
            idle.put(worker)
        return end if isinstance(end, DecodeFailure) else job.is_video

    threads = ThreadPoolExecutor(len(workers))
    try:
        return list(threads.map(ask, paths))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        threads.shutdown()
        for worker in workers:
            worker.end()
