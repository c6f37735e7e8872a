"""The service put together: routes, what they share, and what stands before them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from vmr.cpus import num_cpus
from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.problems import DOCUMENTED, answer_errors
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.routes import embeddings, search, status, videos
from vmr.retrieval.service.schemas import API
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.service.service import Service
from vmr.retrieval.service.uploads.uploads import Uploads
from vmr.version import __version__

MAX_PROCESSES = 4

API_ROUTES = (
    embeddings,
    search,
    status,
    videos,
)  # fmt: skip
"""The modules whose `router` stands below API."""

PAGE_ROUTES = ()
"""The modules whose `router` stands at the root: pages for people, which the description of the API leaves out."""


def create_app(options: ServiceOptions) -> FastAPI:
    """Make the ASGI application that serves an index.

    Args:
        options: how it is served.

    Raises:
        IndexFileError: the index cannot be opened.
    """
    index = ServedIndex(options.index, options.encoder)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        processes = Processes(min(num_cpus(), MAX_PROCESSES), options.limits.decode_s)
        app.state.service = Service(options, index, processes, Uploads(index, processes, options.limits))
        await index.warm()
        try:
            yield
        finally:
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
    )
    for routes in API_ROUTES:
        app.include_router(routes.router, prefix=API)
    for pages in PAGE_ROUTES:
        app.include_router(pages.router, include_in_schema=False)
    answer_errors(app)
    return app
