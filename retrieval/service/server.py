"""The service at an address: from a socket to a clean end."""

import asyncio
import gc
import os
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from vmr.errors import VmrError
from vmr.retrieval.service.app import create_app
from vmr.retrieval.service.guard.connections import connections_within
from vmr.retrieval.service.options import ServiceOptions
from vmr.signals import StopSignals

_LAST_S = 2  # for answers that are being sent when the service is to end


def serve_until_stopped(options: ServiceOptions, say: Callable[[str], None]) -> None:
    """Serve an index until Ctrl-C or SIGTERM.

    Args:
        options: how it is served.
        say: is told the address of the page when it can be opened.

    Raises:
        VmrError: the index cannot be served, or the address cannot be listened on.
    """
    with listening_at(options.host, options.port) as listening:
        asyncio.run(_serve(create_app(options), listening, options, say))


def listening_at(host: str, port: int) -> socket.socket:
    """Take a port; connections to it wait until they are served.

    Args:
        host: name or address.
        port: port; 0 for a free one.

    Raises:
        VmrError: there is no such address, or another program listens there.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror  # that of a name
        raise VmrError(f"--host {host} --port {port}: {reason}: choose another") from None


async def _serve(app: FastAPI, listening: socket.socket, options: ServiceOptions, say: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        app,
        http=connections_within(options.limits),
        ws="none",
        lifespan="off",  # entered here, so that what fails in it is one line
        h11_max_incomplete_event_size=options.limits.target_bytes + options.limits.header_bytes,
        log_config=None,
        log_level="critical",  # what fails in a request is logged by the application
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_S,
    )
    async with app.router.lifespan_context(app):
        gc.freeze()  # what is loaded stays: to look for garbage in it stops the service for 0.1 s
        name = f"[{options.host}]" if ":" in options.host else options.host
        say(f"http://{name}:{listening.getsockname()[1]}/")
        with StopSignals():  # the server raises the signal that ended it once more, and all has yet to be closed
            await uvicorn.Server(config).serve([listening])
