"""`/`: the page on which people search and watch, and the files that it is made of."""

from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError
from starlette.responses import HTMLResponse

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.service.pages.facts import Facts
from vmr.retrieval.service.pages.player import Player, Trouble
from vmr.retrieval.service.pages.query import LENGTH, PageQuery
from vmr.retrieval.service.pages.rendering import render, static_files, static_version
from vmr.retrieval.service.pages.vectors import vector_of_text
from vmr.retrieval.service.problems import status_of
from vmr.retrieval.service.schemas import SearchRequest, SearchResponse, VideoList
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.service import Service, Shared
from vmr.retrieval.service.videos import list_videos, video_details
from vmr.retrieval.storage.snapshot import Snapshot

RESULTS = 24  # on a page: rows of 2, 3, 4, 6 and 8 are full
FOR_GOOD = "public, max-age=31536000, immutable"

Asked = Annotated[PageQuery, Query()]

router = APIRouter(tags=["page"])


class _Shown(NamedTuple):
    """What stands in place of the results: hits, videos, or why there are none."""

    status: str
    answer: SearchResponse | None = None
    videos: VideoList | None = None
    problem: Trouble | None = None
    code: int = 200


@router.get("/")
async def page(service: Shared, ask: Asked) -> Response:
    """Search and watch, in a browser."""
    facts = await service.index.read(service.facts.of)
    if ask.part == "player":
        player, code = await _player(service, ask)
        return HTMLResponse(render("player.html.j2", ask=ask, player=player), code)
    shown = await _shown(service, ask, facts)
    values: dict[str, Any] = {**shown._asdict(), "ask": ask, "about": facts}
    if ask.part == "results":
        return HTMLResponse(render("results.html.j2", **values), shown.code)
    return HTMLResponse(
        render(
            "page.html.j2",
            **values,
            title=f"{ask.q} – vmr" if ask.q else "vmr",
            player=(await _player(service, ask))[0] if ask.watch else None,
            length_pattern=LENGTH,
            query_chars=service.options.limits.query_chars,
        ),
        shown.code,
    )


@router.get("/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    """Send a file of the page. Its address changes when any of them does, so it may be kept."""
    file = static_files().get(name)
    if file is None:
        raise NotFound(f"the page has no file {shown(name)}")
    keep = FOR_GOOD if version == static_version() else "no-store"
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": keep})
