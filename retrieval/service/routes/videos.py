"""`/videos` and `/failures`."""

from typing import Annotated

from fastapi import APIRouter, Query

from vmr.errors import VmrError
from vmr.retrieval.service import schemas
from vmr.retrieval.service.schemas import FailedList, FailuresRequest, VideoDetails, VideoList, VideosRequest
from vmr.retrieval.service.service import Shared
from vmr.retrieval.service.videos import list_failures, list_videos, video_details

router = APIRouter(tags=["videos"])


@router.get("/videos")
async def videos(service: Shared, request: Annotated[VideosRequest, Query()]) -> VideoList:
    """List the videos of the index."""
    return await list_videos(service, request)


@router.get("/failures")
async def failures(service: Shared, request: Annotated[FailuresRequest, Query()]) -> FailedList:
    """List the files that could not be read and are not in the index, and why."""
    return await list_failures(service, request)


@router.get("/videos/{video_id}")
async def video(
    service: Shared,
    video_id: int,
    query: Annotated[schemas.Query | None, Query(description="what the curve is about")] = None,
    like: Annotated[schemas.Id | None, Query(description="in place of a query: `moment_id` of a hit")] = None,
) -> VideoDetails:
    """Say what is known of a video, and where it answers a query."""
    if query is not None and like is not None:
        raise VmrError("like takes the place of query: give one of them")
    return await video_details(service, video_id, like if query is None else query)
