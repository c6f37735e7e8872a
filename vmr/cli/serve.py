"""`vmr-serve`: an index as an HTTP API and a page on which people search and watch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmr.checks import require_extra
from vmr.cli.common import refuse, run

Names = list[str] | str | None
"""One name, or a list of them."""


@dataclass(frozen=True)
class AddressOptions:
    """Where an index is served, to whom, and what they may do.

    Attributes:
        host: address to listen on; any but one of this machine alone needs a token
        port: port to listen on; 0 for a free one
        token: what clients must show; better set as VMR_TOKEN, because other users of the machine see command lines
        allowed_host: name under which clients reach the service, such as that of a proxy, or a list: '[a, b]'
        cors: origin whose web pages may call the API, or a list of origins
        allow_indexing: folder of which clients may add videos to the index, or a list of folders
        upload_dir: folder for videos that clients upload
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    allowed_host: Names = None
    cors: Names = None
    allow_indexing: Names = None
    upload_dir: str | None = None


def serve(index: str, encoder: str | None = None, mcp: bool = False, *, address: AddressOptions) -> None:
    """Serve an index until Ctrl-C: a page for people, an API for programs.

    Args:
        index: folder of the index
        encoder: model for queries; default, the one of the index
        mcp: serve tools to the assistant that starts this command, over its standard input and output (MCP), and
            nothing at an address
        address: where it is served, and to whom
    """
    require_extra("serve", "fastapi", "jinja2", "prometheus_client", "pydantic", "uvicorn")
    from vmr.retrieval.service.options import ServiceOptions

    if mcp:
        refuse(address, "is of no use with --mcp, which serves nothing at an address")
        require_extra("serve", "mcp")
        from vmr.retrieval.service.assistant.server import serve_mcp

        serve_mcp(ServiceOptions(Path(index), encoder))
        return
    token = os.environ.pop("VMR_TOKEN", None) or None  # processes that read hostile files have no use for it
    options = ServiceOptions(
        Path(index),
        encoder,
        address.host,
        address.port,
        address.token if address.token is not None else token,
        tuple(_listed(address.allowed_host)),
        tuple(_listed(address.cors)),
        tuple(Path(folder) for folder in _listed(address.allow_indexing)),
        None if address.upload_dir is None else Path(address.upload_dir),
    )
    from vmr.retrieval.service.server import serve_until_stopped

    serve_until_stopped(options, lambda address: print(f"vmr-serve: {address}", flush=True))


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else names or []


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-serve", serve, ["index"], "vmr-serve index", argv)
