"""Watching folders: real files, the real watcher of the system and a small index that remembers what it read."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vmr
from tests.video_matrix import X264, Recipe, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.discovery.find import find_videos
from vmr.errors import VmrError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.settling import Settling, is_being_written
from vmr.retrieval.updating.watch import watch_folders, watch_index

SETTLE_S = 0.3
ONE_WORKER = DecodeOptions(num_workers=1)


class Mirror:
    """An index that holds the bytes of each file: it can tell whether a file was read half."""

    def __init__(self):
        self.content, self.states, self.runs, self.error = {}, {}, 0, None

    def __call__(self, folders, hooks):
        self.runs += 1
        if self.error is not None:
            raise self.error
        found = {str(path): FileState.of(path) for path in find_videos(list(folders), may_be_empty=True)}
        for path in [path for path in self.content if path not in found and any(path.startswith(f) for f in folders)]:
            del self.content[path], self.states[path]
            hooks.tell(f"removed: {Path(path).name}")
        for path, state in found.items():
            if state is None or (path in self.states and self.states[path].is_same(state)) or hooks.hold(path, state):
                continue
            with contextlib.suppress(FileNotFoundError):
                self.content[path], self.states[path] = Path(path).read_bytes(), state
                hooks.tell(f"embedded: {Path(path).name}")

    def names(self):
        return {Path(path).name for path in self.content}


class Watched:
    """A watch in this thread, and what another thread does to its folder meanwhile."""

    def __init__(self, folder, mirror):
        self.folder, self.mirror, self.lines, self.failure = folder, mirror, [], None
        self.stop_signal = signal.SIGTERM

    def until(self, is_so, within_s=20.0):
        end_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > end_s:
                pytest.fail("\n".join(["it did not come:", *self.lines[-20:]]))
            time.sleep(0.02)

    def said(self, line):
        self.until(lambda: any(line in each for each in self.lines))

    def run(self, act, folders=None, **options):
        def drive():
            try:
                self.said("watching")
                act(self)
            except BaseException as error:  # told by the main thread
                self.failure = error
            finally:
                os.kill(os.getpid(), self.stop_signal)

        thread = threading.Thread(target=drive)
        thread.start()
        try:
            options = {"settle_s": SETTLE_S, **options}
            watch_folders(folders or [self.folder], self.mirror, say=self.lines.append, **options)
        finally:
            thread.join()
        if self.failure is not None:
            raise self.failure
        assert self.lines[-1] == "stopped"


@pytest.fixture
def mirror():
    return Mirror()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/.keep").touch()  # an empty folder may be a disk that is not mounted
    return tmp_path / "videos"


@pytest.fixture
def watched(folder, mirror):
    return Watched(folder, mirror)


@pytest.fixture
def video_folder():
    """A folder that every user may reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


# What happens to files


def test_it_catches_up_and_then_follows_what_comes_changes_moves_and_goes(watched, folder, mirror):
    (folder / "before.mp4").write_bytes(b"before")

    def act(watched):
        assert mirror.names() == {"before.mp4"} or watched.said("embedded: before.mp4") is None
        (folder / "a.mp4").write_bytes(b"a")
        (folder / "notes.txt").write_text("no video")
        watched.said("embedded: a.mp4")
        (folder / "a.mp4").write_bytes(b"changed")
        watched.until(lambda: mirror.content.get(str(folder / "a.mp4")) == b"changed")
        (folder / "deep/er").mkdir(parents=True)
        (folder / "deep/er/b.mp4").write_bytes(b"b")
        watched.said("embedded: b.mp4")
        (folder / "deep").rename(folder / "moved")
        watched.until(lambda: str(folder / "moved/er/b.mp4") in mirror.content and len(mirror.content) == 3)
        (folder / "moved/er/b.mp4").unlink()
        watched.until(lambda: mirror.names() == {"before.mp4", "a.mp4"})
        shutil.rmtree(folder / "moved")
        (folder / "before.mp4").unlink()
        watched.until(lambda: mirror.names() == {"a.mp4"})
        (folder / "a.mp4").unlink()  # the last one
        watched.until(lambda: not mirror.content)

    watched.run(act)
    assert watched.lines.count("embedded: before.mp4") == 1
    assert not any("notes" in line for line in watched.lines)


