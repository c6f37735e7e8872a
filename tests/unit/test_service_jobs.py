"""Which places jobs may add videos from, how uploads are named, and what is kept of jobs."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vmr.errors import VmrError
from vmr.retrieval.service.jobs import store as store_module
from vmr.retrieval.service.jobs.jobs import jobs_of
from vmr.retrieval.service.jobs.places import AllowedFolders
from vmr.retrieval.service.jobs.received import NewFile, receive, remove_unfinished, safe_name
from vmr.retrieval.service.jobs.records import JobFailure, JobProgress
from vmr.retrieval.service.jobs.store import JobStore
from vmr.retrieval.service.options import ServiceOptions


def refused(allowed: AllowedFolders, path: str) -> tuple[int, str]:
    with pytest.raises(HTTPException) as error:
        allowed.place(path)
    return error.value.status_code, error.value.detail


# Places


@pytest.fixture
def allowed(tmp_path: Path) -> AllowedFolders:
    """Two folders; beside them are files that must not be told of."""
    for name in ("a/films/old", "a/.trash", "b", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/one.mp4", "a/films/two.mp4", "a/.trash/gone.mp4", "b/three.mp4", "elsewhere/secret.mp4"):
        (tmp_path / name).write_bytes(b"video")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "in").symlink_to(tmp_path / "a" / "films")
    (tmp_path / "a" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "out.mp4").symlink_to(tmp_path / "elsewhere" / "secret.mp4")
    (tmp_path / "a" / "to-hidden").symlink_to(tmp_path / "a" / ".trash")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "a" / "not-there")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a" / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    return AllowedFolders([tmp_path / "a", tmp_path / "link"])


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (".", "a"), ("one.mp4", "a/one.mp4"), ("films", "a/films"), ("films/", "a/films"),
        ("a", "a"), ("a/films", "a/films"), ("link/three.mp4", "link/three.mp4"),
        ("./films//old", "a/films/old"), ("in/two.mp4", "a/in/two.mp4"),
        ("three.mp4", "link/three.mp4"), ("{}/a", "a"), ("{}/a/films/two.mp4", "a/films/two.mp4"),
        ("/{}/a/one.mp4", "a/one.mp4"), ("{}/link", "link"), ("{}/b/three.mp4", "b/three.mp4"),
    ],
)  # fmt: skip
def test_what_is_below_a_folder_is_found(allowed: AllowedFolders, tmp_path: Path, path: str, place: str):
    assert allowed.place(path.format(tmp_path)) == f"{tmp_path}/{place}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing.mp4", 404), ("{}/a/nothing.mp4", 404), ("a/nothing.mp4", 404),
        ("a/out/secret.mp4", 403), ("nowhere", 404), ("loop", 400), ("x" * 300, 404),
        ("one.mp4/two.mp4", 404), ("pipe", 400),
        ("", 400), ("one.mp4\0", 400), ("\0", 400), ("\ud800", 400), ("..", 400), ("films/../one.mp4", 400),
        ("{}/a/../elsewhere/secret.mp4", 400),
        ("out", 403), ("out/secret.mp4", 403), ("out/nothing", 403), ("out.mp4", 403),
        (".trash", 403), (".trash/gone.mp4", 403), ("to-hidden/gone.mp4", 403), (".nothing", 403),
        ("{}/elsewhere/secret.mp4", 403), ("{}/elsewhere/nothing.mp4", 403), ("{}/ab", 403), ("{}", 403), ("/", 403),
        ("/etc/passwd", 403), ("/etc/nothing", 403), ("/proc/self/root/etc/passwd", 403),
    ],
)  # fmt: skip
def test_what_is_not_is_refused(allowed: AllowedFolders, tmp_path: Path, path: str, status: int):
    path = path.format(tmp_path)
    found, detail = refused(allowed, path)
    assert (found, "\n" in detail) == (status, False), detail


def test_a_refusal_does_not_tell_what_is_elsewhere(allowed: AllowedFolders, tmp_path: Path):
    details = {
        refused(allowed, f"{tmp_path}/a/out/{name}")[1].replace(name, "") for name in ("secret.mp4", "other.mp4")
    }
    details |= {
        refused(allowed, f"{tmp_path}/a/.trash/{name}")[1].replace(".trash", "out").replace(name, "")
        for name in ("gone.mp4", "other")
    }
    assert len(details) == 1


def test_a_name_that_is_not_utf8_is_a_place_like_others(tmp_path: Path):
    name = os.fsdecode(b"bad\xff\n.mp4")
    (tmp_path / name).write_bytes(b"video")
    allowed = AllowedFolders([tmp_path])
    assert allowed.place(name) == f"{tmp_path}/{name}"
    (tmp_path / name).unlink()
    assert refused(allowed, name) == (404, "path bad\\udcff\\n.mp4: no such file or folder")


def test_a_link_that_is_put_in_later_is_seen(allowed: AllowedFolders, tmp_path: Path):
    file = allowed.place("films/two.mp4")
    assert allowed.contains(file)
    Path(file).unlink()
    Path(file).symlink_to(tmp_path / "elsewhere" / "secret.mp4")
    assert not allowed.contains(file)


def test_a_folder_that_is_hidden_may_be_named(tmp_path: Path):
    (tmp_path / ".videos").mkdir()
    (tmp_path / ".videos" / "one.mp4").write_bytes(b"video")
    assert AllowedFolders([tmp_path / ".videos"]).place("one.mp4") == f"{tmp_path}/.videos/one.mp4"
    with pytest.raises(VmrError, match=r"--allow-indexing .*/none: no such folder"):
        AllowedFolders([tmp_path / "none"])


@pytest.mark.parametrize(
    ("allow", "uploads", "said"),
    [
        ([], "a", "--upload-dir needs --allow-indexing"),
        (["a"], "b", "--upload-dir .*/b: is not below a folder of --allow-indexing"),
        (["a"], "a/none", "--upload-dir .*/none: no such folder"),
        (["a"], "a/.trash", "--upload-dir .*/.trash: is not below"),
        (["a"], "a/out", "--upload-dir .*/out: is not below"),
    ],
)
def test_options_that_cannot_be_are_named(
    allowed: AllowedFolders, tmp_path: Path, allow: list[str], uploads: str, said: str
):
    folders = tuple(tmp_path / each for each in allow)
    with pytest.raises(VmrError, match=said):
        jobs_of(ServiceOptions(tmp_path, allow_indexing=folders, upload_folder=tmp_path / uploads))
    assert not (tmp_path / "jobs").exists()


# Uploads


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.mp4", "a.mp4"), ("A clip.MOV", "A clip.MOV"), ("../../etc/a.mp4", "a.mp4"), ("C:\\videos\\a.mp4", "a.mp4"),
        ("/a.mp4", "a.mp4"), ("a\0b\n.mp4", "a_b_.mp4"), (" ..a.mp4. ", "a.mp4"), ("...a.mp4", "a.mp4"),
        ("<img src=x>.mp4", "<img src=x>.mp4"), ("u\u0308.mp4", "\u00fc.mp4"), ("\u202ea.mp4", "_a.mp4"),
        ("\u65e5" * 200 + ".mp4", "\u65e5" * 65 + ".mp4"), ("x" * 500 + ".mp4", "x" * 196 + ".mp4"),
    ],
)  # fmt: skip
def test_uploads_get_a_name_that_is_safe(given: str, name: str):
    assert safe_name(given) == name


@pytest.mark.parametrize("given", ["", ".", "..", "/", ".mp4", "a", "a.txt", "a.mp4/", "a.mp4/x.sh", "\0", "\ud800"])
def test_what_is_not_named_like_a_video_is_refused(given: str):
    with pytest.raises(HTTPException) as error:
        safe_name(given)
    assert error.value.status_code == 415 and "\n" not in error.value.detail


def test_no_upload_replaces_another(tmp_path: Path):
    for content in (b"1", b"2", b"3"):
        with NewFile(tmp_path) as file:
            file.write(content)
            assert [each.name for each in tmp_path.iterdir() if not each.name.startswith(".")] == sorted(
                f"a{number}.mp4" for number in ("", " (2)")[: int(content) - 1]
            )
            file.keep_as("a.mp4")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
        "a.mp4": b"1",
        "a (2).mp4": b"2",
        "a (3).mp4": b"3",
    }


def test_what_killed_services_received_in_part_is_removed(tmp_path: Path):
    gone, own, other = (f".upload-{number}-{'0a' * 8}.tmp" for number in (2**22 + 1, os.getpid(), os.getppid()))
    for name in (gone, own, other, ".upload-x.tmp", "a.mp4"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {other, ".upload-x.tmp", "a.mp4"}


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end


def part(name: bytes, data: bytes, filename: bytes | None = b"a.mp4") -> bytes:
    file = b"" if filename is None else b'; filename="' + filename + b'"'
    return b'Content-Disposition: form-data; name="' + name + b'"' + file + b"\r\n\r\n" + data


def received(folder: Path, body: bytes, kind: str = "multipart/form-data; boundary=B", size: int = 7) -> Path | int:
    """The file that came of a body, or the status of the refusal."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [{"type": "http.request", "body": each, "more_body": True} for each in pieces]
    messages[-1]["more_body"] = False

    async def next_message():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    try:
        return asyncio.run(receive(Request(scope, next_message), folder, 1000))
    except HTTPException as error:
        assert "\n" not in error.detail
        return error.status_code


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_form_becomes_a_file(tmp_path: Path, size: int):
    data = bytes(range(256)) + b"\r\n--B\r--"
    path = received(tmp_path, form(part(b"file", data)), size=size)
    assert isinstance(path, Path)
    assert path == tmp_path / "a.mp4" and path.read_bytes() == data


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(part(b"file", b"x" * 1001)), 413), (form(part(b"file", b"x", b"a.txt")), 415),
        (form(part(b"file", b"")), 422),
        (form(part(b"other", b"x")), 422), (form(part(b"file", b"x", None)), 422), (b"", 422), (b"no form at all", 422),
        (form(part(b"file", b"x"), part(b"file", b"y")), 422), (form(part(b"file", b"x"), end=b""), 422),
        (form(part(b"file", b"x" * 500))[:300], 422), (form(b"X: " + b"x" * 9000 + b"\r\n\r\nx"), 422),
    ],
)  # fmt: skip
def test_nothing_is_left_of_a_form_that_is_refused(tmp_path: Path, body: bytes, status: int):
    assert received(tmp_path, body) == status
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=B"])
def test_only_forms_are_read(tmp_path: Path, kind: str):
    assert received(tmp_path, form(part(b"file", b"x")), kind) == 415
    assert not list(tmp_path.iterdir())


