"""Decoding training clips in worker processes, one job per clip."""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import join_threads, start_workers
from vmr.data.decoding.segments import DecodedSegment
from vmr.data.decoding.worker_process import DecodedVideo, DecodeFailure, WorkerProcess, damage_failure
from vmr.data.training.clips import ClipJob

Clip = NDArray[np.uint8] | DecodeFailure
"""The frames of a clip, uint8 (T, 3, S, S), or the failure."""


class ClipPool:
    """Worker processes that decode training clips. Jobs are begun in the order in which they are submitted.

    Args:
        options: the number of processes, how long a file may go without delivering anything, and whether a damaged
            video is a failure; the reader is that of each job.
    """

    def __init__(self, options: DecodeOptions = DecodeOptions()) -> None:
        self._workers = start_workers(options)
        self._strict = options.strict
        self._jobs: queue.SimpleQueue[tuple[ClipJob, Future[Clip]] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def submit(self, job: ClipJob) -> Future[Clip]:
        """Submit a clip for decoding.

        Returns:
            A future of the clip, or of its failure. The future raises VmrError if a worker cannot start.
        """
        future: Future[Clip] = Future()
        self._jobs.put((job, future))
        if self._closed.is_set():  # the thread that closed the pool may not have seen this job
            future.cancel()
        return future

    def close(self) -> None:
        """End the workers at once. Futures of unfinished clips are cancelled or failed."""
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
            clip: Clip = DecodeFailure(job.path, "the decoder gave no frames")
            try:
                for item in worker.decode(job):
                    if isinstance(item, DecodedSegment):
                        clip = item.video
                    elif isinstance(item, DecodeFailure):
                        clip = item
                    elif self._strict and isinstance(item, DecodedVideo):
                        clip = damage_failure(job.path, item.remarks) or clip
            except Exception as error:  # raised where the clip is waited for; in a thread it would be lost
                future.set_exception(error)
            else:
                future.set_result(clip)