def test_a_file_that_grows_is_read_when_it_is_whole(watched, folder, mirror):
    read = []

    def grow(pause_s, is_open):
        for number in range(12):
            with (folder / "growing.mp4").open("ab" if number else "wb") as file:
                file.write(b"part of it")
                file.flush()
                time.sleep(pause_s if is_open else 0)
            time.sleep(0 if is_open else pause_s)

    def act(watched):
        for pause_s, is_open in ((SETTLE_S / 3, False), (SETTLE_S * 2, True)):  # slowly, and open between its parts
            grow(pause_s, is_open)
            watched.until(lambda: mirror.content.get(str(folder / "growing.mp4")) == b"part of it" * 12)
            read.append(mirror.content.pop(str(folder / "growing.mp4")))
            mirror.states.clear()
            (folder / "growing.mp4").unlink()
            time.sleep(4 * SETTLE_S)

    watched.run(act)
    assert watched.lines.count("embedded: growing.mp4") == 2
    assert read == [b"part of it" * 12] * 2


def test_a_file_that_a_program_has_open_waits_until_it_is_closed(watched, folder, mirror):
    def act(watched):
        with (folder / "open.mp4").open("wb") as file:
            file.write(b"half")
            file.flush()
            (folder / "other.mp4").write_bytes(b"other")
            watched.said("embedded: other.mp4")
            time.sleep(4 * SETTLE_S)
            assert mirror.names() == {"other.mp4"}
            file.write(b"half")
        watched.said("embedded: open.mp4")
        assert mirror.content[str(folder / "open.mp4")] == b"halfhalf"

    watched.run(act)


def test_a_download_that_is_renamed_when_it_is_whole_is_read_once(watched, folder, mirror):
    def act(watched):
        for name in (".a.mp4.x3Xy", "b.mp4.part"):
            (folder / name).write_bytes(b"whole")
        time.sleep(3 * SETTLE_S)
        assert not mirror.content
        (folder / ".a.mp4.x3Xy").rename(folder / "a.mp4")
        (folder / "b.mp4.part").rename(folder / "b.mp4")
        watched.until(lambda: mirror.names() == {"a.mp4", "b.mp4"})

    watched.run(act)
    assert sorted(line for line in watched.lines if "embedded" in line) == ["embedded: a.mp4", "embedded: b.mp4"]


