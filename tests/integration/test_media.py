"""Files, pictures and clips of videos over HTTP, from films whose pictures carry their numbers."""

import asyncio
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import vmr
from tests.films import beep_of, write_film
from tests.patience import PATIENCE_S
from tests.video_matrix import WIDTH, number_of
from vmr.data.decoding.sampling import shown_at
from vmr.retrieval.service.app import create_app
from vmr.retrieval.service.options import Limits, ServiceOptions
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Text, Video
from vmr.retrieval.storage.writer import IndexWriter

API = "/api/v1"
HOSTILE = '<img src=x onerror=alert(1)> "ü.mp4'


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_film(folder / "film.mp4", num_frames=250, sound="aac", gop=50)
    write_film(folder / "late.mp4", sound="ac3", delay_s=1.5, beep_s=3.5)
    write_film(folder / "old.avi", codec="mpeg4", sound="mp3", options={})
    write_film(folder / HOSTILE, num_frames=50)
    for name in ("changed.mp4", "gone.mp4", "fifo.mp4", "swapped.mp4", "folder.mp4", "damaged.mp4"):
        shutil.copy2(folder / HOSTILE, folder / name)
    outside = tmp_path_factory.mktemp("outside")
    for name in ("linked.mp4", "secret.mp4"):
        shutil.copy2(folder / HOSTILE, outside / name)
    (folder / "linked.mp4").symlink_to(outside / "linked.mp4")
    (folder / "inner").mkdir()
    shutil.copy2(folder / HOSTILE, folder / "inner" / "secret.mp4")
    return folder


