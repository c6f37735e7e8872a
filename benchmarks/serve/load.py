"""Clients of one process over kept connections: each sends its next request when it has the last answer, or later."""

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

Requests = Callable[[], bytes | None]
"""Makes the next request; None if there are no more."""

Answered = tuple[float, float, int, int]
"""When a request was sent, in seconds of the monotonic clock, how long it took, its status, and bytes of its answer."""

_READ_BYTES = 1 << 18


@dataclass
class Client:
    """One connection that is kept.

    Attributes:
        address: host and port.
        next_request: makes its requests.
        every_s: seconds from one request to the next at least.
    """

    address: tuple[str, int]
    next_request: Requests
    every_s: float = 0.0
    link: socket.socket | None = None
    sent_s: float = 0.0
    due_s: float = 0.0
    _head: bytes = b""
    _left: int = -1  # bytes of the body that are to come; -1 while the head comes
    _status: int = 0
    _length: int = 0
    _body: list[bytes] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """Open the connection."""
        self.link = socket.create_connection(self.address, timeout=30)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.link

    def send(self) -> bool:
        """Send the next request; False if there is none."""
        request = self.next_request()
        if request is None:
            return False
        assert self.link is not None
        self.sent_s = time.monotonic()
        self.due_s = self.sent_s + self.every_s
        self._head, self._left, self._body = b"", -1, []
        self.link.sendall(request)
        return True

    def receive(self) -> Answered | None:
        """Take what has come; return the answer when it is whole.

        Raises:
            ConnectionError: the other side has closed the connection.
        """
        assert self.link is not None
        piece = self.link.recv(_READ_BYTES)
        if not piece:
            raise ConnectionError("closed by the server")
        if self._left < 0:
            self._head += piece
            head, found, piece = self._head.partition(b"\r\n\r\n")
            if not found:
                return None
            self._status = int(head[9:12])
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self._length = self._left = int(lengths[0][15:]) if lengths else 0
        self._left -= len(piece)
        self._body.append(piece)
        if self._left > 0:
            return None
        return self.sent_s, time.monotonic() - self.sent_s, self._status, self._length

    @property
    def body(self) -> bytes:
        """The body of the last answer."""
        return b"".join(self._body)


def run_clients(
    clients: list[Client], until_s: float, check: Callable[[bytes], str | None] | None = None, check_every: int = 50
) -> tuple[list[Answered], list[str]]:
    """Let clients send their requests.

    Args:
        clients: none is connected yet.
        until_s: when to stop, in seconds of the monotonic clock; answers that are under way are waited for.
        check: says what is wrong with the body of an answer; None for nothing.
        check_every: how many answers to look into: one in so many.

    Returns:
        What was answered, and what went wrong.
    """
    answered: list[Answered] = []
    errors: list[str] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.connect(), selectors.EVENT_READ, client)
        waiting = dict.fromkeys(range(len(clients)))  # those that send later
        busy = 0
        while True:
            now = time.monotonic()
            for number in [number for number in waiting if clients[number].due_s <= now]:
                if now < until_s and clients[number].send():
                    busy += 1
                    del waiting[number]
            if not busy and now >= until_s:
                return answered, errors
            for key, _ in selector.select(timeout=0.02):
                client = key.data
                try:
                    answer = client.receive()
                except OSError as error:
                    errors.append(f"{type(error).__name__}: {error}")
                    selector.unregister(key.fileobj)
                    client.link.close()
                    selector.register(client.connect(), selectors.EVENT_READ, client)
                    answer = (client.sent_s, time.monotonic() - client.sent_s, 0, 0)
                if answer is None:
                    continue
                answered.append(answer)
                busy -= 1
                if answer[2] not in (200, 206):
                    errors.append(f"{answer[2]}: {client.body[:200].decode(errors='replace')}")
                elif check is not None and len(answered) % check_every == 0 and (wrong := check(client.body)):
                    errors.append(wrong)
                if client.every_s == 0 and time.monotonic() < until_s and client.send():
                    busy += 1
                else:
                    waiting[clients.index(client)] = None


def post(address: str, path: str, body: dict[str, object]) -> bytes:
    """Make a request that sends JSON."""
    content = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def get(address: str, path: str, first: int, count: int) -> bytes:
    """Make a request for some bytes."""
    host = urlsplit(address).netloc
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{first + count - 1}\r\n\r\n".encode()


def host_and_port(address: str) -> tuple[str, int]:
    """Take an address apart."""
    parts = urlsplit(address)
    return str(parts.hostname), int(parts.port or 80)


def check_hits(body: bytes) -> str | None:
    """Say what is wrong with an answer to a search."""
    answer = json.loads(body)
    scores = [hit["score"] for hit in answer["hits"]]
    if not scores:
        return "an answer without hits"
    return None if scores == sorted(scores, reverse=True) else f"hits in a wrong order: {scores}"


def search(
    results: Connection, address: str, kind: str, values: Iterator[str | int], num_clients: int, until_s: float
) -> None:
    """Search in a process of its own, and send what `run_clients` returns.

    Args:
        results: where to.
        address: of the service.
        kind: "query" or "like".
        values: sentences, or numbers of moments; all clients take from the same ones.
        num_clients: connections.
        until_s: see `run_clients`.
    """

    def next_request() -> bytes | None:
        value = next(values, None)
        return None if value is None else post(address, "/api/v1/search", {kind: value})

    clients = [Client(host_and_port(address), next_request) for _ in range(num_clients)]
    results.send(run_clients(clients, until_s, check_hits))


def play(results: Connection, address: str, files: dict[int, int], until_s: float, range_bytes: int) -> None:
    """Play videos in a process of its own: each player asks for the next bytes of its file every second.

    Args:
        results: see `search`.
        address: of the service.
        files: number of a video -> bytes of its file.
        until_s: see `run_clients`.
        range_bytes: bytes that a player asks for.
    """

    def player(video_id: int, size: int) -> Requests:
        place = 0

        def next_request() -> bytes:
            nonlocal place
            first = place if place + range_bytes <= size else 0
            place = first + range_bytes
            return get(address, f"/api/v1/videos/{video_id}/media", first, range_bytes)

        return next_request

    target = host_and_port(address)
    clients = [Client(target, player(video_id, size), every_s=1.0) for video_id, size in files.items()]
    for number, client in enumerate(clients):
        client.due_s = time.monotonic() + number / len(clients)
    results.send(run_clients(clients, until_s))
