"""The service put together: routes, what they share, and what stands before them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from vmr.cpus import num_cpus
from vmr.files import cache_folder
from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.routes import media as media_routes
from vmr.retrieval.service.routes import status
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.service.service import Service
from vmr.version import __version__

API = "/api/v1"
MAX_PROCESSES = 4


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
        media = Media(options.cache or cache_folder() / "serve", options.limits, processes)
        app.state.service = Service(options, index, processes, media)
        await index.warm()
        yield
        media.close()
        processes.close()
        index.close()

    app = FastAPI(title="vmr", version=__version__, lifespan=running)
    for routes in (status, media_routes):
        app.include_router(routes.router, prefix=API)
    return app
