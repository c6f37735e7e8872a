"""What is refused before a request reaches a route. The application behind the guards answers everything with 200."""

import asyncio
import json
import re
import time
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from tests.patience import PATIENCE_S
from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.service.guard import tokens
from vmr.retrieval.service.guard.headers import POLICY, SecurityHeaders
from vmr.retrieval.service.guard.hosts import HostCheck, name_of
from vmr.retrieval.service.guard.requests import RequestLimits
from vmr.retrieval.service.guard.sites import SiteCheck
from vmr.retrieval.service.guard.tokens import Token, TokenCheck
from vmr.retrieval.service.options import Limits, ServiceOptions
from vmr.retrieval.service.problems import LastResort, answer_errors, status_of

OPTIONS = ServiceOptions("index")
TOKEN = "a-token-of-tests"
WAYS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]


def ask(guard: Middleware, method: str = "GET", path: str = "/", answer=None, **request) -> httpx.Response:
    """Send one request to an application behind a guard."""

    async def fine(request: Request) -> Response:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    app = Starlette(routes=[Route("/{path:path}", answer or fine, methods=WAYS)], middleware=[guard])
    answer_errors(app)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def detail(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    (said,) = response.json().values()
    assert len(said.splitlines()) == 1
    return said


# Hosts


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"), ("LocalHost:80", "localhost"), ("127.0.0.1:8765", "127.0.0.1"), ("[::1]", "::1"),
        ("[::1]:8765", "::1"), ("a:b", ""), ("a:", ""), ("", ""), ("a:\u0661", ""), ("::1", ""),
    ],
)  # fmt: skip
def test_the_name_in_a_host(host, name):
    assert name_of(host) == name


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        (OPTIONS, "localhost:8765", 200),
        (OPTIONS, "127.0.0.1", 200),
        (OPTIONS, "[::1]:1", 200),
        (OPTIONS, "evil.example", 421),
        (OPTIONS, "127.0.0.1.evil.example", 421),
        (OPTIONS, "localhost.evil.example", 421),
        (OPTIONS, "localhost:evil", 421),
        (OPTIONS, "192.168.1.5", 421),
        (OPTIONS, "", 421),
        (replace(OPTIONS, allowed_hosts=("Videos.example",)), "videos.EXAMPLE:443", 200),
        (replace(OPTIONS, allowed_hosts=("videos.example",)), "www.videos.example", 421),
        (replace(OPTIONS, host="0.0.0.0", token=TOKEN), "192.168.1.5:8765", 200),
        (replace(OPTIONS, host="0.0.0.0", token=TOKEN), "evil.example", 421),
        (replace(OPTIONS, host="box", token=TOKEN), "box:80", 200),
    ],
)
def test_hosts(options, host, status):
    response = ask(Middleware(HostCheck, options=options), headers={"host": host})
    assert response.status_code == status
    assert status == 200 or "--allowed-host" in detail(response)


# Sites