@pytest.fixture(scope="module")
def index(videos: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "index"
    vmr.build_index(videos, folder, "videomamba-nano-shapes", window_s=4)
    return folder


@pytest.fixture(scope="module")
def indexed(index: Path) -> dict[str, Video]:
    with closing(IndexReader(index)) as reader, reader.snapshot() as snapshot:
        return {video.path: video for video in snapshot.videos()}


@pytest.fixture(scope="module")
def client(index: Path) -> Iterator[TestClient]:
    options = ServiceOptions(index, cache=index.parent / "cache", limits=Limits(clip_s=8.0))
    with TestClient(create_app(options), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def film(client: TestClient, indexed: dict[str, Video]) -> str:
    return f"{API}/videos/{indexed['film.mp4'].id}/media"


def get(client: TestClient, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    return client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_whole_file(client, film, videos):
    content = (videos / "film.mp4").read_bytes()
    answer = get(client, film)
    assert answer.status_code == 200 and answer.content == content
    assert answer.headers["content-type"] == "video/mp4" and answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "inline; filename=\"film.mp4\"; filename*=UTF-8''film.mp4"
    head = get(client, film, "HEAD")
    assert head.status_code == 200 and head.content == b"" and head.headers["content-length"] == str(len(content))
    assert head.headers["etag"] == answer.headers["etag"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 300_000), st.integers(0, 300_000) | st.none(), st.booleans())
@example(0, 0, False)
@example(0, 10**17, False)
@example(10**17, None, False)
@example(0, None, True)
def test_one_range(client, film, videos, first, last, is_suffix):
    content = (videos / "film.mp4").read_bytes()
    text = f"bytes=-{first}" if is_suffix else f"bytes={first}-{'' if last is None else last}"
    answer = get(client, film, range=text)
    if is_suffix:
        wanted = content[max(0, len(content) - first) :]
    elif last is not None and last < first:  # no range, so it is passed over
        assert answer.status_code == 200 and answer.content == content
        return
    else:
        wanted = content[first : None if last is None else last + 1]
    if not wanted:
        assert answer.status_code == 416 and answer.headers["content-range"] == f"bytes */{len(content)}"
        return
    start = content.index(wanted) if len(wanted) > 100 else None
    assert answer.status_code == 206 and answer.content == wanted
    given_start, _, given_end = answer.headers["content-range"].removeprefix("bytes ").partition("/")[0].partition("-")
    assert int(given_end) - int(given_start) + 1 == len(wanted) == int(answer.headers["content-length"])
    assert start is None or int(given_start) == start
    head = get(client, film, "HEAD", range=text)
    assert head.status_code == 206 and head.content == b""
    assert head.headers["content-range"] == answer.headers["content-range"]


@pytest.mark.parametrize(
    "text",
    [
        "bytes=0-1,3-4", "bytes=" + ",".join(f"{n}-{n + 1000}" for n in range(800)), "bytes=" + "0-," * 2000,
        "bytes=0-9" + "9" * 4000, "bytes=-", "bytes=a-b", "bytes=1-2-3", "bytes", "items=0-1", "bytes=\u00b2-", "",
        "bytes=5-2", "bytes=--1", "bytes=0x1-0x2", "bytes=1_0-2_0",
    ],
)  # fmt: skip
def test_what_is_not_one_range_costs_as_much_as_the_file(client, film, videos, text):
    began = time.monotonic()
    answer = client.get(film, headers={"range": text.encode("latin-1", "replace")})
    assert answer.status_code == 200 and len(answer.content) == (videos / "film.mp4").stat().st_size
    assert time.monotonic() - began < 2


def test_conditions(client, film, videos):
    first = get(client, film)
    tag, modified = first.headers["etag"], first.headers["last-modified"]
    assert tag.startswith('"') and modified == formatdate((videos / "film.mp4").stat().st_mtime, usegmt=True)
    for tags in (tag, f'"other", W/{tag}', "*"):
        answer = get(client, film, if_none_match=tags)
        assert answer.status_code == 304 and answer.content == b"" and answer.headers["etag"] == tag
    assert get(client, film, if_none_match='"other"', if_modified_since=modified).status_code == 200
    assert get(client, film, if_modified_since=modified).status_code == 304
    assert get(client, film, if_modified_since="Thu, 01 Jan 1970 00:00:00 GMT").status_code == 200
    assert get(client, film, if_modified_since="yesterday").status_code == 200
    assert get(client, film, range="bytes=0-9", if_range=tag).status_code == 206
    for condition in ('"other"', f"W/{tag}", modified, "nonsense"):  # two changes may have one time
        assert get(client, film, range="bytes=0-9", if_range=condition).status_code == 200


def refused(client, video: Video, status: int, words: str) -> None:
    """Nothing is given of a video, for a reason that is said."""
    paths = [f"videos/{video.id}/{name}" for name in ("media", "playable.mp4", "playback")]
    paths += [f"moments/{video.first_window}/{name}" for name in ("thumbnail.jpg", "clip.mp4")]
    for path in paths:
        answer = client.get(f"{API}/{path}")
        assert answer.status_code == status, (path, answer.text)
        assert words in answer.json()["detail"] and video.path in answer.json()["detail"], answer.text


def replaced(client, videos: Path, video: Video, put) -> None:
    """After its thumbnail was made, another thing takes the place of a file."""
    assert client.get(f"{API}/moments/{video.first_window}/thumbnail.jpg").status_code == 200
    file = videos / video.path
    file.unlink()
    put(file)


def test_a_file_that_is_gone(client, videos, indexed):
    replaced(client, videos, indexed["gone.mp4"], lambda file: None)
    refused(client, indexed["gone.mp4"], 410, "the file of this video is gone")


def test_a_file_that_has_changed(client, videos, indexed):
    replaced(client, videos, indexed["changed.mp4"], lambda file: shutil.copy(videos / "film.mp4", file))
    refused(client, indexed["changed.mp4"], 409, "has changed since it was indexed: build the index again")


def test_a_file_that_is_there_but_damaged(client, videos, indexed):
    """Neither gone nor changed, as a failing disk leaves it."""
    video, file = indexed["damaged.mp4"], videos / "damaged.mp4"
    with file.open("r+b") as opened:
        opened.write(bytes(video.state.size))
    os.utime(file, ns=(video.state.mtime_ns, video.state.mtime_ns))
    paths = [f"videos/{video.id}/{name}" for name in ("playable.mp4", "playback")]
    for path in (*paths, *(f"moments/{video.first_window}/{name}" for name in ("thumbnail.jpg", "clip.mp4"))):
        answer = client.get(f"{API}/{path}")
        assert answer.status_code == 422 and answer.json()["detail"].startswith("damaged.mp4: not a video"), answer.text


def test_a_fifo_is_not_opened(client, videos, indexed):
    replaced(client, videos, indexed["fifo.mp4"], os.mkfifo)
    began = time.monotonic()
    refused(client, indexed["fifo.mp4"], 409, "has changed")
    assert time.monotonic() - began < 5


def test_a_folder_is_not_opened(client, videos, indexed):
    replaced(client, videos, indexed["folder.mp4"], os.mkdir)
    refused(client, indexed["folder.mp4"], 409, "has changed")


def test_a_link_that_is_swapped_in_is_not_followed(client, videos, indexed):
    """Not even to a file of the same size and time."""
    outside = Path(os.readlink(videos / "linked.mp4")).parent / "secret.mp4"  # noqa: PTH115
    replaced(client, videos, indexed["swapped.mp4"], lambda file: file.symlink_to(outside))
    stated = (videos / "swapped.mp4").stat()
    assert (stated.st_size, stated.st_mtime_ns) == indexed["swapped.mp4"].state.key[:2]
    refused(client, indexed["swapped.mp4"], 409, "has changed")


def test_a_folder_that_becomes_a_link_is_not_followed(client, videos, indexed):
    outside = Path(os.readlink(videos / "linked.mp4")).parent  # noqa: PTH115
    (videos / "inner").rename(videos / "moved")
    (videos / "inner").symlink_to(outside)
    stated = (videos / "inner" / "secret.mp4").stat()
    assert (stated.st_size, stated.st_mtime_ns) == indexed["inner/secret.mp4"].state.key[:2]
    refused(client, indexed["inner/secret.mp4"], 409, "has changed")


def test_a_link_that_was_indexed_is_followed_to_that_file_only(client, videos, indexed):
    video = indexed["linked.mp4"]
    assert client.get(f"{API}/videos/{video.id}/media").content == (videos / "linked.mp4").read_bytes()
    outside = Path(os.readlink(videos / "linked.mp4")).parent / "secret.mp4"  # noqa: PTH115
    replaced(client, videos, video, lambda file: file.symlink_to(outside))
    refused(client, video, 409, "has changed")


@pytest.mark.parametrize(
    "path",
    ["videos/999/media", "videos/999/captions.vtt", "moments/999/thumbnail.jpg", "moments/999/clip.mp4"],
)
def test_what_the_index_does_not_hold(client, path):
    assert client.get(f"{API}/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "videos/..%2f..%2fetc%2fpasswd/media", "videos/-1/media", "videos/%00/media", f"videos/{2**63}/media",
        "moments/1/thumbnail.jpg?width=63", "moments/1/thumbnail.jpg?width=641", "moments/1/thumbnail.jpg?width=x",
        "videos/1/playable.mp4?start_s=nan", "videos/1/playable.mp4?start_s=-1", "videos/1/playback?at_s=inf",
        "moments/1/clip.mp4?start_s=../..", "videos/1/captions.vtt?offset_s=nan",
    ],
)  # fmt: skip
def test_bad_parameters(client, path):
    answer = client.get(f"{API}/{path}")
    assert answer.status_code in (404, 422) and "\n" not in answer.json()["detail"]


def moment_of(indexed, index: Path, name: str, number: int = 0) -> tuple[int, float, float]:
    with closing(IndexReader(index)) as reader, reader.snapshot() as snapshot:
        start_s, end_s = snapshot.spans(indexed[name])[number].tolist()
    return indexed[name].first_window + number, start_s, end_s


@pytest.mark.parametrize("name", ["film.mp4", "late.mp4", "old.avi"])
@pytest.mark.parametrize("width", [None, 64, 640])
def test_a_thumbnail_is_the_frame_in_the_middle(client, videos, index, indexed, name, width):
    moment_id, start_s, end_s = moment_of(indexed, index, name)
    with vmr.VideoReader(videos / name) as reader:
        (frame,) = reader.frames_at(shown_at(reader.timestamps_s, [(start_s + end_s) / 2]).tolist())
    answer = client.get(f"{API}/moments/{moment_id}/thumbnail.jpg", params={"width": width} if width else {})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.width == (64 if width == 64 else WIDTH)  # never larger than the video
    if width != 64:  # there the blocks are too small
        assert number_of(np.asarray(picture).transpose(2, 0, 1)) == number_of(frame)


def test_a_thumbnail_is_kept(client, index, indexed):
    moment_id, *_ = moment_of(indexed, index, "film.mp4", 1)
    address = f"{API}/moments/{moment_id}/thumbnail.jpg"
    first = client.get(address)
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    from vmr.retrieval.service.media.addresses import thumbnail_url

    kept = client.get(thumbnail_url(indexed["film.mp4"], moment_id))
    assert kept.content == first.content and "immutable" in kept.headers["cache-control"]
    assert client.head(address).headers["content-length"] == str(len(first.content))


def frames_of(content: bytes) -> tuple[list[int], list[float]]:
    """The numbers of all pictures of a film, and when they are shown."""
    with av.open(io.BytesIO(content)) as film:
        shown = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in film.decode(video=0)]
    return [number_of(rgb.transpose(2, 0, 1)) for rgb, _ in shown], [time_s for _, time_s in shown]


