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
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock

import vmr
from tests.patience import PATIENCE_S
from tests.services import serving, started
from vmr.data.shapes.files import make_shapes
from vmr.retrieval.storage.verify import verify

VIDEOS = 60  # two seconds of work

pytestmark = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("made")
    make_shapes(folder / "shapes", num_clips=VIDEOS, seed=1, split="train")
    return sorted((folder / "shapes" / "train").glob("*.mp4"))


@pytest.fixture
def place(videos: list[Path], tmp_path: Path, offline) -> Path:
    """A folder with an index of the video below `root/in`, and more videos in `root/new`."""
    for name, files in (("in", videos[:1]), ("new", videos[1:])):
        (tmp_path / "root" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "root" / name / file.name).hardlink_to(file)
    vmr.build_index(tmp_path / "root" / "in", tmp_path / "index", offline, window_s=4)
    return tmp_path


def api(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/api/v1", timeout=PATIENCE_S)


@contextmanager
def served(place: Path, *options: str) -> Iterator[httpx.Client]:
    with serving(place / "index", "--allow-indexing", str(place / "root"), *options) as address, api(address) as client:
        yield client


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


def job_process(server: "subprocess.Popen[str]") -> list[int]:
    return [each for each in children(server.pid) if b"jobs.process" in Path(f"/proc/{each}/cmdline").read_bytes()]


def look_at(place: Path) -> tuple[int, int]:
    """How many videos the index holds, and how many were ever put into it; nothing may be wrong with it."""
    assert verify(place / "index") == []
    with closing(sqlite3.connect(place / "index" / "index.db")) as database:
        (videos,) = database.execute("SELECT count(*) FROM videos").fetchone()
        (blocks,) = database.execute("SELECT value - 1 FROM meta WHERE key = 'next_block'").fetchone()
    return videos, blocks


def test_a_folder_is_added_and_everybody_is_told_how_far_it_is(place: Path):
    (place / "root" / "new" / os.fsdecode(b"broken\xff<img>.mp4")).write_bytes(b"no video")
    (place / "root" / "elsewhere").symlink_to(place / "secret")
    (place / "secret").mkdir()
    shutil.copy(place / "root" / "in" / "00000.mp4", place / "secret" / "secret.mp4")
    with served(place) as client, ThreadPoolExecutor() as threads:
        number = add(client, ".")
        listeners = [threads.submit(lambda: [*events(client, number)]) for _ in range(3)]
        told = listeners[0].result()
        kinds, numbers, contents = zip(*told, strict=True)
        job = contents[-1]
        assert (job["state"], kinds[-1], job["num_embedded"], job["num_failed"]) == ("done", "job", VIDEOS - 1, 2)
        assert job["message"] == f"{VIDEOS - 1} added, 1 unchanged, 2 left out"
        assert sorted(numbers) == [*numbers] and len(set(numbers)) == len(numbers)
        assert job["progress"] | {"speed": 0} == {
            "files_done": VIDEOS, "files_total": VIDEOS, "done_s": VIDEOS - 1, "total_s": VIDEOS - 1, "speed": 0,
            "left_s": None, "now": None,
        }  # fmt: skip
        failures = {Path(each["path"]).name: each["reason"] for kind, _, each in told if kind == "failure"}
        assert failures.keys() == {"broken\\udcff<img>.mp4", "secret.mp4"}
        assert "outside of the folders" in failures["secret.mp4"]
        for listener in listeners[1:]:
            assert listener.result()[-1] == told[-1]
        middle = numbers[len(numbers) // 2]
        missed = [each for each in told[:-1] if each[0] == "failure" and each[1] > middle]
        assert list(events(client, number, middle)) == [*missed, told[-1]]
        assert client.get(f"/jobs/{number}/events", headers={"Last-Event-ID": str(numbers[-1])}).status_code == 204
        whole = client.get(f"/jobs/{number}").json()
        assert {Path(each["path"]).name for each in whole.pop("failures")} == failures.keys()
        assert whole == job
        listed = client.get("/jobs").json()
        assert listed == {"jobs": [job], "folders": [f"{place}/root"], "takes_uploads": False}
        again = ended(client, add(client, f"{place}/root/new"))
        assert (again["num_embedded"], again["message"]) == (0, f"{VIDEOS - 1} unchanged, 1 left out")
        assert client.get("/jobs", params={"k": 1}).json()["jobs"] == [again]
    assert look_at(place) == (VIDEOS, VIDEOS)
    updated = vmr.build_index(place / "root" / "in", place / "index", window_s=4)  # the folder of jobs is in no way
    assert updated.info.num_videos == VIDEOS


def test_what_is_not_allowed_is_refused(place: Path):
    with serving(place / "index") as address, api(address) as client:
        for method, path in (("POST", "/jobs"), ("GET", "/jobs"), ("GET", "/jobs/1"), ("DELETE", "/jobs/1"),
                             ("POST", "/jobs/1/cancel"), ("GET", "/jobs/1/events")):  # fmt: skip
            answer = client.request(method, path)
            assert (answer.status_code, "--allow-indexing" in answer.json()["detail"]) == (403, True)
    assert not (place / "index" / "jobs").exists()
    with served(place) as client:
        requests: list[tuple[int, dict[str, Any]]] = [
            (404, {"json": {"path": "none.mp4"}}), (403, {"json": {"path": "/etc/passwd"}}),
            (422, {"json": {"path": ""}}), (422, {"json": {"path": 5}}), (422, {"json": {}}), (422, {"content": b"{"}),
            (422, {"content": b'{"path": "\\ud800"}'}), (413, {"json": {"path": "x", "more": "x" * 70_000}}),
            (403, {"files": {"file": ("a.mp4", b"x")}}),
        ]  # fmt: skip
        for status, request in requests:
            answer = client.post("/jobs", **request)
            assert (answer.status_code, "\n" in answer.json()["detail"]) == (status, False), answer.text
        for method, path in (("GET", "/jobs/9"), ("DELETE", "/jobs/9"), ("GET", "/jobs/9/events")):
            assert client.request(method, path).status_code == 404
        for number in ("0", "-1", "x", str(2**63)):
            assert client.get(f"/jobs/{number}").status_code == 422
        assert client.get("/jobs").json()["jobs"] == []


def test_a_video_is_uploaded_and_added_when_nobody_else_writes(place: Path):
    (place / "root" / "up").mkdir()
    video = (place / "root" / "new" / "00001.mp4").read_bytes()
    with served(place, "--upload-dir", str(place / "root" / "up")) as client:
        with FileLock(place / "index" / ".lock"):  # as another writer holds it
            answers = [
                client.post("/jobs", files={"file": ("../../<b>.mp4", video + bytes([number]))}) for number in (1, 2)
            ]
            assert [answer.status_code for answer in answers] == [202, 202]
            message = "waiting: another process is writing the index"
            until(lambda: client.get("/jobs/1").json()["message"] == message)
        jobs = [ended(client, answer.json()["id"]) for answer in answers]
        assert [(job["state"], job["num_embedded"]) for job in jobs] == [("done", 1)] * 2
        assert client.get("/jobs").json()["takes_uploads"] is True

        def half() -> Iterator[bytes]:
            yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="half.mp4"\r\n\r\n'
            yield video
            until(lambda: len([*(place / "root" / "up").iterdir()]) == 3)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            client.post("/jobs", content=half(), headers={"Content-Type": "multipart/form-data; boundary=B"})
        until(lambda: len([*(place / "root" / "up").iterdir()]) == 2)
    files = {file.name: file.read_bytes() for file in (place / "root" / "up").iterdir()}
    assert files == {"<b>.mp4": video + b"\1", "<b> (2).mp4": video + b"\2"}
    assert look_at(place) == (3, 3)


def test_jobs_are_cancelled(place: Path):
    with started(place / "index", "--allow-indexing", str(place / "root")) as (server, address), api(address) as client:
        number, waiting = add(client, "new"), add(client, "in")
        until(lambda: client.get(f"/jobs/{number}").json()["num_embedded"])
        (process,) = job_process(server)
        assert os.getpriority(os.PRIO_PROCESS, process) >= 10
        assert client.delete(f"/jobs/{waiting}").json()["state"] == "cancelled"
        assert client.post(f"/jobs/{number}/cancel").json()["is_cancelling"] is True
        job = ended(client, number)
        assert (job["state"], job["is_cancelling"]) == ("cancelled", False)
        assert job["message"] == f"{job['num_embedded']} added before it was cancelled"
        assert not Path(f"/proc/{process}").exists()
        assert client.delete(f"/jobs/{number}").json() == job  # it has ended
    videos, blocks = look_at(place)
    assert videos == blocks == 1 + job["num_embedded"] < VIDEOS


def test_a_job_goes_on_after_its_server_was_killed(place: Path):
    options = ("--allow-indexing", str(place / "root"))
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
    with served(place) as client:
        job = ended(client, number)
        assert job["state"] == "done"
        assert ended(client, waiting)["message"] == "1 unchanged"
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
