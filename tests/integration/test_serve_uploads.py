"""Search by a picture or a clip: what is found, what is refused, and that nothing is left of it."""

import asyncio
import contextlib
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

import vmr
from tests.patience import PATIENCE_S
from tests.services import started
from vmr.retrieval.service.app import create_app
from vmr.retrieval.service.options import Limits, ServiceOptions
from vmr.retrieval.service.uploads import receiving
from vmr.retrieval.service.uploads.uploads import Uploads

SEARCH, EMBEDDINGS = "/api/v1/search", "/api/v1/embeddings"


@pytest.fixture(scope="module")
def index(footage: Path, tmp_path_factory: pytest.TempPathFactory, offline) -> Path:
    folder = tmp_path_factory.mktemp("uploads") / "index"
    vmr.build_index(footage, folder, offline, window_s=2)
    return folder


@pytest.fixture(scope="module")
def service(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Its address and its process; it may have printed nothing but its address."""
    log = tmp_path_factory.mktemp("printed") / "log"
    with started(index, log=log) as (process, address):
        yield address, psutil.Process(process.pid)
    assert log.read_text().splitlines() == [f"vmr-serve: {address}/"]


@pytest.fixture(scope="module")
def address(service: tuple[str, psutil.Process]) -> str:
    return service[0]


@pytest.fixture(scope="module")
def server(service: tuple[str, psutil.Process]) -> psutil.Process:
    return service[1]


def picture_of(video: Path, at: float) -> bytes:
    """A frame of a video as a JPEG, given its place in [0, 1)."""
    with vmr.VideoReader(video) as reader:
        (frame,) = reader.frames_at([int(at * reader.num_frames)])
    out = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(out, "JPEG", quality=90)
    return out.getvalue()


def clip_of(video: Path, start_s: float, end_s: float, path: Path) -> bytes:
    """A part of a video, encoded again."""
    with vmr.VideoReader(video) as reader, av.open(str(path), "w") as out:
        inside = np.flatnonzero((reader.timestamps_s >= start_s) & (reader.timestamps_s < end_s))
        stream = out.add_stream("mpeg4", rate=round(reader.fps))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = reader.width, reader.height, "yuv420p", 4_000_000
        for frame in reader.frames_at(inside.tolist()):
            picture = np.ascontiguousarray(frame.transpose(1, 2, 0))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path.read_bytes()


def upload(address: str, content: bytes, name: str = "upload.bin", **fields: str) -> httpx.Response:
    return httpx.post(address + SEARCH, files={"file": (name, content)}, data=fields, timeout=PATIENCE_S)


def refusal(answer: httpx.Response) -> str:
    (detail,) = answer.json().values()
    assert "\n" not in detail
    return detail


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_picture_of_a_video_finds_it_first(address: str, footage: Path, name: str, at: float):
    answer = upload(address, picture_of(footage / name, at), "picture.jpg").json()
    assert answer["hits"][0]["path"] == name
    assert answer["query"] == "like picture.jpg"


def test_a_clip_finds_its_moment(address: str, footage: Path, tmp_path: Path):
    for start_s in (0.0, 2.0):
        answer = upload(address, clip_of(footage / "bigbuckbunny.mp4", start_s, start_s + 2, tmp_path / "clip.mp4"))
        best = answer.json()["hits"][0]
        assert best["path"] == "bigbuckbunny.mp4"
        assert best["start_s"] <= start_s + 0.1 < best["end_s"], (start_s, best)


def test_a_clip_has_the_vector_that_the_encoder_gives_of_a_file(footage: Path, offline, address: str):
    """To the last bit: frames are taken as they are for an index."""
    video = footage / "bikes.mp4"
    wanted = offline.encode_video(vmr.read_video(video, offline))[0].numpy()
    answer = httpx.post(address + EMBEDDINGS, files={"file": ("a", video.read_bytes())}, timeout=PATIENCE_S).json()
    np.testing.assert_array_equal(np.array(answer["data"][0]["embedding"], np.float32), wanted)


def test_fields_of_the_form_say_how_to_search(address: str, footage: Path):
    picture = picture_of(footage / "bikes.mp4", 0.5)
    answer = upload(address, picture, k="1", where='path ~ "*carphone*"').json()
    assert [hit["path"] for hit in answer["hits"]] == ["carphone_pristine.mp4"]
    refused = upload(address, picture, k="none")
    assert refused.status_code == 422
    assert refusal(refused).startswith("k: ")
    assert upload(address, picture, unknown="1").status_code == 422


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_at_once(address: str, server: psutil.Process):
    """A sound PNG of 300 kB with 100 million pixels, all of them black."""
    row = bytes(1 + 3 * 10_000)
    press = zlib.compressobj(9)
    bomb = png(10_000, 10_000, b"".join([*(press.compress(row) for _ in range(10_000)), press.flush()]))
    assert len(bomb) < 400_000
    started = time.monotonic()
    answer = upload(address, bomb, "bomb.png")
    assert answer.status_code == 413
    assert refusal(answer) == "bomb.png: its pictures are larger than 50 million pixels: send a smaller one"
    assert time.monotonic() - started < 5
    workers = [child.memory_info().rss for child in server.children()]
    assert workers
    assert max(workers) < 200 * 2**20


BAD = {
    "nothing": (b"", 422, "is empty"),
    "text": (b"hello", 415, "neither a picture nor a video"),
    "html": (b"<script>alert(1)</script>", 415, "neither a picture nor a video"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "neither a picture nor a video"),
    "png header": (png(60_000, 60_000, b""), 413, "50 million pixels"),
    "png without pixels": (png(100, 100, b""), 422, "damaged"),
    "noise": (np.random.default_rng(0).bytes(100_000), 415, "neither a picture nor a video"),
    "zeros": (bytes(100_000), 415, "neither a picture nor a video"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused(address: str, name: str):
    content, status, reason = BAD[name]
    answer = upload(address, content, "bad\x07<b>.png")
    assert answer.status_code == status
    assert reason in refusal(answer)
    assert refusal(answer).startswith("bad")


def test_names_of_uploads_are_only_shown(address: str, footage: Path):
    picture = picture_of(footage / "bikes.mp4", 0.5)
    for name, shown in (
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("<img src=x onerror=alert(1)>.jpg", "<img src=x onerror=alert(1)>.jpg"),
        ("\u202egpj.tac", "gpj.tac"),
        ("x" * 3000, "x" * 79 + "…"),
        ("/", "upload"),
    ):
        assert upload(address, picture, name).json()["query"] == f"like {shown}"


def raw(address: str, request: bytes) -> bytes:
    """Send bytes, and return all that is answered until the connection ends."""
    parts = urlsplit(address)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        with contextlib.suppress(OSError):  # it may be refused before all of it was sent
            connection.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            while block := connection.recv(65536):
                answer += block
    return answer


def head(address: str, kind: str, length: int | None = None) -> bytes:
    host = urlsplit(address).netloc
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {SEARCH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\n{size}\r\n\r\n"
    ).encode()


FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
FORMS = {
    "no boundary": ("multipart/form-data", b"--b\r\n"),
    "an empty boundary": ("multipart/form-data; boundary=", b"--\r\n"),
    "another boundary": ("multipart/form-data; boundary=other", FILE + b"x\r\n--b--\r\n"),
    "no end": ("multipart/form-data; boundary=b", FILE + b"x"),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "no headers": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "two files": ("multipart/form-data; boundary=b", FILE + b"x\r\n" + FILE + b"x\r\n--b--\r\n"),
    "thousands of parts": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n' * 5000 + b"--b--\r\n",
    ),
    "a field twice": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n' * 2 + b"--b--\r\n",
    ),
    "a huge header": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + b"a" * 2_000_000
        + b'"\r\n\r\nx\r\n--b--\r\n',
    ),
    "thousands of headers": (
        "multipart/form-data; boundary=b",
        b"--b\r\n" + b"X-Header: 1\r\n" * 50_000 + FILE[5:] + b"x\r\n--b--\r\n",
    ),
    "a huge field": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="where"\r\n\r\n' + b"1" * 2_000_000 + b"\r\n--b--\r\n",
    ),
    "no file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n--b--\r\n',
    ),
    "another kind of form": ("multipart/mixed; boundary=b", FILE + b"x\r\n--b--\r\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_not_valid_are_refused(address: str, name: str):
    kind, body = FORMS[name]
    started = time.monotonic()
    answer = raw(address, head(address, kind, len(body)) + body)
    assert answer.split(b" ", 2)[1] in (b"413", b"415", b"422"), answer[:300]
    detail = json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
    assert len(detail) < 200
    assert "\n" not in detail
    assert time.monotonic() - started < 5


def left_open(server: psutil.Process) -> list[str]:
    """Temporary files that the server has open or that lie in the folder for them."""
    links = (each.readlink() for each in Path(f"/proc/{server.pid}/fd").iterdir() if each.is_symlink())
    return [str(link) for link in links if "(deleted)" in str(link)]


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
@pytest.mark.parametrize("way", ["closes", "resets"])
def test_nothing_is_left_when_the_client_goes(address: str, server: psutil.Process, way: str):
    """A part that never ends: 3 MB of it lie on the disk when the client disconnects."""
    parts = urlsplit(address)
    before = len(left_open(server))
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head(address, "multipart/form-data; boundary=b", 50_000_000) + FILE + bytes(3_000_000))
        wait_until(lambda: len(left_open(server)) > before, "the upload is not written to the disk")
        if way == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: len(left_open(server)) == before, "the file of an upload is left")
    assert httpx.get(f"{address}/api/v1/healthz").status_code == 200


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
def test_nothing_is_left_after_any_answer(address: str, server: psutil.Process, footage: Path):
    before = len(left_open(server))
    for content in (b"x" * 3_000_000, picture_of(footage / "bikes.mp4", 0.5), (footage / "bikes.mp4").read_bytes()):
        upload(address, content)
    wait_until(lambda: len(left_open(server)) == before, "the file of an upload is left")


def test_uploads_that_do_not_go_on_keep_nobody_waiting(address: str, footage: Path):
    parts = urlsplit(address)
    with contextlib.ExitStack() as slow:
        for _ in range(20):
            connection = slow.enter_context(socket.create_connection((parts.hostname, parts.port)))
            connection.sendall(head(address, "multipart/form-data; boundary=b", 1_000_000) + FILE)
        assert upload(address, picture_of(footage / "bikes.mp4", 0.5)).status_code == 200


class Sent:
    """An upload of which some has been sent, and nothing follows."""

    def __init__(self, uploads: Uploads, num_bytes: int) -> None:
        self._uploads, self._body = uploads, FILE + bytes(num_bytes)

    async def _receive(self) -> dict:
        body, self._body = self._body, b""
        if not body:
            await asyncio.sleep(PATIENCE_S)
        return {"type": "http.request", "body": body, "more_body": True}

    async def received(self) -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        async with self._uploads.received(Request({"type": "http", "headers": headers}, self._receive)):
            raise AssertionError("it has no end")


def test_uploads_together_hold_so_many_bytes():
    async def send() -> None:
        uploads = Uploads(None, None, Limits(upload_bytes=1000))
        slow = [asyncio.create_task(Sent(uploads, 800).received()) for _ in range(8)]
        while uploads._held_bytes < 8 * 800:
            await asyncio.sleep(0)
        for _ in range(2):  # who is refused holds nothing
            with pytest.raises(HTTPException, match="503: too many uploads at the same time"):
                await Sent(uploads, 2000).received()
        small = asyncio.create_task(Sent(uploads, 100).received())
        slow[0].cancel()
        await asyncio.wait({slow[0]})
        large = asyncio.create_task(Sent(uploads, 700).received())
        assert not (await asyncio.wait({small, large, *slow[1:]}, timeout=0.1))[0]
        for task in (small, large, *slow):
            task.cancel()

    asyncio.run(send())


def test_an_upload_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiving, "SLOW_S", 0.3)
    with pytest.raises(HTTPException, match="408: the upload took longer than 0.005 minutes: send a smaller file"):
        asyncio.run(Sent(Uploads(None, None, Limits()), 100).received())


def test_many_uploads_at_the_same_time_are_answered(address: str, footage: Path):
    pictures = {name: picture_of(footage / name, 0.5) for name in ("bigbuckbunny.mp4", "bikes.mp4")}
    names = [*pictures] * 4
    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(lambda name: upload(address, pictures[name]).json(), names)]
    assert [answer["hits"][0]["path"] for answer in answers] == names


def test_limits_hold(index: Path, footage: Path):
    limits = Limits(upload_bytes=2**20, upload_s=1.0, upload_pixels=1000)
    video, picture = (footage / "bikes.mp4").read_bytes(), picture_of(footage / "bikes.mp4", 0.5)
    with TestClient(create_app(ServiceOptions(index, limits=limits)), base_url="http://127.0.0.1") as client:
        too_large = client.post(SEARCH, files={"file": ("a", bytes(2 * 2**20))})
        assert (too_large.status_code, too_large.json()["detail"]) == (
            413,
            "the upload is larger than 1 MiB: send a smaller file",
        )
        assert client.post(SEARCH, files={"file": ("a", picture)}).status_code == 413
        assert client.post(SEARCH, files={"file": ("a", video)}).status_code == 413


def test_a_file_that_takes_too_long_is_given_up(index: Path, footage: Path):
    limits = Limits(decode_s=0.002)
    with TestClient(create_app(ServiceOptions(index, limits=limits)), base_url="http://127.0.0.1") as client:
        answer = client.post(SEARCH, files={"file": ("slow.mp4", (footage / "bikes.mp4").read_bytes())})
    assert answer.status_code == 504
    assert answer.json()["detail"] == "slow.mp4: took longer than 0.002 s to read"
