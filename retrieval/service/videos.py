"""What the API says about videos: lists, page by page, and what is known of one of them."""

import json
import os
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.searching.filters import parsed
from vmr.retrieval.service.cursors import ListCursor
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.media.addresses import thumbnail_url
from vmr.retrieval.service.options import API
from vmr.retrieval.service.schemas import (
    LARGEST_ID,
    CurvePoint,
    FailedList,
    FailedVideo,
    FailuresRequest,
    VideoDetails,
    VideoList,
    VideoRemark,
    VideosRequest,
    VideoSummary,
    VideoText,
)
from vmr.retrieval.service.service import Service
from vmr.retrieval.storage.conditions import source_names
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import IndexedFile, Video, VideoOrder
from vmr.retrieval.storage.snapshot import Snapshot

_OF_A_PAGE = {"k", "cursor"}
_MAX_DEPTH = 20  # of metadata
_KEYS: dict[VideoOrder, tuple[type, ...]] = {"path": (int, str), "duration": (float,), "date": (int,), "added": (int,)}


class _Roots:
    """The folders that were indexed. Clients see their names, and cursors hold numbers: neither says where they are."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._paths = snapshot.roots()
        self._numbers = {path: number for number, path in self._paths.items()}
        self._names = source_names(self._numbers)

    def key(self, file: IndexedFile) -> tuple[int, str]:
        """What a cursor says about a file."""
        return self._numbers[file.root], path_to_text(file.path)

    def root(self, number: int) -> str:
        """The path of a folder that a cursor names, as a text of the database."""
        if number not in self._paths:
            raise VmrError("cursor is of a folder that the index no longer holds: list again, without it")
        return path_to_text(self._paths[number])

    def names(self, file: IndexedFile) -> dict[str, str]:
        """What a client sees of a path."""
        path = printable(file.path)
        return {"folder": printable(self._names[file.root]), "path": path, "name": path.rpartition("/")[2]}


async def list_videos(service: Service, request: VideosRequest) -> VideoList:
    """List the videos of the index.

    Args:
        service: what serves it.
        request: which videos, and in which order.

    Raises:
        VmrError: the condition or the cursor is none.
    """
    fields, where = request.model_dump(exclude=_OF_A_PAGE), parsed(request.where)
    last = None if request.cursor is None else ListCursor.read(request.cursor, fields, *_KEYS[request.sort], int)

    def read(snapshot: Snapshot) -> VideoList:
        roots = _Roots(snapshot)
        after = None if last is None else _place(last, request.sort, roots)
        videos = snapshot.some_videos(
            request.k + 1, request.sort, is_descending=request.order == "descending", where=where, after=after
        )
        page = videos[: request.k]
        following = ListCursor((*_key(page[-1], request.sort, roots), page[-1].id)) if len(videos) > len(page) else None
        return VideoList(
            videos=[VideoSummary(**_summary(video, roots)) for video in page],
            total=snapshot.count_videos(where),
            next_cursor=None if following is None else following.text(fields),
        )

    return await service.index.read(read)


async def list_failures(service: Service, request: FailuresRequest) -> FailedList:
    """List the files that could not be read.

    Args:
        service: what serves the index.
        request: which page.

    Raises:
        VmrError: the cursor is none.
    """
    fields = {"failures": True}
    last = None if request.cursor is None else ListCursor.read(request.cursor, fields, int, str).key
    failures, roots = await service.index.read(lambda snapshot: (snapshot.failures(), _Roots(snapshot)))
    after = ("", "") if last is None else (roots.root(int(last[0])), str(last[1]))
    following = [each for each in failures if (path_to_text(each.root), path_to_text(each.path)) > after]
    page = following[: request.k]
    return FailedList(
        failures=[FailedVideo(**roots.names(each), reason=each.reason) for each in page],
        total=len(failures),
        next_cursor=ListCursor(roots.key(page[-1])).text(fields) if len(following) > len(page) else None,
    )


async def video_details(
    service: Service, video_id: int, query: str | int | NDArray[np.float32] | None = None
) -> VideoDetails:
    """Say what is known of a video.

    Args:
        service: what serves the index.
        video_id: number of the video.
        query: what its curve is about, as for `VideoIndex.search`; None for no curve.

    Raises:
        NotFound: the index holds no such video.
        VmrError: the query is none.
    """

    def read(snapshot: Snapshot) -> tuple[Video, _Roots, list[VideoText], bool]:
        video = snapshot.video(video_id) if 0 <= video_id <= LARGEST_ID else None
        if video is None:
            raise NotFound(
                f"the index holds no video {str(video_id)[:60]}: it was removed or has changed; search again"
            )
        _, is_there = snapshot.vectors(service.index.space_of(snapshot).id, np.array([video.first_window]))
        texts = [
            VideoText(start_s=t.start_s, end_s=t.end_s, kind=t.kind, text=t.text) for t in snapshot.texts(video_id)
        ]
        return video, _Roots(snapshot), texts, bool(is_there[0])

    video, roots, texts, has_vectors = await service.index.read(read)
    curve = None
    if query is not None and has_vectors:
        rows = await service.index.score_curve(video_id, query, with_match=True)
        curve = [
            CurvePoint(start_s, end_s, score, None if np.isnan(match) else match)
            for start_s, end_s, score, match in rows.tolist()
        ]
    return VideoDetails(
        **_summary(video, roots),
        remarks=_remarks(video),
        texts=texts,
        failure=await _failure(service, video),
        playback_url=f"{API}/videos/{video_id}/playback",
        curve=curve,
    )


async def _failure(service: Service, video: Video) -> str | None:
    """Why the file of a video cannot be shown; None if it can."""
    try:
        (await service.media.file(video)).close()
    except VmrError as error:
        return printable(str(error))
    return None


def _remarks(video: Video) -> list[VideoRemark]:
    return [VideoRemark(kind=remark.kind, text=printable(remark.text)) for remark in video.remarks]


def _summary(video: Video, roots: _Roots) -> dict[str, Any]:
    modified = datetime.fromtimestamp(video.state.mtime_ns / 1e9, timezone.utc)
    return {
        **roots.names(video),
        "video_id": video.id,
        "duration_s": video.duration_s,
        "width": video.width or None,
        "height": video.height or None,
        "size": video.state.size,
        "modified": modified.isoformat(timespec="seconds"),
        "num_moments": video.num_windows,
        "missing": not os.path.exists(video.file),  # noqa: PTH110, in Python 3.11 Path.exists may raise
        "metadata": _valid(video.metadata),
        "thumbnail_url": thumbnail_url(video, video.first_window + video.num_windows // 2),
        "media_url": f"{API}/videos/{video.id}/media",
        "video_url": f"{API}/videos/{video.id}",
    }


def _key(video: Video, by: VideoOrder, roots: _Roots) -> tuple[float | int | str, ...]:
    """What a video is ordered by, for a cursor."""
    if by == "path":
        return roots.key(video)
    return ({"duration": video.duration_s, "date": video.state.mtime_ns, "added": video.id}[by],)


def _place(cursor: ListCursor, by: VideoOrder, roots: _Roots) -> tuple[str | float | int, int]:
    """What a cursor says, for `Snapshot.some_videos`."""
    *key, number = cursor.key
    return f"{roots.root(int(key[0])).rstrip('/')}/{key[1]}" if by == "path" else key[0], int(number)


def _valid(value: Any, depth: int = 0) -> Any:
    """Metadata as any client can read it: a JSON text may name characters that do not exist, and nest without end."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if depth == _MAX_DEPTH and isinstance(value, dict | list):
        return _valid(json.dumps(value))
    if isinstance(value, dict):
        return {_valid(key): _valid(each, depth + 1) for key, each in value.items()}
    return [_valid(each, depth + 1) for each in value] if isinstance(value, list) else value
