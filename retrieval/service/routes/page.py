"""`/`: the page on which people search and watch, and the files that it is made of."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse

from vmr.errors import VmrError
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.guard.problem import shown
from vmr.retrieval.service.guard.requests import takes_up_to
from vmr.retrieval.service.pages.player import Player, span_within
from vmr.retrieval.service.pages.query import LENGTH, PageQuery
from vmr.retrieval.service.pages.rendering import render, static_files, static_version
from vmr.retrieval.service.pages.vectors import vector_of_text, vector_to_text
from vmr.retrieval.service.problems import status_of
from vmr.retrieval.service.routes.connected import while_connected
from vmr.retrieval.service.schemas import SearchRequest, SearchResponse, VideoList, VideosRequest
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.service import Service, Shared
from vmr.retrieval.service.videos import list_videos, video_details

RESULTS = 24  # on a page: rows of 2, 3, 4, 6 and 8 are full
FOR_GOOD = "public, max-age=31536000, immutable"
_TITLES = {404: "This is not in the index", 503: "The index cannot be searched now", 504: "This took too long"}


def _asked(request: Request) -> tuple[PageQuery, str | None]:
    return PageQuery.of(request.query_params)


Asked = Annotated[tuple[PageQuery, str | None], Depends(_asked)]
"""What the address says, and what is wrong with it: the page says that, not the framework."""
T = TypeVar("T")

router = APIRouter(tags=["page"])


class Trouble(NamedTuple):
    """Why something cannot be shown, and the status of HTTP that says so."""

    title: str
    detail: str
    code: int


class Results(NamedTuple):
    """What stands below the search box: moments, or videos while nothing is looked for."""

    status: str
    answer: SearchResponse | None = None
    videos: VideoList | None = None


@router.get("/")
async def page(request: Request, service: Shared, asked: Asked) -> Response:
    """Search and watch, in a browser."""
    return await while_connected(request, _asked_page(service, *asked))


async def _asked_page(service: Service, ask: PageQuery, wrong: str | None) -> Response:
    refused = Trouble("That cannot be searched", wrong, 422) if wrong else None
    if ask.part == "player":
        player, trouble = (None, refused) if refused else await _tried(_player, service, ask)
        return _page("player.html.j2", trouble, ask=ask, player=player)
    results, trouble = (None, refused) if refused else await _tried(_results, service, ask)
    return await _whole_page(service, ask, results or Results(""), trouble)


@router.post("/")
@takes_up_to("upload_bytes")
async def search_by_file(service: Shared, request: Request, asked: Asked) -> Response:
    """Take a picture or a clip, and go to the address of the search by it."""

    async def address(service: Service, ask: PageQuery) -> str:
        async with service.uploads.received(request) as form:
            file = form.file
            vector, _ = await service.uploads.vector_of(file)
            by = vector_to_text(vector, await service.index.space())
            return ask.filters_only(by=by, file=file.name, part=ask.part)

    ask, _ = asked
    where, trouble = await _tried(address, service, ask)
    return await _whole_page(service, ask, Results(""), trouble) if where is None else RedirectResponse(where, 303)


async def _whole_page(service: Service, ask: PageQuery, results: Results, trouble: Trouble | None) -> Response:
    facts = await service.index.read(service.facts.of)
    values: dict[str, Any] = {**results._asdict(), "ask": ask, "about": facts}
    if ask.part == "results":
        return _page("results.html.j2", trouble, **values)
    player, player_trouble = await _tried(_player, service, ask) if ask.watch else (None, None)
    return _page(
        "page.html.j2",
        trouble,
        **values,
        title=f"{ask.q} \N{EN DASH} vmr" if ask.q else "vmr",
        player=player,
        player_trouble=player_trouble,
        length_pattern=LENGTH,
        query_chars=service.options.limits.query_chars,
    )


@router.get("/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    """Send a file of the page. Its address changes when any of them does, so browsers may keep it."""
    file = static_files().get(name)
    if file is None:
        raise NotFound(f"{shown(name)}: the page has no such file")
    keep = FOR_GOOD if version == static_version() else "no-store"
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": keep})


async def _results(service: Service, ask: PageQuery) -> Results:
    """Search, or list videos while nothing is looked for."""
    where = ask.condition()
    if not (ask.q or ask.like or ask.by):
        wanted = VideosRequest(where=where, sort="added", order="descending", k=RESULTS, cursor=ask.cursor or None)
        return Results("", videos=await list_videos(service, wanted))
    request = SearchRequest(
        query=ask.q or None,
        like=ask.number("like"),
        where=where,
        k=RESULTS,
        sources=ask.sources(),
        cursor=ask.cursor or None,
    )
    vector = vector_of_text(ask.by, await service.index.space()) if ask.by else None
    found = await answer(service, request, vector, f"like {ask.file or 'your file'}" if ask.by else None)
    count, query = len(found.hits), f"for “{found.query}”" if ask.q else found.query
    moments = f"The {count} best moments" if found.next_cursor else "1 moment" if count == 1 else f"{count} moments"
    return Results(f"{moments} {query}", found)


async def _player(service: Service, ask: PageQuery) -> Player:
    """Find out what the player shows."""
    video_id, span = ask.number("watch"), ask.moment_s()
    if video_id is None:
        raise VmrError("watch: the number of a video is missing")
    query: str | int | Any = ask.q or ask.number("like")
    if ask.by:
        query = vector_of_text(ask.by, await service.index.space())
    details = await video_details(service, video_id, query)
    start_s, end_s = span_within(span or (0.0, 0.0), details.duration_s)
    playback, trouble = None, None
    video = await service.index.read(lambda snapshot: snapshot.video(video_id))
    if video is not None and not details.missing:
        try:
            playback = await service.media.playback(video, start_s)
        except (VmrError, TimeoutError) as error:
            trouble = str(error)
    return Player(details, playback, trouble, ask.number("moment"), start_s, end_s)


async def _tried(
    make: Callable[[Service, PageQuery], Awaitable[T]], service: Service, ask: PageQuery
) -> tuple[T | None, Trouble | None]:
    """Make a part of the page, or say why that is not possible."""
    try:
        return await make(service, ask), None
    except HTTPException as error:
        code, detail = error.status_code, str(error.detail)
    except (VmrError, TimeoutError) as error:
        code, detail = status_of(error), str(error) or "try again, or ask for less"
    return None, Trouble(_TITLES.get(code, "That cannot be searched"), detail, code)


def _page(template: str, trouble: Trouble | None, **values: Any) -> HTMLResponse:
    return HTMLResponse(render(template, **values, trouble=trouble), 200 if trouble is None else trouble.code)