OTHER = {"origin": "http://evil.example"}
CROSS = {"sec-fetch-site": "cross-site"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),  # no browser
        ("POST", {"origin": "http://localhost"}, 200),
        ("POST", {"origin": "https://localhost"}, 200),  # behind a proxy that ends https
        ("POST", {"origin": "http://localhost:81"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", OTHER, 403),
        ("DELETE", OTHER, 403),
        ("PUT", {**CROSS, **LINK}, 403),
        ("POST", {**CROSS, **LINK}, 403),
        ("POST", {"sec-fetch-site": "same-site"}, 403),  # another port of this machine
        ("POST", {"sec-fetch-site": "same-origin"}, 200),
        ("GET", {"sec-fetch-site": "none"}, 200),  # typed by a person
        ("GET", {**CROSS, **LINK}, 200),
        ("GET", {**CROSS, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ("GET", {**CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ("GET", CROSS, 403),
        ("GET", {"sec-fetch-site": "a new word"}, 403),
        ("POST", {**CROSS, "origin": "https://mine.example"}, 200),
        ("POST", {**CROSS, "origin": "https://mine.example.evil.example"}, 403),
    ],
)
def test_pages_of_other_sites(method, headers, status):
    guard = Middleware(SiteCheck, options=replace(OPTIONS, cors=("https://mine.example",)))
    response = ask(guard, method, headers=headers)
    assert response.status_code == status
    assert status == 200 or "--cors" in detail(response)


# Token

GUARD = Middleware(TokenCheck, token=Token(TOKEN))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `test_wrong_tokens_are_slow_and_few` are as long as others."""
    monkeypatch.setattr(tokens, "_WAIT_S", 0.01)


@pytest.mark.parametrize("shown", [TOKEN, TOKEN.upper(), TOKEN[:-1], f"{TOKEN} ", "", "é", "\x00"])
def test_the_token_of_a_header(shown):
    is_right = shown.strip() == TOKEN
    for scheme in ("Bearer", "bearer"):
        response = ask(GUARD, "POST", "/api/v1/x", headers={"authorization": f"{scheme} {shown}".encode()})
        assert response.status_code == (200 if is_right else 401)
        assert is_right or response.headers["www-authenticate"] == "Bearer"
        said = "the token is wrong" if shown else "a token is needed: send the header 'Authorization: Bearer TOKEN'"
        assert is_right or detail(response) == said
    assert ask(GUARD, headers={"authorization": f"Basic {shown}".encode()}).status_code == 401


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer wrong"}, {"cookie": "vmr-00000000=0"}, {"cookie": "a=b; vmr-1="}]
)
def test_wrong_tokens_are_slow_and_few(headers, monkeypatch, caplog):
    """One that is shown by many clients at a time is refused at once, and never logged."""
    monkeypatch.setattr(tokens, "_WAIT_S", 0.3)
    app = TokenCheck(PlainTextResponse("fine"), Token(TOKEN))

    async def send() -> tuple[list[int], float, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            start = time.monotonic()
            waiting = asyncio.gather(*(client.get("/api/v1/x", headers=headers) for _ in range(20)))
            await asyncio.sleep(0)
            right = await client.get("/api/v1/x", headers={"authorization": f"Bearer {TOKEN}"})
            return sorted(each.status_code for each in await waiting), time.monotonic() - start, right.status_code

    statuses, seconds, right = asyncio.run(send())
    assert (statuses, right) == ([401] * 16 + [429] * 4, 200) and seconds >= 0.3
    assert set(caplog.messages) == {"a wrong token, or an old cookie, from 127.0.0.1"} and len(caplog.messages) == 16


def test_who_shows_nothing_is_asked_for_the_token_at_once(monkeypatch, caplog):
    monkeypatch.setattr(tokens, "_WAIT_S", 60)
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": f"Basic {TOKEN}"}, {"cookie": "a=b"}):
        assert ask(GUARD, "POST", headers=headers).status_code == 401
    assert not caplog.messages


def test_the_token_is_not_in_its_cookie():
    response = Response()
    Token(TOKEN).set_cookie(response, is_secure=True)
    cookie = response.headers["set-cookie"]
    assert TOKEN not in cookie
    assert re.fullmatch(
        r"vmr-[0-9a-f]{8}=[0-9a-f]{64}; HttpOnly; Max-Age=2592000; Path=/; SameSite=strict; Secure", cookie
    )
    name, value = cookie.partition(";")[0].split("=")
    assert ask(GUARD, "POST", "/x", headers={"cookie": f"a=b; {name}={value}"}).status_code == 200
    for wrong in (f"{name}={value[:-1]}", f"{name}={TOKEN}", f"{name}=", "=", "é", f"{name}={value}0"):
        assert ask(GUARD, "POST", "/x", headers={"cookie": wrong.encode()}).status_code == 401
    assert ask(Middleware(TokenCheck, token=Token(f"{TOKEN}2")), headers={"cookie": cookie}).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/healthz", 200), ("/login", 200), ("/static/1/page.css", 200), ("/", 401), ("/static", 401),
        ("/staticky", 401), ("/api/v1/healthz/", 401), ("/api/v1/healthz/x", 401), ("//login", 401), ("/LOGIN", 401),
        ("/api/v1/index", 401), ("/docs", 401), ("/openapi.json", 401), ("/x/..%2flogin", 401),
    ],
)  # fmt: skip
def test_what_needs_no_token(path, status):
    assert ask(GUARD, path=path).status_code == status


def test_a_browser_is_sent_to_the_page_for_logging_in():
    html = {"accept": "text/html,*/*"}
    response = ask(GUARD, path="/a%20b?q=x%26y&k=1", headers=html)
    assert response.status_code == 303
    assert response.headers["location"] == "/login?next=%2Fa%2520b%3Fq%3Dx%2526y%26k%3D1"
    assert ask(GUARD, "HEAD", headers=html).status_code == 303
    assert ask(GUARD, "POST", headers=html).status_code == 401
    assert ask(GUARD, path="/api/v1/index", headers=html).status_code == 401


# Sizes and times

LIMITS = Limits(body_bytes=100, target_bytes=50, headers=10, header_bytes=400)


def limited(limits: Limits = LIMITS) -> Middleware:
    return Middleware(RequestLimits, limits=limits, bodies=[(re.compile("^/form$"), 1000)])


async def pieces(sizes):
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize(
    ("path", "kind", "sizes", "status"),
    [
        ("/", "text/plain", [100], 200),
        ("/", "text/plain", [50, 51], 413),
        ("/form", "multipart/form-data; boundary=x", [1000, 100], 200),
        ("/form", "Multipart/form-data; boundary=x", [1000, 101], 413),
        ("/form", "application/json", [101], 413),
        ("/form/x", "multipart/form-data; boundary=x", [101], 413),
    ],
)
def test_a_body_is_counted_while_it_is_read(path, kind, sizes, status):
    """One without a length, and one with."""
    chunked = ask(limited(), "POST", path, content=pieces(sizes), headers={"content-type": kind})
    whole = ask(limited(), "POST", path, content=b"x" * sum(sizes), headers={"content-type": kind})
    for response in (chunked, whole):
        assert response.status_code == status
        assert ("connection" in response.headers) == (status != 200)
        assert status == 200 or "bytes" in detail(response)


def test_a_length_that_is_too_large_is_refused_at_once():
    async def never(request: Request) -> Response:
        raise AssertionError

    for length in ("101", "10000000000", "9" * 300, "9" * 5000):
        response = ask(
            limited(replace(LIMITS, header_bytes=9999)), "POST", answer=never, headers={"content-length": length}
        )
        assert response.status_code == 413 and response.headers["connection"] == "close"


def test_a_body_that_nobody_reads_ends_the_connection():
    async def at_once(request: Request) -> Response:
        return PlainTextResponse("no")

    assert ask(limited(), "POST", answer=at_once, content=b"x").headers["connection"] == "close"
    assert "connection" not in ask(limited(), "POST", content=b"x").headers
    assert "connection" not in ask(limited(), answer=at_once).headers


def test_heads_that_are_too_large():
    assert ask(limited(), path="/" + "x" * 45).status_code == 200
    assert ask(limited(), path="/?" + "x" * 50).status_code == 414
    assert ask(limited(), headers=[("x", "1")] * 4).status_code == 200
    assert ask(limited(), headers=[("x", "1")] * 11).status_code == 431
    assert ask(limited(), headers={"x": "1" * 400}).status_code == 431


def test_a_request_that_is_given_up_at_the_end_is_told_so():
    begun = asyncio.Event()

    async def wait(request: Request) -> Response:
        begun.set()
        await asyncio.sleep(PATIENCE_S)
        return PlainTextResponse("late")

    app, sent = LastResort(Starlette(routes=[Route("/", wait)])), []

    async def end() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}

        async def send(message: Message) -> None:
            sent.append(message)

        task = asyncio.create_task(app(scope, asyncio.Event().wait, send))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(end())
    assert sent[0]["status"] == 503 and json.loads(sent[1]["body"]) == {
        "detail": "the service ends: try again when it runs again"
    }


def test_an_answer_begins_in_time():
    cancelled = []

    async def slow(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return PlainTextResponse("late")

    response = ask(limited(replace(LIMITS, answer_s=0.1)), answer=slow)
    assert response.status_code == 504 and cancelled == [True]
    assert "too long" in detail(response)


def test_the_time_for_an_answer_begins_after_the_body_and_ends_with_its_first_byte():
    async def slow_body():
        for _ in range(4):
            await asyncio.sleep(0.2)
            yield b"x"

    async def slow_end(request: Request) -> Response:
        from starlette.responses import StreamingResponse

        await request.body()
        return StreamingResponse(slow_body())

    guard = limited(replace(LIMITS, answer_s=0.6))
    assert ask(guard, "POST", content=slow_body(), answer=slow_end).text == "xxxx"


# Headers


def test_every_answer_has_the_headers():
    async def own(request: Request) -> Response:
        return PlainTextResponse("", headers={"Cache-Control": "public", "Content-Security-Policy": "sandbox"})

    headers = ask(Middleware(SecurityHeaders)).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY and POLICY.startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "private, no-cache"
    headers = ask(Middleware(SecurityHeaders), answer=own).headers
    assert headers["cache-control"] == "public" and headers["content-security-policy"] == "sandbox"


# Options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 65536}, "--port 65536"),
        ({"port": -1}, "--port -1"),
        ({"token": ""}, "--token has 0 characters"),
        ({"token": "short"}, "--token has 5 characters"),
        ({"token": "with a space"}, "no space"),
        ({"token": "schlüssel-1"}, "ASCII"),
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 can be reached from other machines: add --token"),
        ({"host": "::"}, "add --token"),
        ({"host": "192.168.1.5"}, "add --token"),
        ({"host": "box.example"}, "add --token"),
        ({"allowed_hosts": ("http://box",)}, "--allowed-host http://box"),
        ({"allowed_hosts": ("box:80",)}, "--allowed-host box:80"),
        ({"allowed_hosts": ("*",)}, "--allowed-host *"),
        ({"cors": ("*",)}, "--cors *"),
        ({"cors": ("https://box/",)}, "--cors https://box/"),
        ({"cors": ("null",)}, "--cors null"),
    ],
)
def test_options_that_are_refused(given, said):
    with pytest.raises(VmrError, match=re.escape(said)):
        replace(OPTIONS, **given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_addresses_of_this_machine_need_no_token(host):
    assert replace(OPTIONS, host=host).token is None


def test_a_token_is_not_printed():
    assert TOKEN not in repr(replace(OPTIONS, token=TOKEN))


def test_statuses_of_errors():
    assert [status_of(error("x")) for error in (VmrError, IndexFileError)] == [400, 503]
