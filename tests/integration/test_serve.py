"""`vmr-serve` as a user starts it, stops it, and gets it wrong."""

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

import vmr
from tests.integration.commands import refused, run, run_here
from tests.patience import PATIENCE_S
from tests.services import serving, started

TOKEN = "a-token-of-tests"
FREE = 64 * 2**20  # bytes of a box without content, more than a connection holds


@pytest.fixture(scope="module")
def index(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a short video in a large file, most of which no player reads."""
    folder = tmp_path_factory.mktemp("served")
    with (folder / "man.mp4").open("wb") as file:
        file.write((footage / "carphone_pristine.mp4").read_bytes())
        file.write(FREE.to_bytes(4, "big") + b"free")
        file.truncate(file.tell() + FREE - 8)
    vmr.build_index([folder / "man.mp4"], folder / "index", "videomamba-nano-shapes", window_s=4)
    return folder / "index"


@pytest.fixture(scope="module")
def address(index: Path) -> Iterator[str]:
    with serving(index, "--token", TOKEN, "--cors", "https://mine.example") as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address) as client:
        yield client


def test_the_index_is_described(client):
    client.headers["authorization"] = f"Bearer {TOKEN}"
    found = client.get("/api/v1/search?q=a%20man").raise_for_status().json()["hits"][0]
    assert client.get(f"/api/v1/moments/{found['moment_id']}/thumbnail.jpg").status_code == 200
    facts = client.get("/api/v1/index").raise_for_status().json()
    assert facts["encoder"] == "videomamba-nano-shapes" and facts["embed_dim"] == 128
    assert facts["num_videos"] == 1 and facts["num_moments"] >= 1 and facts["window_s"] == 4
    numbers = client.get("/api/v1/metrics").raise_for_status()
    assert numbers.headers["content-type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in numbers.text.splitlines() if not line.startswith("#"))
    assert float(lines["vmr_index_moments"]) == facts["num_moments"]
    assert float(lines["vmr_index_commit"]) == facts["commit"] >= 1
    assert float(lines['vmr_index_questions_total{thread="search"}']) >= 2  # one of them to warm up
    assert float(lines['vmr_index_batches_total{thread="search"}']) >= 2
    assert float(lines['vmr_index_questions_total{thread="read"}']) >= 2
    assert not any("_created" in name for name in lines)
    assert float(lines["vmr_cache_bytes"]) > 1000
    assert 'route="/moments/{moment_id}/thumbnail.jpg"' in numbers.text
    assert float(lines['vmr_requests_total{method="GET",route="/index",status="200"}']) >= 1
    assert float(lines['vmr_request_seconds_count{method="GET",route="/index"}']) >= 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("GET", ""), ("GET", "/1"), ("DELETE", "/1"), ("POST", "/1/cancel"), ("GET", "/1/events")],
)
def test_videos_are_added_only_if_that_was_allowed(client, index, method, path):
    client.headers["authorization"] = f"Bearer {TOKEN}"
    answer = client.request(method, f"/api/v1/jobs{path}")
    assert (answer.status_code, "--allow-indexing DIR" in answer.json()["detail"]) == (403, True)
    assert not (index / "jobs").exists()


def test_a_person_signs_in(client):
    page = {"accept": "text/html"}
    sent = client.get("/docs?a=b", headers=page)
    assert sent.status_code == 303 and sent.headers["location"] == "/login?next=%2Fdocs%3Fa%3Db"
    form = client.get(sent.headers["location"])
    assert form.status_code == 200 and 'value="/docs?a=b"' in form.text
    start = time.monotonic()
    wrong = client.post("/login", data={"token": "wrong", "next": "/docs"})
    assert time.monotonic() - start >= 0.5  # so that nobody tries many
    assert wrong.status_code == 401 and "This is not the token" in wrong.text and "set-cookie" not in wrong.headers
    right = client.post("/login", data={"token": TOKEN, "next": "/docs?a=b"})
    assert right.status_code == 303 and right.headers["location"] == "/docs?a=b"
    assert client.get("/docs").status_code == 200  # with the cookie
    assert client.get("/api/v1/index").status_code == 200


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:alert(1)", ""],
)
def test_nobody_is_sent_to_another_site(client, wanted):
    right = client.post("/login", data={"token": TOKEN, "next": wanted})
    assert right.status_code == 303 and right.headers["location"] == "/"
    assert 'name="next" value="/"' in client.get("/login", params={"next": wanted}).text


def test_head_is_answered_wherever_get_is(client):
    client.headers["authorization"] = f"Bearer {TOKEN}"
    video = client.get("/api/v1/videos").json()["videos"][0]
    for path in ("/", "/docs", "/login", "/api/v1/healthz", "/api/v1/index", video["video_url"], video["media_url"]):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"") and int(head.headers["content-length"]) > 0, path
    assert client.head("/api/v1/videos/99").status_code == 404
    assert client.head("/api/v1/search?q=").status_code == 422
    assert client.head("/api/v1/jobs/1/events").status_code == 405  # it has no end


def test_the_api_is_described_without_other_hosts(client):
    client.headers["authorization"] = f"Bearer {TOKEN}"
    description = client.get("/openapi.json").raise_for_status().json()
    assert set(description["components"]["securitySchemes"]) == {"HTTPBearer"}
    page = client.get("/docs").raise_for_status()
    assert "://" not in page.text.replace("http://www.w3.org/", "")
    for path, methods in description["paths"].items():
        assert path in page.text
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert {"4XX", "5XX"} <= operation["responses"].keys()
            answers = [code for code in operation["responses"] if code[0] == "2"]
            assert answers, (method, path)


def test_origins_that_are_named_may_call_it(client):
    mine = {"origin": "https://mine.example", "sec-fetch-site": "cross-site"}
    asked = {**mine, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    allowed = client.options("/api/v1/search", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://mine.example"
    assert "access-control-allow-credentials" not in allowed.headers
    answer = client.get("/api/v1/index", headers={**mine, "authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://mine.example"
    assert client.get("/api/v1/index", headers=mine).status_code == 401
    other = client.options("/api/v1/search", headers={**asked, "origin": "https://other.example"})
    assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


# Starts that fail


@pytest.fixture(scope="module")
def places(index: Path, tmp_path_factory) -> SimpleNamespace:
    """Indexes that cannot be served."""
    folder = tmp_path_factory.mktemp("places")
    shutil.copytree(index, folder / "empty")
    vmr.open_index(folder / "empty").remove(["*"])
    (folder / "bad").mkdir()
    (folder / "bad" / "index.db").write_bytes(b"nothing")
    return SimpleNamespace(empty=folder / "empty", bad=folder / "bad", index=index)


@pytest.mark.parametrize(
    ("which", "options", "said"),
    [
        ("bad", [], "bad"),
        ("empty", [], "holds no videos: add some with vmr-index add"),
        ("index", ["--host", "0.0.0.0"], "can be reached from other machines: add --token, or set VMR_TOKEN"),
        ("index", ["--host", "192.0.2.1", "--token", TOKEN], "--host 192.0.2.1 --port 0"),
        ("index", ["--host", "no.such.host.invalid", "--token", TOKEN], "--host no.such.host.invalid"),
        ("index", ["--encoder", "ofline"], "did you mean 'offline'"),
    ],
)
def test_a_start_that_fails(places, monkeypatch, which, options, said):
    monkeypatch.setenv("VMR_TOKEN", "")
    result = run_here("vmr-serve", getattr(places, which), "--port", 0, *options)
    assert said in refused(result)
    assert len(result.stderr.splitlines()) == 1 and result.stdout == ""


def test_processes_that_it_starts_do_not_learn_the_token(places, monkeypatch):
    monkeypatch.setenv("VMR_TOKEN", TOKEN)
    refused(run_here("vmr-serve", places.bad, "--port", 0))
    assert "VMR_TOKEN" not in os.environ


def test_a_port_that_is_taken(index):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("vmr-serve", index, "--port", port)
    assert refused(result).startswith(f"error: --host 127.0.0.1 --port {port}: Address already in use: choose another")


# The end


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_whatever_is_open(index, footage, tmp_path, stop):
    """A player that takes nothing, a job that is followed, a body on its way, and a connection without a request."""
    shutil.copytree(index, tmp_path / "index")
    (tmp_path / "more").mkdir()
    shutil.copy(footage / "bikes.mp4", tmp_path / "more")
    log = tmp_path / "log"
    with started(tmp_path / "index", "--allow-indexing", str(tmp_path / "more"), log=log) as (process, address):
        assert httpx.get(f"{address}/login").headers["location"] == "/"  # there is no token
        assert httpx.post(f"{address}/login").headers["location"] == "/"
        (video,) = httpx.get(f"{address}/api/v1/videos").json()["videos"]
        job = httpx.post(f"{address}/api/v1/jobs", json={"path": str(tmp_path / "more")}).raise_for_status().json()
        host, _, port = address.rpartition("/")[2].rpartition(":")
        with contextlib.ExitStack() as held:
            for sent in (
                f"GET /api/v1/videos/{video['video_id']}/media HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET /api/v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
                "",
            ):
                connection = held.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(sent.encode())
                if sent.startswith("GET"):
                    assert connection.recv(15) == b"HTTP/1.1 200 OK"
            start = time.monotonic()
            process.send_signal(stop)
            assert process.wait(timeout=PATIENCE_S) == 0
            assert time.monotonic() - start < 30
    assert log.read_text() == f"vmr-serve: {address}/\n"
