"""The tools of an assistant: what they take, what they return, and how they say what is wrong."""

import base64
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp import types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.schemas import Id, Page, SearchRequest, VideosRequest
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.service import Service
from vmr.retrieval.service.videos import list_videos, video_details
from vmr.retrieval.storage.records import Video, Window
from vmr.retrieval.storage.snapshot import Snapshot

_ADDRESSES = {"thumbnail_url", "media_url", "video_url", "playback_url"}  # of a service that does not run
_MAX_TEXTS = 50
_PICTURE_WIDTH = 640  # pixels

_log = logging.getLogger(__name__)

Content = list[types.TextContent | types.ImageContent]


class SearchVideos(SearchRequest):
    """Find moments of videos that show what a sentence says (or whose texts say it), or that look like another moment.

    Give either `query` or `like`. `strength` says how well a moment matches; `nothing_close: true` says that probably
    none does. Describe what is to be seen, as a caption would: "a dog runs on a beach", not "find my dog videos".
    """

    k: Page = Field(8, description="how many moments at most")


class GetMoment(BaseModel):
    """Look at a moment: its picture, its file, the texts in it, and what is known of its video.

    `start_s` and `end_s` are those of the window that fits best; the moment of a hit may reach further.
    """

    model_config = ConfigDict(extra="forbid")

    moment_id: Id = Field(description="`moment_id` of a hit of search_videos")


class ListVideos(VideosRequest):
    """List the videos of the index, page by page, all or those that a condition selects; `total` counts all of them."""


class MomentDetails(BaseModel):
    """What get_moment says beside the picture."""

    moment_id: int
    start_s: float
    end_s: float
    file: str
    video: dict[str, Any]
    texts: list[dict[str, Any]]
    remarks: list[str]


Call = Callable[[Service, Any], Awaitable[tuple[dict[str, Any], Content]]]
"""Calls a tool: returns what it found, and pictures."""


@dataclass(frozen=True)
class Tool:
    """A tool of an assistant.

    Attributes:
        title: a few words for people.
        arguments: what it takes; its docstring describes the tool.
        call: what it does.
    """

    title: str
    arguments: type[BaseModel]
    call: Call


async def _search(service: Service, asked: SearchVideos) -> tuple[dict[str, Any], Content]:
    found = await answer(service, asked)
    return found.model_dump(exclude={"hits": {"__all__": _ADDRESSES}, "took_ms": True, "index": True}), []


async def _list(service: Service, asked: ListVideos) -> tuple[dict[str, Any], Content]:
    found = await list_videos(service, asked)
    return found.model_dump(exclude={"videos": {"__all__": _ADDRESSES}}), []


async def _get_moment(service: Service, asked: GetMoment) -> tuple[dict[str, Any], Content]:
    def read(snapshot: Snapshot) -> tuple[Video | None, Window | None]:
        return snapshot.video_of_window(asked.moment_id), snapshot.hits([asked.moment_id]).get(asked.moment_id)

    video, window = await service.index.read(read)
    if video is None or window is None:
        raise NotFound(f"moment_id: the index holds no moment {asked.moment_id}: search again")
    known = await video_details(service, video.id)
    inside = [text for text in known.texts if _overlap(text.start_s, text.end_s, window)]
    remarks = [remark.text for remark in known.remarks]
    if len(inside) > _MAX_TEXTS:
        remarks.append(f"{len(inside) - _MAX_TEXTS} more texts are left out")
    pictures: Content = []
    try:
        jpeg = await service.media.thumbnail(video, window.start_s, window.end_s, _PICTURE_WIDTH)
        pictures.append(types.ImageContent(type="image", data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg"))
    except VmrError as error:
        remarks.append(f"there is no picture: {error}")
    details = MomentDetails(
        moment_id=window.id,
        start_s=window.start_s,
        end_s=window.end_s,
        file=printable(video.file),
        video=known.model_dump(exclude={*_ADDRESSES, "texts", "remarks", "curve"}),
        texts=[text.model_dump() for text in inside[:_MAX_TEXTS]],
        remarks=[printable(remark) for remark in remarks],
    )
    return details.model_dump(), pictures


def _overlap(start_s: float | None, end_s: float | None, window: Window) -> bool:
    return start_s is None or (start_s < window.end_s and (end_s is None or end_s > window.start_s))


TOOLS = {
    "search_videos": Tool("Search videos", SearchVideos, _search),
    "get_moment": Tool("Look at a moment", GetMoment, _get_moment),
    "list_videos": Tool("List videos", ListVideos, _list),
}


def described(name: str, tool: Tool) -> types.Tool:
    """Describe a tool to an assistant."""
    schema = tool.arguments.model_json_schema()
    about = " ".join(schema.pop("description").split())
    hints = types.ToolAnnotations(title=tool.title, read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    return types.Tool(name=name, title=tool.title, description=about, input_schema=schema, annotations=hints)


async def called(service: Service, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    """Call a tool.

    Args:
        service: what searches.
        name: of the tool.
        arguments: as the assistant gave them.

    Returns:
        What it found, as JSON and as a text, with pictures; or what is wrong, in one line.
    """
    try:
        if name not in TOOLS:
            raise VmrError(f"there is no tool {name!r:.60}: there are {', '.join(TOOLS)}")
        tool = TOOLS[name]
        found, pictures = await tool.call(service, tool.arguments.model_validate(arguments))
    except ValidationError as error:
        first = error.errors()[0]
        return _refused(f"{'.'.join(map(str, first['loc'])) or name}: {first['msg'].removeprefix('Value error, ')}")
    except VmrError as error:
        return _refused(str(error))
    except Exception:
        _log.exception("%s failed", name)
        return _refused("the search failed: the log of vmr-serve says why")
    text = types.TextContent(type="text", text=json.dumps(found, ensure_ascii=False))
    return types.CallToolResult(content=[text, *pictures], structured_content=found)


def _refused(reason: str) -> types.CallToolResult:
    text = types.TextContent(type="text", text=printable(" ".join(reason.split())))
    return types.CallToolResult(content=[text], is_error=True)
