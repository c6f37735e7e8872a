"""`vmr-serve`: an index as an HTTP API and a page on which people search and watch."""

from collections.abc import Sequence
from pathlib import Path

from vmr.checks import require_extra
from vmr.cli.common import run


def serve(index: str, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve an index: a page for people, an API for programs.

    Args:
        index: folder of the index
        host: address to listen on
        port: port to listen on
    """
    require_extra("serve", "fastapi", "uvicorn")
    import uvicorn

    from vmr.retrieval.service.app import create_app
    from vmr.retrieval.service.options import ServiceOptions

    app = create_app(ServiceOptions(Path(index), host=host, port=port))
    config = uvicorn.Config(app, host=host, port=port, log_level="warning")
    listening = config.bind_socket()
    print(f"vmr-serve: http://{host}:{listening.getsockname()[1]}/", flush=True)
    uvicorn.Server(config).run([listening])


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-serve", serve, ["index"], "vmr-serve index", argv)
