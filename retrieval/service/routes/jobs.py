"""`/jobs`: adding videos to the index while it is served."""

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from vmr.retrieval.service.guard.requests import takes_up_to
from vmr.retrieval.service.jobs.jobs import Jobs
from vmr.retrieval.service.jobs.records import Job, JobList, JobRequest, JobWithFailures
from vmr.retrieval.service.routes.bodies import described, is_form, read_json
from vmr.retrieval.service.schemas import LARGEST_ID
from vmr.retrieval.service.service import Shared

router = APIRouter(tags=["jobs"])

_MAX_REQUEST_BYTES = 64 << 10


def _jobs(service: Shared) -> Jobs:
    if service.jobs is None:
        raise HTTPException(403, "this service adds no videos: start vmr-serve with --allow-indexing DIR")
    return service.jobs


Allowed = Annotated[Jobs, Depends(_jobs)]
JobId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="id of a job")]
AfterEvent = Annotated[
    int,
    Header(alias="Last-Event-ID", ge=0, le=LARGEST_ID, description="the last event that came; `EventSource` sends it"),
]


@router.post(
    "/jobs",
    status_code=202,
    openapi_extra=described(JobRequest, None, "a video, which is put into the folder of --upload-dir"),
)
@takes_up_to("video_bytes")
async def add_job(jobs: Allowed, request: Request, response: Response) -> Job:
    """Add a file or folder of the server to the index, or upload a video that is added to it. The answer comes at once.

    `GET /jobs/{id}/events` tells how far the job is. A job that adds what is in the index already does no harm.
    """
    if is_form(request):
        job = await jobs.receive(request)
    else:
        job = await jobs.add((await read_json(request, JobRequest, _MAX_REQUEST_BYTES)).path)
    response.headers["Location"] = f"{request.url.path}/{job.id}"
    return job


@router.get("/jobs")
async def list_jobs(
    jobs: Allowed, k: Annotated[int, Query(ge=1, le=1000, description="at most so many")] = 100
) -> JobList:
    """List jobs, the newest first."""
    return JobList(jobs=(await jobs.newest())[:k], folders=jobs.shown_folders, takes_uploads=jobs.takes_uploads)


@router.get("/jobs/{job_id}")
async def get_job(jobs: Allowed, job_id: JobId) -> JobWithFailures:
    """Say how far a job is, and which files it could not add."""
    return await jobs.with_failures(job_id)


@router.delete("/jobs/{job_id}")
@router.post("/jobs/{job_id}/cancel")
async def cancel_job(jobs: Allowed, job_id: JobId) -> Job:
    """Cancel a job. What it has added stays in the index; one that runs ends after a moment."""
    return await jobs.cancel(job_id)


async def _is_more(jobs: Allowed, job_id: JobId, last_event_id: AfterEvent = 0) -> None:
    """Refuse to tell about a job that is not there; tell `EventSource` not to come again if it knows everything."""
    job = await jobs.get(job_id)
    if job.has_ended and last_event_id >= job.revision:
        raise HTTPException(204)


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_is_more)])
async def follow_job(jobs: Allowed, job_id: JobId, last_event_id: AfterEvent = 0) -> AsyncIterable[ServerSentEvent]:
    """Follow a job: an event `failure` for each file that cannot be added, an event `job` whenever the job has changed.

    The last event is that of the job when it has ended. Lines that begin with a colon keep the connection open.
    """
    async for each in jobs.events(job_id, last_event_id):
        kind = "job" if isinstance(each, Job) else "failure"
        yield ServerSentEvent(data=each, event=kind, id=str(each.revision))
