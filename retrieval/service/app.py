"""The service put together: routes, what they share, and what stands before them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.routes import search, status
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.service.service import Service
from vmr.version import __version__

API = "/api/v1"


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
        app.state.service = Service(options, index)
        await index.warm()
        yield
        index.close()

    app = FastAPI(title="vmr", version=__version__, lifespan=running)
    for routes in (search, status):
        app.include_router(routes.router, prefix=API)
    return app
