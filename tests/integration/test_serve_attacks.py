"""Attacks on `vmr-serve`, each against the real command: nothing fails, nothing leaks, and it goes on serving."""

import contextlib
import itertools
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmr
from tests.attacks import BEARER, BOUNDARY, FORM, TOKEN, Answer, Attacker, form, operations
from tests.services import serving

SECRET = b"what nobody may read"
JSON = {"Content-Type": "application/json"}
ALL = list(operations())
UNSAFE = [one for one in ALL if one.method not in ("GET", "HEAD")]
NAMES = [f"{one.method} {one.path}" for one in ALL]
OPEN = {"/api/v1/healthz", "/login", "/static/{version}/{name}"}
HEAD = b"Host: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"


@pytest.fixture(scope="module")
def place(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index, videos with hostile names, and a file that is not part of them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "secret.txt").write_bytes(SECRET)
    for name in ("video.mp4", "<img src=x onerror=alert(1)>.mp4"):
        (folder / "videos").mkdir(exist_ok=True)
        shutil.copy(footage / "carphone_pristine.mp4", folder / "videos" / name)
    vmr.build_index(folder / "videos", folder / "index", "videomamba-nano-shapes", window_s=None)
    return folder


@pytest.fixture(scope="module")
def attacker(place: Path) -> Iterator[Attacker]:
    """One service for all attacks. What it prints at last is its address alone: no error, no traceback."""
    log = place / "log"
    options = ("--token", TOKEN, "--allow-indexing", str(place / "videos"))
    with serving(place / "index", *options, log=log) as address:
        yield Attacker(address)
    assert log.read_text() == f"vmr-serve: {address}/\n"


@pytest.fixture(scope="module")
def half_sent(attacker: Attacker) -> Iterator[socket.socket]:
    """A request without an end."""
    with attacker.connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        yield connection


@pytest.fixture(autouse=True)
def it_goes_on(attacker: Attacker, half_sent: socket.socket) -> Iterator[None]:
    yield
    assert attacker.ask("GET", "/api/v1/healthz").status == 200


def harmless(answer: Answer, place: Path) -> None:
    """Nothing has failed, and nothing of the machine is told."""
    assert answer.status < 500, answer
    for told in (SECRET, b"root:x:0", b"Traceback", bytes(place / "index")):
        assert told not in answer.body
    assert "x-injected" not in answer.headers
    if answer.status >= 400 and answer.headers["content-type"] == "application/json":
        assert len(answer.detail) < 400 and answer.detail.isprintable()


HOSTILE = [
    b"../../secret.txt", b"%2fetc%2fpasswd", b"1\x00.mp4", b"\xff\xfe\xed\xa0\x80", b"9" * 30, b"x" * 10_000,
    b"..\\secret.txt", b"1' OR '1'='1", b"1\r\nX-Injected: yes", b"<img src=x onerror=alert(1)>", b"NaN",
]  # fmt: skip
FEW, MANY = 7, 6  # so few of these are tried where there are so many parameters


@pytest.mark.parametrize("operation", ALL, ids=NAMES)
def test_no_parameter_is_a_path_or_a_program(attacker, place, operation):
    hostile = [bytes(place / "secret.txt"), *HOSTILE]
    some = hostile if len(operation.parameters) < MANY else hostile[:FEW]
    for parameter in operation.parameters:
        for value in some:
            if parameter["in"] == "header":
                headers = {**BEARER, parameter["name"]: re.sub(r"[\r\n\0]", "", value.decode("latin-1"))}
                harmless(attacker.ask(operation.method, operation.target(), headers), place)
            else:
                harmless(attacker.ask(operation.method, operation.target(parameter["name"], value)), place)
    for kind, fields in operation.bodies.items():
        for name, value in itertools.product(fields, hostile[:FEW]):
            if kind == "application/json":
                body = json.dumps({name: value.decode("latin-1")}).encode()
                harmless(attacker.ask(operation.method, operation.target(), {**BEARER, **JSON}, body), place)
            elif kind == "multipart/form-data":
                body = form({name: value}) if name != "file" else form({}, filename=value)
                harmless(attacker.ask(operation.method, operation.target(), {**BEARER, **FORM}, body), place)


