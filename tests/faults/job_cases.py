"""The writers of a service's jobs, for `tests.faults.cases`."""

import contextlib
from pathlib import Path

from vmr.retrieval.service.jobs.received import NewFile
from vmr.retrieval.service.jobs.records import JobFailure
from vmr.retrieval.service.jobs.store import JobStore

VIDEO = "a.mp4"


def keep(folder: Path, version: int) -> None:
    """A job that waits and one that has ended; to do it twice is to do it once."""
    with contextlib.closing(JobStore(folder)) as store:
        known = {job.path for job in store.jobs()}
        for path in (f"/videos/{version}/{name}" for name in ("ended", "waits")):
            if path not in known:
                store.add(path)
        store.take_back()
        while (begun := store.begin()) is not None:
            job, path = begun
            if path.endswith("waits"):
                break
            failures = [JobFailure(path=f"{path}/x.mp4", reason="broken", revision=job.revision + 1)]
            store.save(job.model_copy(update={"state": "done", "message": "1 left out"}), failures)
        store.take_back()


def read(folder: Path) -> object:
    """Which jobs there are, and which of them have ended, with their failures."""
    if not (folder / "jobs" / "jobs.db").exists():
        return {}
    with contextlib.closing(JobStore(folder)) as store:
        jobs = store.jobs()
        for job in jobs:
            assert job.state in ("queued", "running", "done"), job
            failures = [failure.reason for failure in store.failures(job.id)]
            assert failures == (["broken"] if job.state == "done" else []), job
        return {(job.path, state): True for job in jobs for state in ("queued", job.state) if state != "running"}


def receive(folder: Path, version: int) -> None:
    with NewFile(folder) as file:
        for number in range(3):
            file.write(bytes([version, number]) * 3000)
        file.keep_as(VIDEO)


def received(folder: Path) -> object:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")} or None