def test_a_burst_of_thousands_of_files_takes_few_updates(watched, folder, mirror):
    def act(watched):
        for number in range(3000):
            if number % 100 == 0:
                (folder / str(number)).mkdir()
            (folder / str(number // 100 * 100) / f"{number}.mp4").write_bytes(b"x")
        for number in range(0, 3000, 3):
            (folder / str(number // 100 * 100) / f"{number}.mp4").unlink()
        watched.until(lambda: len(mirror.content) == 2000, 60)
        runs.append(mirror.runs)
        time.sleep(10 * SETTLE_S)
        runs.append(mirror.runs)

    runs = []
    watched.run(act)
    assert runs[0] < 30
    assert runs[1] - runs[0] <= 2  # then it is quiet
    assert set(mirror.names()) == {f"{number}.mp4" for number in range(3000) if number % 3}


def test_files_that_vanish_between_the_sign_and_the_reading_are_no_errors(watched, folder, mirror):
    is_over = threading.Event()

    def come_and_go():
        while not is_over.is_set():
            for number in range(20):
                (folder / f"{number}.mp4").write_bytes(b"x")
            time.sleep(0.02)
            for number in range(20):
                (folder / f"{number}.mp4").unlink()

    def act(watched):
        other = threading.Thread(target=come_and_go)
        other.start()
        time.sleep(12 * SETTLE_S)
        (folder / "stays.mp4").write_bytes(b"stays")
        watched.said("embedded: stays.mp4")  # although changes do not end
        is_over.set()
        other.join()
        watched.until(lambda: mirror.names() == {"stays.mp4"})

    watched.run(act)


# Folders


@pytest.mark.parametrize("poll", [False, True])
def test_a_folder_that_vanishes_keeps_its_videos_and_is_followed_when_it_is_back(
    watched, folder, mirror, tmp_path, poll
):
    (tmp_path / "second").mkdir()
    (tmp_path / "second/.keep").touch()
    (folder / "a.mp4").write_bytes(b"a")

    def act(watched):
        watched.said("embedded: a.mp4")
        folder.rename(tmp_path / "elsewhere")
        watched.said(f"{folder} is gone: its videos stay in the index until it is back")
        (tmp_path / "second/b.mp4").write_bytes(b"b")
        watched.said("embedded: b.mp4")  # the other folder is watched
        assert mirror.names() == {"a.mp4", "b.mp4"}
        (tmp_path / "elsewhere/c.mp4").write_bytes(b"c")  # nobody looks
        (tmp_path / "elsewhere").rename(folder)
        watched.said(f"{folder} is back")
        watched.said("embedded: c.mp4")
        shutil.rmtree(folder)
        watched.until(lambda: sum("is gone" in line for line in watched.lines) == 2)
        folder.mkdir()  # another folder of this name, such as the place of a disk that is not mounted
        watched.said(f"{folder} is empty: videos that were in it stay in the index until something is in it")
        time.sleep(3 * SETTLE_S)
        assert mirror.names() == {"a.mp4", "b.mp4", "c.mp4"}
        (folder / "d.mp4").write_bytes(b"d")
        watched.until(lambda: mirror.names() == {"b.mp4", "d.mp4"})

    watched.run(act, [folder, tmp_path / "second"], poll=poll)
    assert watched.lines.count("embedded: a.mp4") == 1


def test_an_update_that_takes_long_does_not_make_looking_rare(folder, mirror):
    class Busy(Mirror):
        def __call__(self, folders, hooks):
            end_s = time.thread_time() + 1.0
            while self.runs == 0 and time.thread_time() < end_s:
                pass
            hooks.tell("has done something")  # else the next update is put off
            super().__call__(folders, hooks)

    watched = Watched(folder, Busy())

    def act(watched):
        (folder / "a.mp4").write_bytes(b"a")
        watched.until(lambda: "embedded: a.mp4" in watched.lines, 10)

    watched.run(act, poll=True)


def test_what_lies_in_hidden_folders_and_in_the_index_is_no_change(watched, folder, mirror):
    (folder / "index").mkdir()
    (folder / ".cache").mkdir()

    def act(watched):
        time.sleep(2 * SETTLE_S)
        runs.append(mirror.runs)
        for number in range(20):
            (folder / "index/index.db-wal").write_bytes(bytes(number))
            (folder / ".cache/thumbnail.mp4").write_bytes(bytes(number))
            (folder / ".hidden.mp4").write_bytes(bytes(number))
            time.sleep(SETTLE_S / 4)
        time.sleep(2 * SETTLE_S)
        runs.append(mirror.runs)
        (folder / "indexed.mp4").write_bytes(b"x")  # its name begins as that of the index does
        for number in range(1000):  # what does not matter holds nothing up
            (folder / "index/index.db-wal").write_bytes(bytes(number))
            time.sleep(0.01)
            if "embedded: indexed.mp4" in watched.lines:
                break
        assert number < 999

    runs = []
    watched.run(act, ignored=[folder / "index"])
    assert runs[0] == runs[1]


def test_an_idle_watch_does_nothing(watched, mirror):
    def act(watched):
        time.sleep(2 * SETTLE_S)
        before = mirror.runs, time.process_time()
        time.sleep(3)
        used.append((mirror.runs - before[0], time.process_time() - before[1]))

    used = []
    watched.run(act)
    assert used[0][0] == 0
    assert used[0][1] < 0.6  # of 3 s


def test_a_folder_that_is_empty_at_first_is_followed_and_may_be_emptied_later(watched, folder, mirror):
    (folder / ".keep").unlink()

    def put_one():
        watched.said(f"{folder} is empty")
        (folder / "a.mp4").write_bytes(b"a")

    def act(watched):
        watched.said("embedded: a.mp4")
        (folder / "a.mp4").unlink()
        watched.said("removed: a.mp4")

    first = threading.Thread(target=put_one)
    first.start()
    watched.run(act)
    first.join()
    assert not mirror.content


# Errors


def test_an_error_is_said_once_and_the_update_is_tried_again(watched, folder, mirror, monkeypatch):
    monkeypatch.setattr("vmr.retrieval.updating.watch._RETRY_S", 0.2)

    def act(watched):
        for error in (VmrError("index: no space left on device"), OSError(5, "Input/output error")):
            mirror.error = error
            (folder / f"{type(error).__name__}.mp4").write_bytes(b"a")
            watched.said(f"not updated: {error}")
            runs = mirror.runs
            watched.until(lambda runs=runs: mirror.runs > runs + 1)
            mirror.error = None
            watched.said(f"embedded: {type(error).__name__}.mp4")

    watched.run(act)
    assert sum("not updated" in line for line in watched.lines) == 2


def test_the_first_error_ends_it(folder, mirror):
    mirror.error = VmrError("index was built by another encoder")
    with pytest.raises(VmrError, match="another encoder"):
        watch_folders([folder], mirror, settle_s=SETTLE_S)
    assert mirror.runs == 1


def test_wrong_arguments(folder, mirror):
    for folders, options, said in (
        ([folder / "none"], {}, "none: no such folder"),
        ([folder], {"settle_s": 0}, "settle_s is 0"),
        ([folder], {"settle_s": float("inf")}, "settle_s is inf"),
        ([3], {}, "folder is 3"),
    ):
        with pytest.raises(VmrError, match=said):
            watch_folders(folders, mirror, **options)
    assert mirror.runs == 0


# Ends


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_video_in_flight(watched, folder, mirror, stop):
    for number in range(50):
        (folder / f"{number:02}.mp4").write_bytes(b"x")
    past = time.time() - 100
    for path in folder.iterdir():
        os.utime(path, (past, past))

    class Slow(Mirror):
        def __call__(self, folders, hooks):
            def slowly(line):
                time.sleep(0.05)
                hooks.tell(line)

            super().__call__(folders, replace(hooks, tell=slowly))

    slow, before = Slow(), signal.getsignal(stop)
    lines = []

    def stop_when_begun():
        while not lines:
            time.sleep(0.01)
        os.kill(os.getpid(), stop)

    threading.Thread(target=stop_when_begun, daemon=True).start()
    watch_folders([folder], slow, settle_s=SETTLE_S, say=lines.append)
    assert lines[-1] == "stopped"
    assert 0 < len(slow.content) == len(lines) - 1 < 50  # each that was begun was finished and told
    assert signal.getsignal(stop) == before


PROGRAM = """
import sys
from vmr.data.discovery.find import find_videos
from vmr.retrieval.updating import watch

def update(folders, hooks):
    for path in find_videos(list(folders), may_be_empty=True):
        if path not in known:
            known.add(path)
            hooks.tell(f"embedded: {path.name}")

known = set()
watch._RESCAN_S = float(sys.argv[2])
watch.watch_folders([sys.argv[1]], update, settle_s=0.3, say=lambda line: print(line, flush=True))
"""


@contextlib.contextmanager
def limited(limit, number, folder, rescan_s=600.0):
    """The program, with a lower limit for it alone, in a namespace of its own: yields the lines that it prints."""
    lower = ["unshare", "-U", "-r", "sh", "-c", f'echo {number} > /proc/sys/user/{limit} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*lower, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare: this user may not lower the limit of inotify for one process")
    command = [*lower, sys.executable, "-c", PROGRAM, str(folder), str(rescan_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline
            process.terminate()
            assert process.stdout.readline() == "stopped\n"
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("limit", "number", "said"),
    [("max_inotify_watches", 2, "OS file watch limit reached"), ("max_inotify_instances", 0, "Error creating")],
)
def test_where_the_system_has_no_more_watches_all_files_are_looked_at(folder, limit, number, said):
    for name in "abcd":
        (folder / name).mkdir()
    with limited(limit, number, folder) as line:
        assert line().startswith(f"the system cannot watch ({said}")
        assert line().startswith("watching ")
        (folder / "c/new.mp4").write_bytes(b"x")
        assert line() == "embedded: new.mp4\n"


def test_what_the_system_does_not_tell_is_found_all_the_same(folder):
    """It says nothing when there is no watch left for a folder that is made later."""
    with limited("max_inotify_watches", 1, folder, rescan_s=0.5) as line:
        assert line().startswith("watching ")
        (folder / "a").mkdir()
        time.sleep(1)
        (folder / "a/new.mp4").write_bytes(b"x")
        assert line() == "embedded: new.mp4\n"


def test_a_folder_that_may_not_be_listed_does_not_end_it(mirror, video_folder):
    """The system refuses to watch it, so all files are looked at."""
    (video_folder / "locked").mkdir()
    watched = Watched(video_folder, mirror)

    def act(watched):
        (video_folder / "a.mp4").write_bytes(b"x")
        watched.said("embedded: a.mp4")
        (video_folder / "locked").chmod(0o755)
        (video_folder / "locked/b.mp4").write_bytes(b"x")
        watched.said("embedded: b.mp4")

    (video_folder / "locked").chmod(0)
    if os.geteuid() == 0:
        for path in (video_folder, video_folder / "locked"):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
    try:
        watched.run(act)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    assert watched.lines[0].startswith("the system cannot watch (Permission denied")


# Settling, by hand


def state(path, seconds_ago):
    at = time.time() - seconds_ago
    os.utime(path, (at, at))
    return FileState.of(path)


def test_young_files_wait_until_they_have_been_the_same_for_a_while(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a")
    settling = Settling(0.2)
    assert settling.waits(str(path), state(path, 0.1))
    assert settling.waiting == {str(path)}
    assert not settling.any_settled()
    time.sleep(0.25)
    assert settling.any_settled()
    assert settling.waiting == set()
    path.write_bytes(b"more")
    assert settling.waits(str(path), FileState.of(path))
    path.unlink()
    assert settling.any_settled()
    assert settling.waiting == set()


def test_old_files_do_not_wait_and_files_from_the_future_are_timed_by_hand(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a")
    settling = Settling(0.2)
    assert not settling.waits(str(path), state(path, 0.3))
    future = state(path, -3600)
    assert settling.waits(str(path), future)
    time.sleep(0.25)
    assert not settling.waits(str(path), FileState.of(path))
    path.write_bytes(b"changed")
    assert settling.waits(str(path), state(path, -3600))


def test_a_file_that_stays_open_is_read_in_the_end(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.write(b"a")
        file.flush()
        settling = Settling(0.2)
        assert settling.waits(str(path), state(path, 50))  # closed files of this age do not wait
        assert not settling.waits(str(path), state(path, 61))
        assert Settling(10).waits(str(path), state(path, 90))
        assert not Settling(10).waits(str(path), state(path, 101))
    assert not settling.waits(str(path), state(path, 50))


def test_who_has_a_file_open(tmp_path):
    path = tmp_path / "a.mp4"
    assert not is_being_written(path)  # there is none
    path.write_bytes(b"a")
    assert not is_being_written(path)
    with path.open("rb"):
        assert not is_being_written(path)
    with path.open("r+b"):
        assert is_being_written(path)
    program = "import sys; f = open(sys.argv[1], 'ab'); print(flush=True); input()"
    command = [sys.executable, "-c", program, str(path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with writer:
        writer.stdout.readline()
        assert is_being_written(path)
        writer.communicate(b"\n")
    assert not is_being_written(path)
    os.mkfifo(tmp_path / "fifo")
    assert not is_being_written(tmp_path / "fifo")  # and does not wait for a writer


# With a real index


class MeanColours:
    """The vector of a video is its mean red, green and blue."""

    name, about, embed_dim, fingerprint = "colours", "for tests", 3, "c" * 16
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)

    def encode_video(self, video):
        return torch.nn.functional.normalize(video.float().mean(dim=(1, 3, 4)), dim=1)

    def encode_text(self, texts):
        return torch.ones(len(texts), 3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three different videos of 1 s."""
    made = tmp_path_factory.mktemp("clips")
    recipes = [Recipe(options=X264, num_frames=25, gop=gop) for gop in (5, 8, 13)]
    return [write_video(made / f"{number}.mp4", recipe).read_bytes() for number, recipe in enumerate(recipes)]


def indexed(out):
    with IndexReader(out) as reader, reader.snapshot() as snapshot:
        return {Path(video.path).name for video in snapshot.videos()}


def test_an_index_follows_its_folder(folder, tmp_path, clips):
    out = folder / "index"  # below the folder that is watched
    watched = Watched(folder, None)

    def drive():
        try:
            watched.said("watching")
            assert indexed(out) == set()  # it is made without any video
            (folder / "a.mp4").write_bytes(clips[0])
            watched.said(f"embedded: {folder}/a.mp4")
            with (folder / "b.mp4").open("wb") as file:  # as a slow copy
                for start in range(0, len(clips[1]), 3000):
                    file.write(clips[1][start : start + 3000])
                    file.flush()
                    time.sleep(SETTLE_S / 2)
            watched.said(f"embedded: {folder}/b.mp4")
            time.sleep(3 * SETTLE_S)
            with IndexWriter(out):  # the lock is free while nothing happens
                pass
            (folder / "a.mp4").rename(folder / "c.mp4")
            watched.said(f"renamed: {folder}/a.mp4 -> {folder}/c.mp4")
            (folder / "broken.mp4").write_bytes(clips[2][: len(clips[2]) // 2])
            watched.said(f"left out: {folder}/broken.mp4: mp4 without its index")
            (folder / "broken.mp4").write_bytes(clips[2])
            watched.said(f"embedded: {folder}/broken.mp4")
            assert indexed(out) == {"b.mp4", "c.mp4", "broken.mp4"}
            for name in ("b.mp4", "c.mp4", "broken.mp4"):
                (folder / name).unlink()
            watched.until(lambda: indexed(out) == set())
        except BaseException as error:
            watched.failure = error
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        watch_index(
            [folder],
            out,
            MeanColours(),
            SegmentOptions(window_s=1.0),
            decode=ONE_WORKER,
            settle_s=SETTLE_S,
            say=watched.lines.append,
        )
    finally:
        thread.join()
    assert watched.failure is None, watched.failure
    assert watched.lines[-1] == "stopped"
    assert sum("left out" in line for line in watched.lines) == 1  # no half of a slow copy
    assert verify(out) == []


def test_a_file_that_goes_while_folders_are_listed_or_it_is_read_is_no_failure(folder, tmp_path, clips, monkeypatch):
    out, lines = tmp_path / "index", []
    for name in ("moved.mp4", "removed.mp4", "stays.mp4"):
        (folder / name).write_bytes(clips[0] + name.encode())
        os.utime(folder / name, (1e9, 1e9))
    of = FileState.of

    def move(path):
        if Path(path).name == "moved.mp4":  # after its folder was listed, and before it is looked at
            Path(path).rename(folder / "new.mp4")
        return of(path)

    class Slow(MeanColours):
        def encode_video(self, video):
            (folder / "removed.mp4").unlink(missing_ok=True)
            return super().encode_video(video)

    def say(line):
        lines.append(line)
        if line.startswith("watching"):
            os.kill(os.getpid(), signal.SIGTERM)

    options = {"segments": SegmentOptions(window_s=1.0), "decode": ONE_WORKER, "settle_s": SETTLE_S}
    watch_index([folder], out, MeanColours(), say=say, **options)
    assert indexed(out) == {"moved.mp4", "removed.mp4", "stays.mp4"}
    (folder / "removed.mp4").write_bytes(clips[1])
    os.utime(folder / "removed.mp4", (1e9, 1e9))
    monkeypatch.setattr(FileState, "of", move)
    watch_index([folder], out, Slow(), say=say, **options)
    monkeypatch.undo()
    assert indexed(out) == {"moved.mp4", "removed.mp4", "stays.mp4"}  # what they were; the next update decides
    watch_index([folder], out, MeanColours(), say=say, **options)
    assert indexed(out) == {"new.mp4", "stays.mp4"}
    assert f"renamed: {folder}/moved.mp4 -> {folder}/new.mp4" in lines
    assert not any("left out" in line for line in lines)


def test_a_signal_ends_an_update_after_the_video_in_flight_and_the_next_watch_goes_on(folder, tmp_path, clips):
    for number in range(12):
        (folder / f"{number}.mp4").write_bytes(clips[0] + bytes(number))
        os.utime(folder / f"{number}.mp4", (1e9, 1e9))

    class Slow(MeanColours):
        def encode_video(self, video):
            time.sleep(0.1)
            return super().encode_video(video)

    out, lines = tmp_path / "index", []

    def say(line):
        lines.append(line)
        if len(lines) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    options = {"segments": SegmentOptions(window_s=1.0), "decode": ONE_WORKER, "settle_s": SETTLE_S}
    watch_index([folder], out, Slow(), say=say, **options)
    assert lines[-1] == "stopped"
    assert 3 <= len(indexed(out)) == len(lines) - 1 < 12

    def until_caught_up(line):
        lines.append(line)
        if line.startswith("watching"):
            os.kill(os.getpid(), signal.SIGINT)

    watch_index([folder], out, Slow(), say=until_caught_up, **options)
    assert len(indexed(out)) == 12
    assert sorted(line for line in lines if "embedded" in line) == sorted(
        f"embedded: {folder}/{n}.mp4" for n in range(12)
    )