# What is kept


def test_a_job_is_kept_as_it_is(tmp_path: Path):
    path = os.fsdecode(b"/videos/bad\xff\n.mp4")
    with closing(JobStore(tmp_path)) as store:
        added = store.add(path)
        assert (added.id, added.state, added.path) == (1, "queued", "/videos/bad\\udcff\\n.mp4")
        job, place = store.begin() or pytest.fail("no job")
        assert (job.state, place) == ("running", path) and job.started_at is not None
        job = job.model_copy(update={"progress": JobProgress(files_done=1, files_total=2, now="x"), "num_failed": 1})
        failure = JobFailure(path="b.mp4", reason="broken", revision=7)
        store.save(job, [failure])
        store.save(job, [failure])  # what was tried before
    with closing(JobStore(tmp_path)) as store:
        assert store.get(1) == job
        assert (store.failures(1), store.failures(1, 7), store.get(2)) == ([failure], [], None)


def test_jobs_wait_in_their_order(tmp_path: Path):
    with closing(JobStore(tmp_path)) as store, closing(JobStore(tmp_path)) as other:
        for name in ("a", "b", "c"):
            store.add(f"/{name}")
        other.cancel(2)
        assert [job.path for job in store.jobs()] == ["/c", "/b", "/a"]
        begun = [store.begin() for _ in range(3)]
        assert [each and each[1] for each in begun] == ["/a", "/c", None]
        store.cancel(1)
        store.cancel(2)
        states = {job.path: (job.state, job.is_cancelling) for job in other.jobs()}
        assert states == {"/a": ("running", True), "/b": ("cancelled", False), "/c": ("running", False)}


