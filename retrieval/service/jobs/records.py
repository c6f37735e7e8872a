"""What a job is, as the API shows it."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")


class JobProgress(BaseModel):
    """How far a job is. Everything is 0 or null until it is known."""

    files_done: int = Field(0, description="videos that are done, with those that failed")
    files_total: int = Field(0, description="videos that are new or have changed")
    done_s: float = Field(0.0, description="seconds of video that are done")
    total_s: float | None = Field(None, description="seconds of video in all, as far as they are known")
    speed: float | None = Field(None, description="seconds of video in a second")
    left_s: float | None = Field(None, description="seconds until the end, at this speed")
    now: str | None = Field(None, description="the file that is being worked on")


class JobFailure(BaseModel):
    """A file that a job could not add."""

    path: str = Field(description="the file; characters that cannot be printed are escaped")
    reason: str = Field(description="why, in one line")
    revision: int = Field(description="the number of the job's event that told it")


class Job(BaseModel):
    """A file or folder that is to be added to the index."""

    id: int
    path: str = Field(description="the file or folder; characters that cannot be printed are escaped")
    state: JobState
    message: str = Field("", description="what it does or waits for; at the end, what it did or why it failed")
    is_cancelling: bool = Field(False, description="whether it was cancelled, and has not ended yet")
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: JobProgress = JobProgress()
    num_embedded: int = Field(0, description="videos that this job has put into the index")
    num_failed: int = Field(0, description="files that it could not add")
    revision: int = Field(1, description="grows with every event of the job")

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.state in ENDED


class JobWithFailures(Job):
    """A job, and the files that it could not add."""

    failures: list[JobFailure] = Field([], description="the first of them")


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[Job]
    folders: list[str] = Field(description="the folders below which videos may be added")
    takes_uploads: bool = Field(description="whether videos may be uploaded")


class JobRequest(BaseModel):
    """What is to be added."""

    path: str = Field(min_length=1, max_length=4096, description="a file or folder below a folder that is allowed")
