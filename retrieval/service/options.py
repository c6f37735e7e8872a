"""How an index is served, and within which limits."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from vmr.errors import VmrError

API = "/api/v1"
"""Where the API stands."""

DEFAULT_PORT = 8765

_MIN_TOKEN = 8  # characters
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True)
class Limits:
    """Limits of what a request may ask for.

    Attributes:
        query_chars: characters of a sentence.
        where_chars: characters of a condition.
        results: moments on one page of results.
        depth: moments on all pages of one search.
        cursor_chars: characters of a cursor, which grows with the number of moments that were shown.
        upload_bytes: bytes of an upload.
        video_bytes: bytes of a video that is uploaded for the index.
        upload_pixels: pixels of a picture, or of a frame, of an upload.
        upload_s: seconds of a clip that is searched by.
        clip_s: seconds of a clip that is cut.
        decode_s: seconds that a process may decode for one request.
        cache_bytes: bytes of pictures and videos that are kept.
        body_bytes: bytes of a body, besides the files that are uploaded in it.
        target_bytes: bytes of a path and its query.
        headers: number of the headers of a request.
        header_bytes: bytes of these.
        answer_s: seconds until an answer begins.
        connections: connections at a time.
        header_s: seconds in which the first line and the headers of a request arrive.
        body_s: seconds in which a body arrives, besides those that it needs at `body_rate`.
        body_rate: bytes of a body in a second.
        stalled_s: seconds in which a client takes some of an answer.
    """

    query_chars: int = 1000
    where_chars: int = 10_000
    results: int = 100
    depth: int = 1000
    cursor_chars: int = 8192
    upload_bytes: int = 64 * 2**20
    video_bytes: int = 8 * 2**30
    upload_pixels: int = 50_000_000
    upload_s: float = 120.0
    clip_s: float = 600.0
    decode_s: float = 30.0
    cache_bytes: int = 2 * 2**30
    body_bytes: int = 4 * 2**20
    target_bytes: int = 32 * 2**10
    headers: int = 100
    header_bytes: int = 16 * 2**10
    answer_s: float = 120.0
    connections: int = 512
    header_s: float = 10.0
    body_s: float = 20.0
    body_rate: int = 4096
    stalled_s: float = 300.0


@dataclass(frozen=True)
class ServiceOptions:
    """How an index is served.

    Attributes:
        index: folder of the index.
        encoder: name or path of the model for queries; None for that of the index.
        host: address to listen on; any but a loopback address needs a token.
        port: port to listen on; 0 for a free one.
        token: what a client must show; None for no check.
        allowed_hosts: names under which clients may reach the service, besides `host` and the loopback names.
        cors: origins whose pages may call the API.
        allow_indexing: folders from which jobs may add videos; empty if there are no jobs.
        upload_folder: where uploaded videos are put; None if they are refused.
        cache: folder for pictures and videos that are made.
        limits: limits of a request.

    Raises:
        VmrError: an option is out of range, or the address can be reached from elsewhere and there is no token.
    """

    index: Path
    encoder: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    allow_indexing: tuple[Path, ...] = ()
    upload_folder: Path | None = None
    cache: Path | None = None
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise VmrError(f"--port {self.port}: a port is a number from 0 to 65535")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise VmrError("--token may hold letters, digits and signs of ASCII, and no space")
        if self.token is not None and len(self.token) < _MIN_TOKEN:
            raise VmrError(
                f"--token has {len(self.token)} characters: make it {_MIN_TOKEN} or more, which nobody guesses"
            )
        if self.token is None and not is_loopback(self.host):
            raise VmrError(f"--host {self.host} can be reached from other machines: add --token, or set VMR_TOKEN")
        for name in self.allowed_hosts:
            if not _HOST.fullmatch(name):
                raise VmrError(f"--allowed-host {name}: give a name or an address, without http:// and without a port")
        for origin in self.cors:
            if not _ORIGIN.fullmatch(origin):
                raise VmrError(f"--cors {origin}: give an origin, such as https://videos.example.org")
        for folder in self.allow_indexing:
            if not folder.is_dir():
                raise VmrError(f"--allow-indexing {folder}: no such folder")


def is_loopback(host: str) -> bool:
    """Return whether an address, or a name, is reached from this machine alone.

    Args:
        host: as `--host` takes it; a name other than localhost may be any machine's.
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