def test_jobs_of_a_server_that_ended_wait_again(tmp_path: Path):
    with closing(JobStore(tmp_path)) as store:
        for name in ("a", "b", "c"):
            store.add(f"/{name}")
        for _ in range(2):
            job, _ = store.begin() or pytest.fail("no job")
            store.save(
                job.model_copy(update={"num_embedded": 3, "num_failed": 1}),
                [JobFailure(path="x", reason="y", revision=2)],
            )
        store.cancel(2)
        store.take_back()
        jobs = {job.id: job for job in store.jobs()}
        assert [(job.state, job.is_cancelling, job.num_embedded) for _, job in sorted(jobs.items())] == [
            ("queued", False, 3), ("cancelled", False, 3), ("queued", False, 0)
        ]  # fmt: skip
        assert (store.failures(1), len(store.failures(2))) == ([], 1)
        assert jobs[1].revision > 1000 and jobs[2].ended_at is not None
        assert (store.begin() or pytest.fail("no job"))[1] == "/a"


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "MAX_ENDED", 3)
    monkeypatch.setattr(store_module, "MAX_WAITING", 2)
    with closing(JobStore(tmp_path)) as store:
        for number in range(6):
            store.add(f"/{number}")
            job, _ = store.begin() or pytest.fail("no job")
            store.save(job.model_copy(update={"state": "done"}), [JobFailure(path="x", reason="y", revision=2)])
        store.add("/6")
        assert [job.id for job in store.jobs()] == [7, 6, 5, 4]
        store.add("/7")
        with pytest.raises(HTTPException) as error:
            store.add("/8")
        assert error.value.status_code == 429
    with closing(sqlite3.connect(tmp_path / "jobs" / "jobs.db")) as database:
        assert database.execute("SELECT DISTINCT job FROM failures").fetchall() == [(4,), (5,), (6,)]


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path):
    (tmp_path / "jobs").mkdir()
    file = tmp_path / "jobs" / "jobs.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(VmrError, match=f"{file} is damaged .*: remove it; the index does not need it"):
        JobStore(tmp_path)
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(VmrError, match=f"{file} is of version 9, not 1"):
        JobStore(tmp_path)
    file.unlink()
    (tmp_path / "jobs").rmdir()
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(VmrError, match=r"jobs\.db: cannot be written"):
        JobStore(tmp_path)
