"""The service put together: routes, what they share, and what stands before them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.sse import EventSourceResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path

from vmr.cpus import num_cpus
from vmr.errors import IndexFileError
from vmr.files import cache_folder
from vmr.retrieval.service.guard.headers import SecurityHeaders
from vmr.retrieval.service.guard.hosts import HostCheck
from vmr.retrieval.service.guard.requests import Bodies, RequestLimits
from vmr.retrieval.service.guard.sites import SiteCheck
from vmr.retrieval.service.guard.tokens import Token, TokenCheck
from vmr.retrieval.service.jobs.jobs import jobs_of
from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.metrics import Counted, Metrics
from vmr.retrieval.service.options import API, Limits, ServiceOptions
from vmr.retrieval.service.problems import DOCUMENTED, LastResort, answer_errors
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.routes import docs, embeddings, jobs, login, media, page, search, status, videos
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.service.service import Service
from vmr.retrieval.service.uploads.uploads import Uploads
from vmr.version import __version__

MAX_PROCESSES = 4

API_ROUTES = (
    embeddings,
    jobs,
    media,
    search,
    status,
    videos,
)  # fmt: skip
"""The modules whose `router` stands below API."""

PAGE_ROUTES = (docs, login, page)
"""The modules whose `router` stands at the root: pages for people, which the description of the API leaves out."""


def create_app(options: ServiceOptions) -> FastAPI:
    """Make the ASGI application that serves an index.

    Args:
        options: how it is served.

    Raises:
        IndexFileError: the index cannot be opened.
    """
    index, job_list = ServedIndex(options.index, options.encoder), jobs_of(options)
    metrics = Metrics(lambda: index.load)
    token = None if options.token is None else Token(options.token)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        processes = Processes(min(num_cpus(), MAX_PROCESSES), options.limits.decode_s)
        made = Media(options.cache or cache_folder() / "serve", options.limits, processes)
        uploads = Uploads(index, processes, options.limits)
        app.state.service = Service(options, index, processes, made, uploads, metrics, token, job_list)
        try:
            if job_list is None and (await index.info()).num_windows == 0:
                raise IndexFileError(f"{options.index}: holds no videos: add some with vmr-index add")
            await index.warm()
            if job_list is not None:
                job_list.start()
            yield
        finally:
            if job_list is not None:
                await job_list.close()
            made.close()
            processes.close()
            index.close()

    app = FastAPI(
        title="vmr",
        version=__version__,
        lifespan=running,
        docs_url=None,  # its page takes scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        responses=DOCUMENTED,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if options.token else [],  # to document what guards check
        middleware=_guards(options, metrics, token),
    )
    for routes in API_ROUTES:
        app.include_router(routes.router, prefix=API)
    for pages in PAGE_ROUTES:
        app.include_router(pages.router, include_in_schema=False)
    _answer_heads(app)
    answer_errors(app)
    return app


def _routes() -> Iterator[tuple[str, APIRoute]]:
    """All routes, each with its whole path."""
    for prefix, modules in ((API, API_ROUTES), ("", PAGE_ROUTES)):
        for route in (route for module in modules for route in module.router.routes):
            if isinstance(route, APIRoute):
                yield prefix + route.path, route


def _answer_heads(app: FastAPI) -> None:
    """Answer HEAD wherever GET has an end, as HTTP wants it; the server leaves the body out."""
    for path, route in _routes():
        if "GET" in (route.methods or ()) and route.response_class is not EventSourceResponse:
            kind = route.response_class
            app.add_api_route(path, route.endpoint, methods=["HEAD"], response_class=kind, include_in_schema=False)


def _guards(options: ServiceOptions, metrics: Metrics, token: Token | None) -> list[Middleware]:
    """What stands before the routes, the first of it first."""
    guards = [
        Middleware(SecurityHeaders),
        Middleware(Counted, metrics=metrics),
        Middleware(LastResort),
        Middleware(RequestLimits, limits=options.limits, bodies=_bodies(options.limits)),
        Middleware(HostCheck, options=options),
        Middleware(SiteCheck, options=options),
    ]
    if options.cors:  # before the token, which browsers do not send when they ask whether they may
        methods, headers = ["GET", "HEAD", "POST", "DELETE"], ["Authorization", "Content-Type", "Range"]
        guards.append(
            Middleware(CORSMiddleware, allow_origins=options.cors, allow_methods=methods, allow_headers=headers)
        )
    if token is not None:
        guards.append(Middleware(TokenCheck, token=token))
    return guards


def _bodies(limits: Limits) -> Bodies:
    """The paths whose routes take a larger body, see `takes_up_to`."""
    found = []
    for path, route in _routes():
        limit = getattr(route.endpoint, "body_limit", None)
        if limit is not None:
            found.append((compile_path(path)[0], getattr(limits, limit)))
    return found