@pytest.mark.parametrize(
    ("name", "start_s", "end_s", "is_copied"),
    [
        ("film.mp4", 2.0, 5.0, True),
        ("film.mp4", 2.06, 5.0, True),
        ("film.mp4", 2.52, 4.0, False),
        ("film.mp4", 0.0, 10.0, None),
        ("film.mp4", 9.0, 17.0, True),
        ("late.mp4", 1.0, 3.0, True),
        ("old.avi", 1.02, 3.0, False),
    ],
)
def test_a_clip_has_the_pictures_of_its_time(client, videos, index, indexed, name, start_s, end_s, is_copied):
    moment_id, *_ = moment_of(indexed, index, name)
    answer = client.get(f"{API}/moments/{moment_id}/clip.mp4", params={"start_s": start_s, "end_s": end_s})
    if is_copied is None:
        assert answer.status_code == 400 and "at most 8 s" in answer.json()["detail"]
        return
    assert answer.status_code == 200, answer.text
    numbers, times_s = frames_of(answer.content)
    with vmr.VideoReader(videos / name) as reader:
        (first,) = shown_at(reader.timestamps_s, [start_s])
        stop = int(np.searchsorted(reader.timestamps_s, end_s - 1e-6))
        true = reader.timestamps_s[first : first + len(numbers)]
    assert numbers[0] == first if not is_copied else abs(numbers[0] - start_s * 25) <= 2.5
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert abs(numbers[-1] + 1 - stop) <= (2.5 if is_copied else 0)
    assert times_s[0] == 0
    began_s = true[0] if is_copied else start_s  # the first picture may be shown since before
    assert np.allclose(times_s, np.maximum(true - began_s, 0), atol=0.002)


