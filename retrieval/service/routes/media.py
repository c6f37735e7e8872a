"""Files, pictures and clips of videos: `/videos/{id}/media`, `/moments/{id}/thumbnail.jpg` and others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from vmr.errors import VideoError
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.media.addresses import stamp_of
from vmr.retrieval.service.media.captions import captions
from vmr.retrieval.service.media.media import MAX_CLIP_WIDTH, MAX_WIDTH, MIN_WIDTH, WIDTH
from vmr.retrieval.service.routes.answers import ASK_AGAIN, KEEP, bytes_answer, disposition, file_answer
from vmr.retrieval.service.routes.connected import while_connected
from vmr.retrieval.service.schemas import LARGEST_ID, Playback
from vmr.retrieval.service.service import Service, Shared
from vmr.retrieval.storage.records import Video, Window
from vmr.retrieval.storage.snapshot import Snapshot

router = APIRouter(tags=["media"])

Id = Annotated[int, Path(ge=0, le=LARGEST_ID)]
Seconds = Annotated[float, Query(ge=0, le=10**7, allow_inf_nan=False)]

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}},
    206: {"description": "a part"},
    416: {"description": "no such part"},
}


@contextmanager
def _readable() -> Iterator[None]:
    """Say by the status that a file is there, but damaged."""
    try:
        yield
    except VideoError as error:
        raise HTTPException(422, str(error)) from None


async def _video(service: Service, video_id: int) -> Video:
    video = await service.index.read(lambda snapshot: snapshot.video(video_id))
    if video is None:
        raise NotFound(f"the index holds no video {video_id}")
    return video


async def _moment(service: Service, moment_id: int) -> tuple[Video, Window]:
    def find(snapshot: Snapshot) -> tuple[Video | None, Window | None]:
        return snapshot.video_of_window(moment_id), snapshot.hits([moment_id]).get(moment_id)

    video, window = await service.index.read(find)
    if video is None or window is None:
        raise NotFound(f"the index holds no moment {moment_id}")
    return video, window


@router.get("/videos/{video_id}/media", response_class=Response, responses=_BYTES)
async def media(video_id: Id, request: Request, service: Shared) -> Response:
    """Give the file of a video, or one range of its bytes."""
    video = await _video(service, video_id)
    file, name = await service.media.file(video), PurePosixPath(video.path)
    return file_answer(request, file, {"Content-Disposition": disposition("inline", name.stem, name.suffix)})


@router.get("/videos/{video_id}/playback")
async def playback(video_id: Id, request: Request, service: Shared, at_s: Seconds = 0.0) -> Playback:
    """Say what a browser is to play from a moment on. What must be made for it has been made when this answers."""
    with _readable():
        found = await while_connected(request, service.media.playback(await _video(service, video_id), at_s))
    return Playback(**asdict(found))


@router.get("/videos/{video_id}/playable.mp4", response_class=Response, responses=_BYTES)
async def playable(video_id: Id, request: Request, service: Shared, start_s: Seconds = 0.0) -> Response:
    """Give a part of a video as a file that every browser plays; `playback` says which, and what its times mean."""
    with _readable():
        file = await while_connected(request, service.media.playable(await _video(service, video_id), start_s))
    return file_answer(request, file)


@router.get(
    "/moments/{moment_id}/thumbnail.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def thumbnail(
    moment_id: Id,
    request: Request,
    service: Shared,
    width: Annotated[int, Query(ge=MIN_WIDTH, le=MAX_WIDTH)] = WIDTH,
    of: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Give the picture in the middle of a moment. With the right `of`, a browser keeps it and does not ask again."""
    video, window = await _moment(service, moment_id)
    with _readable():
        making = service.media.thumbnail(video, window.start_s, window.end_s, width)
        jpeg = await while_connected(request, making)
    stamp = stamp_of(video)
    etag = f'"{stamp}-{moment_id}-{width}"'
    return bytes_answer(request, jpeg, etag, "image/jpeg", KEEP if of == stamp else ASK_AGAIN)


@router.get("/moments/{moment_id}/clip.mp4", response_class=Response, responses=_BYTES)
async def clip(
    moment_id: Id,
    request: Request,
    service: Shared,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    width: Annotated[int | None, Query(ge=MIN_WIDTH, le=MAX_CLIP_WIDTH)] = None,
) -> Response:
    """Cut a moment out of its video; `start_s` and `end_s`, in seconds of the video, move its ends.

    With `width`, a preview is made quickly, of so many pixels at most unless the video can be copied as it is.
    """
    video, window = await _moment(service, moment_id)
    span = (window.start_s if start_s is None else start_s, window.end_s if end_s is None else end_s)
    with _readable():
        file = await while_connected(request, service.media.clip(video, *span, width))
    name = f"{PurePosixPath(video.path).stem} {span[0]:.1f}-{span[1]:.1f} s"
    return file_answer(request, file, {"Content-Disposition": disposition("attachment", name, ".mp4")})


@router.get("/videos/{video_id}/captions.vtt", response_class=Response, responses={200: {"content": {"text/vtt": {}}}})
async def captions_of(
    video_id: Id,
    service: Shared,
    kind: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006 - FastAPI copies it
    offset_s: Annotated[float, Query(ge=-(10**7), le=10**7, allow_inf_nan=False)] = 0.0,
) -> Response:
    """Give the texts of a video as captions. `offset_s` is that of what is played, see `playback`."""
    await _video(service, video_id)
    texts = await service.index.read(lambda snapshot: snapshot.texts(video_id))
    headers = {"Cache-Control": ASK_AGAIN}
    return Response(captions(texts, kind, offset_s).encode(errors="replace"), 200, headers, "text/vtt; charset=utf-8")
