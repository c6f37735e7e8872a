"""Connections that are slow, or many: real sockets, and a real server with short times."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from tests.patience import PATIENCE_S
from vmr.retrieval.service.guard.connections import connections_within
from vmr.retrieval.service.options import Limits
from vmr.retrieval.service.server import listening_at

LIMITS = Limits(connections=8, header_s=0.6, body_s=0.6, body_rate=1000, stalled_s=0.7)
LARGE = 64 * 2**20  # bytes, more than the buffers of a connection hold


async def application(scope, receive, send) -> None:
    """Answers how long the body was; `/large` answers much, `/slow` waits before it reads."""
    size, more = 0, True
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5 * LIMITS.body_s)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message.get("more_body", False)
    pieces = [bytes(2**20)] * (LARGE >> 20) if scope["path"] == "/large" else [b"%07d" % size]
    length = str(sum(map(len, pieces))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server in a thread."""
    config = uvicorn.Config(
        application, http=connections_within(LIMITS), lifespan="off", log_config=None, log_level="critical",
        timeout_keep_alive=60, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with listening_at("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    got = b""
    try:
        while piece := connection.recv(2**16):
            got += piece
    except ConnectionResetError:
        pass
    return got


def status_and_body(got: bytes) -> tuple[int, object]:
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def test_a_connection_without_a_request_is_ended(port):
    with connected(port) as connection:
        start = time.monotonic()
        assert all_of(connection) == b""
        assert time.monotonic() - start > LIMITS.header_s / 2


def test_slow_headers_are_ended_however_often_a_byte_comes(port):
    with connected(port) as connection:
        connection.settimeout(0.05)
        connection.sendall(HEAD)
        until, got = time.monotonic() + PATIENCE_S, b""
        while time.monotonic() < until and not got:
            connection.sendall(b"X: y\r\n")
            try:
                got = connection.recv(1000)
            except TimeoutError:
                continue
        status, body = status_and_body(got)
        assert status == 408 and body == {"detail": "the headers did not arrive within 0.6 s"}


def test_slow_bodies_are_ended(port):
    with connected(port) as connection:
        connection.settimeout(0.05)
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        start = time.monotonic()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while time.monotonic() < start + PATIENCE_S:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - start > LIMITS.body_s / 2


def test_a_body_that_is_fast_enough_may_take_longer(port):
    with connected(port) as connection:
        connection.sendall(HEAD + b"Content-Length: 4500\r\nConnection: close\r\n\r\n")
        for _ in range(9):
            connection.sendall(b"x" * 500)
            time.sleep(0.1)
        assert all_of(connection).endswith(b"4500")


def test_a_body_that_the_application_does_not_read_is_not_slow(port):
    size = 2**20
    with connected(port) as connection:
        connection.sendall(HEAD.replace(b"/", b"/slow", 1) + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size)
        connection.sendall(bytes(size))
        assert all_of(connection).endswith(b"%d" % size)


def test_requests_on_one_connection_may_take_longer_together(port, times=15):
    with connected(port) as connection:
        for _ in range(times):
            connection.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            got = b""
            while not got.endswith(b"0000001"):
                got += connection.recv(1000)
            assert got.startswith(b"HTTP/1.1 200")
            time.sleep(0.05)


def test_an_answer_that_nobody_takes_is_ended(port):
    with connected(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.5 * LIMITS.stalled_s)
        assert len(all_of(connection)) < LARGE


def test_an_answer_that_is_taken_slowly_is_whole(port):
    with connected(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got, start = 0, time.monotonic()
        while piece := connection.recv(2**20):
            got += len(piece)
            time.sleep(max(0.0, start + 1.5 * LIMITS.stalled_s * got / LARGE - time.monotonic()))
        assert got > LARGE


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n", HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"X: " + b"y" * 2**20,
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(port, sent):
    with connected(port) as connection:
        connection.sendall(sent)
        got = all_of(connection)
        assert got == b"" or status_and_body(got)[0] in (400, 408, 501)


def test_garbage_in_a_body_ends_the_connection(port):
    with connected(port) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\nzzz\r\n")
        assert status_and_body(all_of(connection))[0] == 400


def test_there_are_so_many_connections(port):
    held = [connected(port) for _ in range(LIMITS.connections)]
    try:
        with connected(port) as connection:
            status, body = status_and_body(all_of(connection))
            assert status == 503 and body == {"detail": "too many connections: try again later"}
    finally:
        for each in held:
            each.close()
    test_requests_on_one_connection_may_take_longer_together(port, times=1)