@pytest.mark.parametrize("start", ["/static/1/", "/api/v1/", "/", "//", "http://localhost/"])
def test_no_path_is_a_path(attacker, place, start):
    for climb in ("../", "..%2f", "%2e%2e/", "..%5c", "..%252f", "....//", "..;/", "%c0%ae%c0%ae/"):
        for name in (f"{climb}app.py", f"{climb * 2}pages/reference.py", f"{climb * 12}etc/passwd"):
            answer = attacker.ask("GET", start + name)
            harmless(answer, place)
            assert answer.status == 404
    for target in (str(place / "secret.txt"), f"/static/1{place}/secret.txt", f"/static//{place}/secret.txt"):
        assert attacker.ask("GET", target).status == 404


@pytest.mark.parametrize("operation", ALL, ids=NAMES)
def test_every_route_needs_the_token(attacker, operation):
    wrong = [
        {}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}, {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"token={TOKEN}"}, {"X-Token": TOKEN}, {"Accept": "text/html"},
    ]  # fmt: skip
    for headers in wrong:
        for target in (
            operation.target(),
            f"{operation.target()}{'&' if '?' in operation.target() else '?'}token={TOKEN}",
        ):
            answer = attacker.ask(operation.method, target, headers)
            if operation.path in OPEN:
                assert answer.status != 403 and (answer.status != 401 or operation.method == "POST")
            elif "Accept" in headers and operation.method == "GET" and not operation.path.startswith("/api/"):
                assert answer.status == 303 and answer.headers["location"].startswith("/login?next=%2F")
            else:
                assert answer.status == 401 and "token" in answer.detail


def test_what_needs_no_token_is_little():
    assert {one.path for one in ALL} & OPEN == OPEN
    assert len(ALL) > 10


@pytest.mark.parametrize("operation", ALL, ids=NAMES)
def test_every_route_checks_the_host(attacker, operation):
    for host in (
        "evil.example",
        "localhost.evil.example",
        "evil.example:80",
        "127.0.0.1.nip.io",
        "192.168.0.1",
        "x" * 9000,
    ):
        answer = attacker.ask(operation.method, operation.target(), {**BEARER, "Host": host})
        assert answer.status == 421 and "--allowed-host" in answer.detail
    no_host = b"%s %s HTTP/1.0\r\n\r\n" % (operation.method.encode(), operation.target().encode())
    assert attacker.send(no_host).status == 421


@pytest.mark.parametrize("operation", UNSAFE, ids=[f"{one.method} {one.path}" for one in UNSAFE])
def test_pages_of_other_sites_change_nothing(attacker, operation):
    cookie = attacker.ask(
        "POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"}, f"token={TOKEN}".encode()
    )
    signed_in = {"Cookie": cookie.headers["set-cookie"].partition(";")[0]}
    assert attacker.ask("GET", "/api/v1/index", signed_in).status == 200
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Origin": f"http://{attacker.netloc}0"}, {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ):  # fmt: skip
        for shown in (BEARER, signed_in):
            answer = attacker.ask(operation.method, operation.target(), {**shown, **headers})
            assert answer.status == 403 and "another site" in answer.detail


@pytest.mark.parametrize("operation", ALL, ids=NAMES)
def test_bodies_of_10_gb_are_refused_at_once(attacker, operation):
    start = f"{operation.method} {operation.target()} HTTP/1.1\r\n".encode() + HEAD
    for more in (b"", b"Expect: 100-continue\r\n", b"Content-Type: multipart/form-data; boundary=x\r\n"):
        head = start + more + b"Content-Length: 10000000000\r\n\r\n"
        answer = attacker.send(head)
        assert answer.status == 413 and answer.headers["connection"] == "close"