def test_a_preview_is_small(client, index, indexed):
    moment_id, *_ = moment_of(indexed, index, "old.avi")
    whole, small = (
        client.get(f"{API}/moments/{moment_id}/clip.mp4", params={"end_s": 2, **more}) for more in ({}, {"width": 100})
    )
    assert len(small.content) < len(whole.content)
    with av.open(io.BytesIO(small.content)) as film:
        assert film.streams.video[0].width == 100
        assert sum(1 for _ in film.decode(video=0)) == len(frames_of(whole.content)[0]) == 50
    for width in (63, 961, "x"):
        assert client.get(f"{API}/moments/{moment_id}/clip.mp4", params={"width": width}).status_code == 422


def test_work_ends_when_the_client_has_gone(index, indexed, tmp_path, monkeypatch):
    """Even if it would never end, and the limit of time is far away."""
    run, began = Processes.run, []

    async def hang(self, function, request, name, max_bytes=0):
        began.append(tmp_path / f"{len(began)}")
        return await run(self, "tests.service_work:hang", {"began": str(began[-1])}, name)

    async def ask_and_leave() -> None:
        limits = Limits(decode_s=10 * PATIENCE_S, answer_s=10 * PATIENCE_S)
        app = create_app(ServiceOptions(index, cache=tmp_path / "cache", limits=limits))
        async with app.router.lifespan_context(app):
            has_left = asyncio.Event()
            video = indexed["old.avi"]
            paths = [f"{API}/videos/{video.id}/{name}" for name in ("playable.mp4", "playback")]
            paths += [f"{API}/moments/{video.first_window}/{name}" for name in ("thumbnail.jpg", "clip.mp4")]
            asked = [asyncio.create_task(ask(app, path, has_left)) for path in (*paths, f"/?watch={video.id}")]
            await until(lambda: len(began) == 4 and any(path.exists() for path in began))  # two wait for one probe
            assert not any(task.done() for task in asked)
            has_left.set()
            await asyncio.wait_for(asyncio.gather(*asked), PATIENCE_S / 10)
            for processes in (app.state.service.processes, app.state.service.media._converting):
                await until(lambda its=processes: its._idle.qsize() == len(its._workers))

    monkeypatch.setattr(Processes, "run", hang)
    asyncio.run(ask_and_leave())


