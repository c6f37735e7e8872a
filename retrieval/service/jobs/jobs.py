"""The jobs of a service: added by requests, done one after the other."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vmr.errors import IndexBusyError, VmrError
from vmr.locks import locked_folder
from vmr.progress import printable
from vmr.retrieval.service.jobs.child import JobProcess
from vmr.retrieval.service.jobs.places import AllowedFolders
from vmr.retrieval.service.jobs.received import receive, remove_unfinished
from vmr.retrieval.service.jobs.records import Job, JobFailure, JobProgress, JobWithFailures
from vmr.retrieval.service.jobs.store import MAX_FAILURES, JobStore
from vmr.retrieval.service.options import ServiceOptions

T = TypeVar("T")

_LOOK_S = 1.0  # another server of the index may have added or cancelled a job
_RETRY_S = 2.0  # what could not be written, and the lock that another server holds

_log = logging.getLogger(__name__)


def jobs_of(options: ServiceOptions) -> "Jobs | None":
    """Make the jobs of a service; None if it adds no videos.

    Raises:
        VmrError: an option cannot be as it is, or the folder of the index cannot be written.
    """
    if options.allow_indexing:
        return Jobs(options)
    if options.upload_folder is not None:
        raise VmrError("--upload-dir needs --allow-indexing with a folder above it: add that")
    return None


class Jobs:
    """Adds videos to the index, in a process of its own, one job after the other, in the order of their ids.

    Several servers of an index share its jobs; one of them does them. A job goes on after a restart.

    Args:
        options: how the index is served.

    Attributes:
        allowed: the folders from which videos are added.
        takes_uploads: whether videos are received.

    Raises:
        VmrError: a folder is not there, or the jobs cannot be written.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self.allowed = AllowedFolders(options.allow_indexing)
        self._index, self._upload_folder, self._limits = options.index, options.upload_folder, options.limits
        self.takes_uploads = self._upload_folder is not None
        if self._upload_folder is not None:
            if not self._upload_folder.is_dir():
                raise VmrError(f"--upload-dir {self._upload_folder}: no such folder")
            if not self.allowed.contains(os.path.abspath(self._upload_folder)):  # noqa: PTH100 - without `..`
                raise VmrError(f"--upload-dir {self._upload_folder}: is not below a folder of --allow-indexing")
            remove_unfinished(self._upload_folder)
        self._store = JobStore(options.index)
        self._changed = asyncio.Event()
        self._current: Job | None = None  # may be newer than what could be written
        self._unwritten: list[JobFailure] = []
        self._cancelled: set[int] = set()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def shown_folders(self) -> list[str]:
        """The folders from which videos are added, printable."""
        return [printable(folder) for folder in self.allowed.folders]

    def start(self) -> None:
        """Begin to do jobs."""
        self._task = asyncio.create_task(self._do_jobs(), name="jobs")

    async def close(self) -> None:
        """End the job that runs, which goes on when the index is served again."""
        self._is_closing = True
        self._notify()
        if self._task is not None:
            await self._task
        self._store.close()

    async def add(self, path: str) -> Job:
        """Add a job.

        Args:
            path: the file or folder that is to be added, as it came.

        Raises:
            HTTPException: it is not allowed or not there, or too many jobs wait; or the disk is full.
        """
        place = await run_in_threadpool(self.allowed.place, path)
        job = await self._ask(lambda: self._store.add(place))
        self._notify()
        return job

    async def receive(self, request: Request) -> Job:
        """Receive a video, and add a job that adds it.

        Raises:
            HTTPException: it is refused, or cannot be written. Nothing of it is left.
        """
        if self._upload_folder is None:
            raise HTTPException(403, "this service takes no uploads: start vmr-serve with --upload-dir DIR")
        try:
            path = await receive(request, self._upload_folder, self._limits.video_bytes)
        except VmrError as error:
            raise HTTPException(507, str(error)) from error
        try:
            return await self.add(str(path.absolute()))
        except HTTPException:
            await run_in_threadpool(path.unlink)
            raise

    async def newest(self) -> list[Job]:
        """Return all jobs that are remembered, the newest first."""
        return [self._newest(job) for job in await self._ask(self._store.jobs)]

    async def get(self, number: int) -> Job:
        """Return a job.

        Raises:
            HTTPException: there is none with this id.
        """
        job = await self._ask(lambda: self._store.get(number))
        if job is None:
            raise HTTPException(404, f"job {number}: there is no such job")
        return self._newest(job)

    async def with_failures(self, number: int) -> JobWithFailures:
        """Return a job, and which files it could not add; see `get`."""
        job = await self.get(number)
        return JobWithFailures(**job.model_dump(), failures=await self._failures(number, 0))

    async def cancel(self, number: int) -> Job:
        """Cancel a job; nothing happens if it has ended. Videos that it has put into the index stay there.

        Raises:
            HTTPException: there is none with this id.
        """
        await self.get(number)
        if self._current is not None and self._current.id == number:
            self._cancelled.add(number)  # even if the disk is full
        await self._ask(lambda: self._store.cancel(number))
        self._notify()
        return await self.get(number)

    async def events(self, number: int, after: int = 0) -> AsyncIterator[Job | JobFailure]:
        """Yield what happens to a job, until it has ended: failures as they come, and the job whenever it has changed.

        Args:
            number: id of the job.
            after: the revision up to which everything is known.

        Raises:
            HTTPException: there is none with this id.
        """
        while True:
            changed = self._changed
            job = await self.get(number)
            for failure in await self._failures(number, after):
                if failure.revision <= job.revision:
                    yield failure
            if job.revision > after:
                yield job
                after = job.revision
            if job.has_ended:
                return
            await _wait(changed, _LOOK_S)

    # What requests need

    async def _ask(self, read_or_write: Callable[[], T]) -> T:
        try:
            return await run_in_threadpool(read_or_write)
        except VmrError as error:
            raise HTTPException(503, str(error)) from error

    def _newest(self, job: Job) -> Job:
        """A job as this server knows it, which may not have been able to write what it knows."""
        current = self._current
        return current if current is not None and current.id == job.id and current.revision >= job.revision else job

    async def _failures(self, number: int, after: int) -> list[JobFailure]:
        unwritten = [*self._unwritten] if self._current is not None and self._current.id == number else []
        written = await self._ask(lambda: self._store.failures(number, after))
        known = {each.revision for each in written}
        return written + [each for each in unwritten if each.revision > after and each.revision not in known]

    def _notify(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    # Doing the jobs

    async def _do_jobs(self) -> None:
        """Do jobs until the service ends, whenever no other server of the index does them."""
        while not self._is_closing:
            try:
                with locked_folder(self._store.folder, IndexBusyError("another server does the jobs")):
                    await run_in_threadpool(self._store.take_back)
                    await self._do_those_that_wait()
            except IndexBusyError:
                pass
            except VmrError as error:
                _log.warning("jobs: %s", error)
            except Exception:
                _log.exception("jobs: tried again in %g s", _RETRY_S)
            if not self._is_closing:
                await _wait(self._changed, _RETRY_S)

    async def _do_those_that_wait(self) -> None:
        while not self._is_closing:
            changed = self._changed
            begun = await run_in_threadpool(self._store.begin)
            if begun is None:
                await _wait(changed, _LOOK_S)
                continue
            job, path = begun
            await self._do(job, path)
            while not self._is_closing and not await self._write():
                await asyncio.sleep(_RETRY_S)
            self._current = None
            self._unwritten.clear()
            self._cancelled.discard(job.id)

    async def _do(self, begun: Job, path: str) -> None:
        """Do a job, and note how it ended."""
        await self._tell(begun)
        request = {"index": str(self._index.absolute()), "folders": self.allowed.folders, "path": path}
        try:
            async with JobProcess(request) as process:
                watching = asyncio.create_task(self._stop_if_asked(begun.id, process))
                try:
                    async for line in process.lines():
                        await self._hear(begun, line)
                finally:
                    process.has_ended = True
                    self._notify()
                    await watching  # it is not cancelled, because `asyncio.wait_for` may lose that before Python 3.12
        except OSError as error:
            await self._hear(begun, {"kind": "failed", "message": f"the process cannot be started: {error.strerror}"})
        except Exception:
            _log.exception("job %d failed", begun.id)
            await self._hear(begun, {"kind": "failed", "message": "the service failed: its log says why"})

    async def _stop_if_asked(self, number: int, process: JobProcess) -> None:
        """Stop the process when the job is cancelled, by this server or another one, or when the service ends."""
        while not self._is_closing and number not in self._cancelled:
            changed = self._changed
            if process.has_ended:
                return
            with suppress(VmrError):
                job = await run_in_threadpool(self._store.get, number)
                if job is not None and job.is_cancelling:
                    self._cancelled.add(number)
                    break
            await _wait(changed, _LOOK_S)
        if self._current is not None and not self._is_closing:
            self._current = self._current.model_copy(
                update={"is_cancelling": True, "revision": self._current.revision + 1}
            )
            self._notify()
        process.stop()

    async def _hear(self, begun: Job, line: dict[str, Any]) -> None:
        """Note what the process says."""
        assert self._current is not None
        job, failures = self._current, []
        if line["kind"] == "state":
            first = job.revision + 1
            failures = [JobFailure(**each, revision=first + number) for number, each in enumerate(line["failures"])]
            job = job.model_copy(
                update={
                    "message": line["message"],
                    "progress": _progress(begun, line["reached"]) if line["reached"] else job.progress,
                    "num_embedded": begun.num_embedded + line["num_embedded"],
                    "num_failed": job.num_failed + len(failures),
                    "revision": job.revision + len(failures),
                }
            )
        else:
            job = job.model_copy(update=self._end(begun, job, line))
        await self._tell(job, failures)

    def _end(self, begun: Job, job: Job, line: dict[str, Any]) -> dict[str, Any]:
        """What changes when the process has said its last line."""
        if line["kind"] == "done":
            state, message = "done", _summary(begun, job, line["counts"])
        elif job.id in self._cancelled:
            state, message = "cancelled", f"{job.num_embedded} added before it was cancelled"
        elif self._is_closing:
            return {}  # it is still begun, and the next server takes it back
        else:
            state, message = "failed", line.get("message", "the process that adds videos was interrupted")
        return {
            "state": state,
            "message": message,
            "ended_at": datetime.now(timezone.utc),
            "is_cancelling": False,
            "progress": job.progress.model_copy(update={"now": None, "left_s": None}),
        }

    async def _tell(self, job: Job, failures: list[JobFailure] | None = None) -> None:
        """Let everybody know what has become of the job that runs, and write it if that is possible."""
        self._current = job.model_copy(update={"revision": job.revision + 1})
        room = max(0, MAX_FAILURES - job.num_failed + len(failures or ()))
        self._unwritten += (failures or [])[:room]
        await self._write()
        self._notify()

    async def _write(self) -> bool:
        """Write what is known of the job that runs. Return whether that was possible."""
        job, failures = self._current, [*self._unwritten]
        assert job is not None
        try:
            await run_in_threadpool(self._store.save, job, failures)
        except VmrError as error:
            _log.warning("job %d: %s", job.id, error)
            return False
        del self._unwritten[: len(failures)]
        return True


def _progress(begun: Job, reached: dict[str, Any]) -> JobProgress:
    """How far a job is, with what an earlier process has done of it."""
    return JobProgress(
        files_done=begun.num_embedded + reached["num_done"],
        files_total=begun.num_embedded + reached["num_videos"],
        done_s=reached["done_s"],
        total_s=reached["total_s"],
        speed=reached["speed"],
        left_s=reached["left_s"],
        now=printable(reached["now"]) or None,
    )


def _summary(begun: Job, job: Job, counts: dict[str, int]) -> str:
    """What a job has done, in a line."""
    unchanged = max(0, counts["unchanged"] - begun.num_embedded)
    all_counts = {"added": job.num_embedded, **counts, "unchanged": unchanged, "left out": job.num_failed}
    return ", ".join(f"{count} {what}" for what, count in all_counts.items() if count) or "nothing to do"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