@pytest.mark.parametrize("operation", UNSAFE, ids=[f"{one.method} {one.path}" for one in UNSAFE])
def test_bodies_without_a_length_have_a_limit(attacker, operation):
    """The service takes what it may, and then no more, however much comes."""
    sent, piece = 0, b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    with attacker.connected() as connection:
        connection.sendall(f"{operation.method} {operation.target()} HTTP/1.1\r\n".encode() + HEAD)
        connection.sendall(b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 64 * 2**20:
                connection.sendall(piece)
                sent += len(piece)
    assert sent < 32 * 2**20


def test_heads_are_limited(attacker):
    many = b"".join(b"X-%d: y\r\n" % number for number in range(1000))
    long = b"X: " + b"y" * 20_000 + b"\r\n"
    for bomb in (many, long):
        answer = attacker.send(b"GET /api/v1/index HTTP/1.1\r\n" + HEAD + bomb + b"Connection: close\r\n\r\n")
        assert answer.status == 431 and "at most" in answer.detail
    endless = b"GET /api/v1/index HTTP/1.1\r\n" + HEAD + b"X: " + b"y" * 2**22
    assert attacker.send(endless).status == 400
    target = b"GET /api/v1/search?q=" + b"x" * 40_000 + b" HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
    assert attacker.send(target).status == 414


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xfe / HTTP/1.1\r\n", b"GET /\xff\xfe HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", b"GET / HTTP/1.1\r\nX Y: z\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(attacker, sent):
    answer = attacker.send(sent + (b"Host: localhost\r\n" if b"Host" not in sent else b"") + b"\r\n")
    assert answer.status in (400, 501) and json.loads(answer.body)["detail"]


def test_bodies_that_are_no_text(attacker, place):
    deep = b"[" * 100_000
    for operation in UNSAFE:
        for kind in ("application/json", "multipart/form-data", FORM["Content-Type"], "text/plain", "\xff", ""):
            for body in (
                b"",
                b"\xff\xfe\x00",
                b"{",
                b"null",
                b'{"query": "\xff"}',
                b'{"query": "\\ud800"}',
                deep,
                b"NaN",
            ):
                headers = {**BEARER, "Content-Type": kind}
                answer = attacker.ask(operation.method, operation.target(), headers, body)
                harmless(answer, place)
    unended = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n".encode()
    answer = attacker.ask("POST", "/api/v1/search", {**BEARER, **FORM}, unended)
    harmless(answer, place)
    assert answer.status >= 400


@pytest.mark.parametrize("length", [1001, 10_000])
def test_queries_have_a_length(attacker, length):
    for letter in ("x", "ж", "\U0001f600"):
        body = json.dumps({"query": letter * length}).encode()
        answer = attacker.ask("POST", "/api/v1/search", {**BEARER, **JSON}, body)
        assert answer.status == 422 and "query" in answer.detail
    assert attacker.ask("GET", f"/api/v1/search?q={'x' * length}").status == 422


@pytest.mark.parametrize(
    "path", [one.path for one in ALL if one.path.endswith(("/media", "/playable.mp4", "/clip.mp4"))]
)
def test_ranges_are_no_bombs(attacker, place, path):
    """Many, overlapping, huge and malformed ranges: at most the file once, and nothing that takes long."""
    target = re.sub(r"{\w+}", str(first_ids(attacker)[path.startswith("/api/v1/moments/")]), path)
    whole = attacker.ask("GET", target)
    assert whole.status == 200
    many = ",".join(f"{start}-" for start in range(2000))
    for ranges in (
        many, ",".join(["0-"] * 3000), ",".join(f"{at}-{at}" for at in range(0, 4000, 2)), f"0-{10**30}", f"-{10**30}",
        f"{10**30}-", "0-18446744073709551616", "5-1", "-0", "--1", "a-b", "", ",", "0-0,-1", "0x1-", "1e3-", "\x00",
    ):  # fmt: skip
        start = time.monotonic()
        answer = attacker.ask("GET", target, {**BEARER, "Range": f"bytes={ranges}"[:15_000]})
        assert answer.status in (200, 206, 400, 416)
        assert len(answer.body) <= len(whole.body) and time.monotonic() - start < 30
        assert answer.status != 206 or answer.body in whole.body
    for unit in ("items=0-1", "bytes", "bytes=0-1;", "BYTES = 0-1", "bytes=0-1\xff"):
        assert attacker.ask("GET", target, {**BEARER, "Range": unit}).status in (200, 206, 400, 416)
    for stamp in ('"', 'W/"x"', "x" * 9000, "Thu, 99 Foo 2026", '""'):
        answer = attacker.ask("GET", target, {**BEARER, "Range": "bytes=0-1", "If-Range": stamp})
        assert answer.status == 200 and answer.body == whole.body


def first_ids(attacker: Attacker) -> tuple[int, int]:
    """The ids of a video and of one of its moments."""
    hit = json.loads(attacker.ask("GET", "/api/v1/search?q=a").body)["hits"][0]
    return hit["video_id"], hit["moment_id"]


def test_slow_headers_are_not_waited_for(attacker, half_sent):
    """The times themselves are tested in test_connections.py; here, that the command has limits."""
    half_sent.settimeout(60)
    start, answer = time.monotonic(), b""
    while piece := half_sent.recv(1000):
        answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < 30
