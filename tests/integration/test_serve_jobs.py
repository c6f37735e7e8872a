"""Jobs of a running `vmr-serve`: what they add, what ends them, and what is left after a kill."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from filelock import FileLock

import vmr
from tests.patience import PATIENCE_S
from tests.services import started
from vmr.data.shapes.files import make_shapes
from vmr.retrieval.storage.verify import verify

VIDEOS = 60  # two seconds of work
FILMS = 15

pytestmark = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("made")
    make_shapes(folder / "shapes", num_clips=VIDEOS, seed=1, split="train")
    return sorted((folder / "shapes" / "train").glob("*.mp4"))


def link(files: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).hardlink_to(file)
    return folder


@pytest.fixture
def place(videos: list[Path], tmp_path: Path, offline) -> Path:
    """A folder with an index of the video in `root/in`, and more videos in `root/new`."""
    link(videos[1:], tmp_path / "root" / "new")
    vmr.build_index(link(videos[:1], tmp_path / "root" / "in"), tmp_path / "index", offline, window_s=4)
    return tmp_path


class Shared(NamedTuple):
    """A service that tests share; each adds other videos."""

    place: Path
    server: "subprocess.Popen[bytes]"
    client: httpx.Client


@pytest.fixture(scope="module")
def shared(videos: list[Path], tmp_path_factory: pytest.TempPathFactory, offline) -> Iterator[Shared]:
    place = tmp_path_factory.mktemp("shared")
    root = place / "root"
    link(videos[1:FILMS], root / "films")
    link(videos[FILMS:], root / "many")
    (root / "up").mkdir()
    vmr.build_index(link(videos[:1], root / "in"), place / "index", offline, window_s=4)
    options = ("--allow-indexing", str(root), "--upload-dir", str(root / "up"))
    with started(place / "index", *options) as (server, address), api(address) as client:
        yield Shared(place, server, client)


def api(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/api/v1", timeout=PATIENCE_S)


def events(client: httpx.Client, number: int, after: int = 0) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Kind, id and content of each event of a job, until the stream ends."""
    with client.stream(
        "GET", f"/jobs/{number}/events", headers={"Last-Event-ID": str(after)} if after else {}
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                yield event["event"], int(event["id"]), json.loads(event["data"])
                event = {}


def ended(client: httpx.Client, number: int) -> dict[str, Any]:
    """A job when it has ended."""
    for _, _, content in events(client, number):
        last = content
    return last


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it never comes to be")


def add(client: httpx.Client, path: str) -> int:
    answer = client.post("/jobs", json={"path": path})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def children(process: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(each) for each in found]


def job_process(server: "subprocess.Popen[bytes]") -> list[int]:
    return [each for each in children(server.pid) if b"jobs.process" in Path(f"/proc/{each}/cmdline").read_bytes()]


def look_at(place: Path) -> tuple[int, int]:
    """How many videos the index holds, and how many were ever put into it; nothing may be wrong with it."""
    assert verify(place / "index") == []
    with closing(sqlite3.connect(place / "index" / "index.db")) as database:
        (videos,) = database.execute("SELECT count(*) FROM videos").fetchone()
        (blocks,) = database.execute("SELECT value - 1 FROM meta WHERE key = 'next_block'").fetchone()
    return videos, blocks


def test_a_folder_is_added_and_everybody_is_told_how_far_it_is(shared: Shared):
    place, _, client = shared
    films = place / "root" / "films"
    (films / os.fsdecode(b"broken\xff<img>.mp4")).write_bytes(b"no video")
    (place / "secret").mkdir()
    shutil.copy(films / "00001.mp4", place / "secret" / "secret.mp4")
    (films / "elsewhere").symlink_to(place / "secret")
    before = look_at(place)[0]
    with ThreadPoolExecutor() as threads:
        number = add(client, "films")
        listeners = [threads.submit(lambda: [*events(client, number)]) for _ in range(3)]
        told = listeners[0].result()
        for listener in listeners[1:]:
            assert listener.result()[-1] == told[-1]
    kinds, numbers, contents = zip(*told, strict=True)
    job = contents[-1]
    assert (job["state"], kinds[-1], job["num_embedded"], job["num_failed"]) == ("done", "job", FILMS - 1, 2)
    assert job["message"] == f"{FILMS - 1} added, 2 left out"
    assert sorted(numbers) == [*numbers] and len(set(numbers)) == len(numbers)
    assert job["progress"] | {"speed": 0} == {
        "files_done": FILMS, "files_total": FILMS, "done_s": FILMS - 1, "total_s": FILMS - 1, "speed": 0,
        "left_s": None, "now": None,
    }  # fmt: skip
    failures = {Path(each["path"]).name: each["reason"] for kind, _, each in told if kind == "failure"}
    assert failures.keys() == {"broken\\udcff<img>.mp4", "secret.mp4"}
    assert "outside of the folders" in failures["secret.mp4"]

    middle = numbers[len(numbers) // 2]
    missed = [each for each in told[:-1] if each[0] == "failure" and each[1] > middle]
    assert list(events(client, number, middle)) == [*missed, told[-1]]
    assert client.get(f"/jobs/{number}/events", headers={"Last-Event-ID": str(numbers[-1])}).status_code == 204
    whole = client.get(f"/jobs/{number}").json()
    assert {Path(each["path"]).name for each in whole.pop("failures")} == failures.keys()
    assert whole == job
    listed = client.get("/jobs", params={"k": 1}).json()
    assert listed == {"jobs": [job], "folders": [f"{place}/root"], "takes_uploads": True}
    again = ended(client, add(client, str(films)))
    assert (again["num_embedded"], again["message"]) == (0, f"{FILMS - 1} unchanged, 2 left out")
    assert look_at(place) == (before + FILMS - 1,) * 2
    updated = vmr.build_index(place / "root" / "in", place / "index", window_s=4)  # the folder of jobs is in no way
    assert updated.info.num_videos == before + FILMS - 1


def test_what_is_not_allowed_is_refused(shared: Shared):
    client = shared.client
    before = client.get("/jobs").json()
    requests: list[tuple[int, dict[str, Any]]] = [
        (404, {"json": {"path": "none.mp4"}}), (403, {"json": {"path": "/etc/passwd"}}),
        (422, {"json": {"path": ""}}), (422, {"json": {"path": 5}}), (422, {"json": {}}), (422, {"content": b"{"}),
        (422, {"content": b'{"path": "\\ud800"}'}), (413, {"json": {"path": "x", "more": "x" * 70_000}}),
        (415, {"files": {"file": ("a.txt", b"x")}}), (422, {"files": {"other": ("a.mp4", b"x")}}),
    ]  # fmt: skip
    for status, request in requests:
        answer = client.post("/jobs", **request)
        assert (answer.status_code, "\n" in answer.json()["detail"]) == (status, False), answer.text
    for method, path in (("GET", "/jobs/999"), ("DELETE", "/jobs/999"), ("GET", "/jobs/999/events")):
        assert client.request(method, path).status_code == 404
    for number in ("0", "-1", "x", str(2**63)):
        assert client.get(f"/jobs/{number}").status_code == 422
    assert client.get("/jobs").json() == before


def test_a_video_is_uploaded_and_added_when_nobody_else_writes(shared: Shared):
    place, _, client = shared
    folder, before = place / "root" / "up", look_at(place)[0]
    video = (place / "root" / "in" / "00000.mp4").read_bytes()
    with FileLock(place / "index" / ".lock"):  # as another writer holds it
        answers = [client.post("/jobs", files={"file": ("../../<b>.mp4", video + bytes([n]))}) for n in (1, 2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        numbers = [answer.json()["id"] for answer in answers]
        message = "waiting: another process is writing the index"
        until(lambda: client.get(f"/jobs/{numbers[0]}").json()["message"] == message)
    jobs = [ended(client, number) for number in numbers]
    assert [(job["state"], job["num_embedded"]) for job in jobs] == [("done", 1)] * 2

    def half() -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="half.mp4"\r\n\r\n'
        yield video
        until(lambda: len([*folder.iterdir()]) == 3)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.post("/jobs", content=half(), headers={"Content-Type": "multipart/form-data; boundary=B"})
    until(lambda: len([*folder.iterdir()]) == 2)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert files == {"<b>.mp4": video + b"\1", "<b> (2).mp4": video + b"\2"}
    assert look_at(place) == (before + 2,) * 2


def test_jobs_are_cancelled(shared: Shared):
    place, server, client = shared
    before = look_at(place)[0]
    number, waiting = add(client, "many"), add(client, "in")
    until(lambda: client.get(f"/jobs/{number}").json()["num_embedded"])
    (process,) = job_process(server)
    assert os.getpriority(os.PRIO_PROCESS, process) >= 10
    assert client.delete(f"/jobs/{waiting}").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{number}/cancel").json()["is_cancelling"] is True
    job = ended(client, number)
    assert (job["state"], job["is_cancelling"]) == ("cancelled", False)
    assert job["message"] == f"{job['num_embedded']} added before it was cancelled"
    until(lambda: not Path(f"/proc/{process}").exists())
    assert client.delete(f"/jobs/{number}").json() == job  # it has ended
    assert look_at(place) == (before + job["num_embedded"],) * 2
    assert job["num_embedded"] < VIDEOS - FILMS


def test_a_job_goes_on_after_its_server_was_killed(place: Path):
    options = ("--allow-indexing", str(place / "root"))
    broken = place / "root" / "new" / "00000.mp4"
    broken.write_bytes(b"no video")
    os.utime(broken, (0, 0))
    number, waiting, done = 0, 0, 0
    for kill in (signal.SIGKILL, signal.SIGTERM):
        with started(place / "index", *options) as (server, address), api(address) as client:
            if not number:
                number, waiting = add(client, "new"), add(client, "in")
            job = until(lambda: moved(client, number, done))  # noqa: B023
            done = job["num_embedded"]
            assert (job["state"], client.get(f"/jobs/{waiting}").json()["state"]) == ("running", "queued")
            (process,) = job_process(server)
            server.send_signal(kill)
            server.wait(PATIENCE_S)
            until(lambda: not Path(f"/proc/{process}").exists())  # noqa: B023
        assert done < look_at(place)[0] <= VIDEOS
    with started(place / "index", *options) as (_, address), api(address) as client:
        job = ended(client, number)
        assert job["state"] == "done"
        assert ended(client, waiting)["message"] == "1 unchanged"
        failures = client.get(f"/jobs/{number}").json()["failures"]
        assert (job["num_failed"], [each["path"] for each in failures]) == (1, [str(broken)])
    assert done < job["progress"]["files_done"] == job["progress"]["files_total"] < VIDEOS
    assert look_at(place) == (VIDEOS, VIDEOS)  # nothing was embedded twice


def moved(client: httpx.Client, number: int, before: int) -> dict[str, Any] | None:
    """A job when it has added more videos than before, or has ended."""
    job = client.get(f"/jobs/{number}").json()
    return job if job["num_embedded"] > before or job["ended_at"] else None


def test_one_of_two_servers_does_the_jobs(place: Path):
    options = ("--allow-indexing", str(place / "root"))
    with (
        started(place / "index", *options) as (first, here), api(here) as one,
        started(place / "index", *options) as (second, there), api(there) as other,
    ):  # fmt: skip
        number = add(other, "new")
        until(lambda: other.get(f"/jobs/{number}").json()["num_embedded"])
        assert (len(job_process(first)), len(job_process(second))) == (1, 0)
        other.delete(f"/jobs/{number}")
        assert ended(other, number)["state"] == "cancelled"
        number = add(other, "new")
        until(lambda: one.get(f"/jobs/{number}").json()["num_embedded"])
        first.kill()
        job = ended(other, number)
        assert job["state"] == "done"
    assert look_at(place) == (VIDEOS, VIDEOS)


def test_a_full_disk_ends_a_job_and_not_the_service(place: Path):
    size = (place / "index" / "index.db").stat().st_size
    options = ("--allow-indexing", str(place / "root"))
    with started(place / "index", *options, largest_file=size - 4096) as (_, address), api(address) as client:
        job = ended(client, add(client, "new"))
        assert (job["state"], "index.db: cannot be written" in job["message"]) == ("failed", True), job
        assert client.get("/healthz").status_code == 200
        assert client.get("/search", params={"q": "a circle"}).status_code == 200
    assert look_at(place)[0] < VIDEOS