async def until(condition) -> None:
    """Wait for a condition."""
    late_s = time.monotonic() + PATIENCE_S / 10  # a process that hangs would end later
    while not condition():
        assert time.monotonic() < late_s
        await asyncio.sleep(0.02)


async def ask(app, path: str, has_left: asyncio.Event) -> None:
    """Ask for something, and disconnect before it has come."""

    async def receive() -> dict:
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        pass

    path, _, query = path.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "scheme": "http"}
    await app({**scope, "headers": [(b"host", b"127.0.0.1")]}, receive, send)


def test_a_clip_has_a_safe_name(client, index, indexed):
    moment_id, *_ = moment_of(indexed, index, HOSTILE)
    disposition = client.get(f"{API}/moments/{moment_id}/clip.mp4").headers["content-disposition"]
    assert disposition == (
        'attachment; filename="_img src=x onerror=alert(1)_ __ 0.0-2.0 s.mp4"; '
        "filename*=UTF-8''_img%20src%3Dx%20onerror%3Dalert%281%29_%20_%C3%BC%200.0-2.0%20s.mp4"
    )


@pytest.mark.parametrize(("start_s", "end_s"), [(3, 2), (2, 2), (500, 600)])
def test_there_is_no_such_clip(client, index, indexed, start_s, end_s):
    moment_id, *_ = moment_of(indexed, index, "film.mp4")
    answer = client.get(f"{API}/moments/{moment_id}/clip.mp4", params={"start_s": start_s, "end_s": end_s})
    assert answer.status_code == 400 and "no clip from" in answer.json()["detail"]


@pytest.mark.parametrize(("name", "beep_s"), [("late.mp4", 2.0), ("old.avi", 2.0)])
def test_sound_stays_with_the_pictures(client, indexed, tmp_path, name, beep_s):
    """The beep of `late.mp4` is at 3.5 s of its file, whose first picture is at 1.5 s."""
    playback = client.get(f"{API}/videos/{indexed[name].id}/playback").json()
    (tmp_path / "part.mp4").write_bytes(client.get(playback["url"]).content)
    assert beep_of(tmp_path / "part.mp4") == pytest.approx(beep_s + playback["offset_s"], abs=0.1)


def test_captions(client, index, indexed):
    video = indexed["film.mp4"]
    texts = [
        Text(5.0, 6.5, "subtitle", "later"),
        Text(0.5, 3661.25, "subtitle", "<script>alert(1)</script> & 1 --> 2\n\n\nNOTE x\r\n00:00 --> 00:01"),
        Text(1.0, 1.0, "speech", "\0 a moment"),
        Text(None, None, "title", "the whole video"),
        Text(2.0, 3.0, "subtitle", " \n "),
    ]
    with IndexWriter(index) as writer, writer.commit() as changes:
        changes.set_texts(video.id, texts)
    answer = client.get(f"{API}/videos/{video.id}/captions.vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    assert answer.text == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 01:01:01.250\n&lt;script&gt;alert(1)&lt;/script&gt; &amp; 1 --&gt; 2\nNOTE x\n"
        "00:00 --&gt; 00:01\n\n00:00:01.000 --> 00:00:01.100\n\ufffd a moment\n\n00:00:05.000 --> 00:00:06.500\nlater\n"
    )
    spoken = client.get(f"{API}/videos/{video.id}/captions.vtt", params={"kind": "speech", "offset_s": 2}).text
    assert spoken == "WEBVTT\n\n00:00:03.000 --> 00:00:03.100\n\ufffd a moment\n"
    assert client.get(f"{API}/videos/{video.id}/captions.vtt", params={"offset_s": -4000}).text == "WEBVTT\n"
    assert client.get(f"{API}/videos/{indexed['old.avi'].id}/captions.vtt").text == "WEBVTT\n"
