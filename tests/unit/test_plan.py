"""What an update plans to do with each file and each row of an index, by hand: no file is opened here."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from vmr.data.decoding.worker_process import DecodeFailure
from vmr.errors import VmrError
from vmr.retrieval.storage.records import FailedFile, FileState, Video
from vmr.retrieval.updating.listing import Listing, Roots, absolute, is_below, list_files
from vmr.retrieval.updating.plan import Job, UpdateOptions, content_hash, make_plan

SECOND = 1_000_000_000
LATER = 50 * SECOND  # long after every file was changed


def state(size: int = 100, mtime_s: float = 10, inode: int = 1, seen_ns: int = LATER) -> FileState:
    return FileState(size, int(mtime_s * SECOND), inode, seen_ns)


def video(path: str, content: bytes = b"a", number: int = 1, at: FileState | None = None, root: str = "/v") -> Video:
    return Video(root, path, content, at or state(inode=number), 2.0, (), number, {}, number, 1)


def listing(files: dict[str, FileState | None], folders=("/v",), failures=()) -> Listing:
    return Listing({f"/v/{name}" if name[0] != "/" else name: each for name, each in files.items()}, folders, failures)


class Disk:
    """The contents of files; notes which are read."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = {f"/v/{name}.mp4": content for name, content in contents.items()}
        self.read: list[str] = []

    def __call__(self, file: str) -> bytes | None:
        self.read.append(Path(file).stem)
        return self.contents.get(file)


def names(videos) -> list[str]:
    return [each.path for each in videos]


def pairs(moves) -> list[tuple[str, str]]:
    return [(each.path, Path(job.file).name) for each, job in moves]


def test_a_file_that_is_as_it_was_is_not_read():
    disk = Disk()
    known = [video("a.mp4", b"a", 1), video("sub/b.mp4", b"b", 2)]
    plan = make_plan(listing({"a.mp4": state(inode=1), "sub/b.mp4": state(inode=2)}), known, hash_of=disk)
    assert plan.unchanged == known and disk.read == []
    assert not (plan.refreshed or plan.moved or plan.copied or plan.gone or plan.jobs or plan.forgotten)


@pytest.mark.parametrize("new", [state(mtime_s=11), state(inode=7), state(mtime_s=9, inode=3)])
def test_a_file_with_another_time_or_inode_is_read(new):
    same, other = Disk(a=b"a"), Disk(a=b"x")
    known = [video("a.mp4")]
    plan = make_plan(listing({"a.mp4": new}), known, hash_of=same)
    assert plan.refreshed == [(known[0], new)] and same.read == ["a"] and not plan.jobs
    plan = make_plan(listing({"a.mp4": new}), known, hash_of=other)
    assert plan.jobs == [Job("/v/a.mp4", new, b"x")] and other.read == ["a"] and not plan.refreshed and not plan.gone


def test_a_file_of_another_size_has_changed():
    disk = Disk()
    plan = make_plan(listing({"a.mp4": state(size=101)}), [video("a.mp4")], hash_of=disk)
    assert plan.jobs == [Job("/v/a.mp4", state(size=101))] and disk.read == []


def test_a_file_that_was_seen_too_soon_after_it_changed_is_read():
    """It may have changed again within the resolution of its time: 2 s."""
    for seen_s, is_read in ((11.999, True), (12, False)):
        disk = Disk(a=b"a")
        known = [video("a.mp4", at=state(seen_ns=int(seen_s * SECOND)))]
        plan = make_plan(listing({"a.mp4": state()}), known, hash_of=disk)
        assert (disk.read == ["a"]) == is_read
        assert (plan.refreshed == [(known[0], state())]) == is_read and (plan.unchanged == known) != is_read


def test_every_file_is_read_on_request():
    disk = Disk(a=b"a", b=b"x")
    known = [video("a.mp4", b"a", 1), video("b.mp4", b"b", 2)]
    files = listing({"a.mp4": state(inode=1), "b.mp4": state(inode=2)})
    plan = make_plan(files, known, (), UpdateOptions(check_content=True), disk)
    assert names(plan.unchanged) == ["a.mp4"] and plan.jobs == [Job("/v/b.mp4", state(inode=2), b"x")]
    assert disk.read == ["a", "b"]


def test_a_content_that_is_not_known_is_embedded_again_unless_its_file_is_as_it_was():
    known = [video("a.mp4", b"")]
    assert make_plan(listing({"a.mp4": state()}), known, hash_of=Disk()).unchanged == known
    for new, update in ((state(mtime_s=11), UpdateOptions()), (state(), UpdateOptions(check_content=True))):
        plan = make_plan(listing({"a.mp4": new}), known, (), update, Disk(a=b"a"))
        assert [job.file for job in plan.jobs] == ["/v/a.mp4"]


def test_a_renamed_file_is_known_by_its_inode_and_not_read():
    disk = Disk()
    plan = make_plan(listing({"b.mp4": state()}), [video("a.mp4")], hash_of=disk)
    assert pairs(plan.moved) == [("a.mp4", "b.mp4")] and disk.read == [] and not plan.gone and not plan.jobs


def test_a_renamed_folder_is_read_nowhere():
    disk = Disk()
    known = [video(f"old/{number}.mp4", b"%d" % number, number) for number in range(5)]
    plan = make_plan(listing({f"new/{number}.mp4": state(inode=number) for number in range(5)}), known, hash_of=disk)
    assert pairs(plan.moved) == [(f"old/{number}.mp4", f"{number}.mp4") for number in range(5)] and disk.read == []


def test_a_file_that_came_from_another_disk_is_known_by_its_content():
    """Size and content are the same, time and inode are not. A file of a size that nothing has is not read."""
    disk = Disk(b=b"a", c=b"a")
    files = listing({"b.mp4": state(mtime_s=20, inode=9), "c.mp4": state(size=7, inode=8)})
    plan = make_plan(files, [video("a.mp4")], hash_of=disk)
    assert pairs(plan.moved) == [("a.mp4", "b.mp4")] and disk.read == ["b"]
    assert plan.jobs == [Job("/v/c.mp4", state(size=7, inode=8))]


def test_with_check_content_an_inode_proves_nothing():
    disk = Disk(b=b"x")
    plan = make_plan(listing({"b.mp4": state()}), [video("a.mp4")], (), UpdateOptions(check_content=True), disk)
    assert names(plan.gone) == ["a.mp4"] and plan.jobs == [Job("/v/b.mp4", state(), b"x")] and not plan.moved


def test_a_copy_of_a_video_that_is_still_there():
    disk = Disk(b=b"a")
    files = listing({"a.mp4": state(), "b.mp4": state(mtime_s=30, inode=2), "link.mp4": state()})
    plan = make_plan(files, [video("a.mp4")], hash_of=disk, is_there=lambda file: True)
    assert pairs(plan.copied) == [("a.mp4", "link.mp4"), ("a.mp4", "b.mp4")] and disk.read == ["b"]
    assert names(plan.unchanged) == ["a.mp4"] and not plan.moved and not plan.jobs
    assert plan.copied[1][1].content_hash == b"a"


def test_a_file_that_came_from_below_a_folder_that_was_not_named():
    """The very file is here: it was moved. Only its content is here: the other may come back, with its disk."""
    known = [video("a.mp4", b"a", 1, root="/w"), video("b.mp4", b"b", 2, state(inode=2), root="/w")]
    files = listing({"a.mp4": state(), "link.mp4": state(), "b.mp4": state(inode=9)})
    for is_there in (False, True):
        plan = make_plan(files, known, hash_of=Disk(b=b"b"), is_there=lambda file: is_there)  # noqa: B023
        moved, copied = pairs(plan.moved), pairs(plan.copied)
        assert moved == ([] if is_there else [("a.mp4", "a.mp4")])
        assert copied == [*([("a.mp4", "a.mp4")] if is_there else []), ("a.mp4", "link.mp4"), ("b.mp4", "b.mp4")]
        assert not plan.gone and not plan.jobs


def test_of_several_copies_of_a_gone_video_one_is_the_move():
    disk = Disk(b=b"a", c=b"a")
    plan = make_plan(listing({"b.mp4": state(inode=5), "c.mp4": state(inode=6)}), [video("a.mp4")], hash_of=disk)
    assert pairs(plan.moved) == [("a.mp4", "b.mp4")] and pairs(plan.copied) == [("a.mp4", "c.mp4")]


def test_among_gone_videos_of_one_content_that_with_the_same_name_is_moved():
    disk = Disk()
    disk.contents = {"/v/y/b.mp4": b"a"}
    known = [video("x/a.mp4", b"a", 1), video("x/b.mp4", b"a", 2)]
    plan = make_plan(listing({"y/b.mp4": state(inode=9)}), known, hash_of=disk)
    assert pairs(plan.moved) == [("x/b.mp4", "b.mp4")] and names(plan.gone) == ["x/a.mp4"]


def test_two_files_that_have_changed_places():
    known = [video("a.mp4", b"a", 1), video("b.mp4", b"b", 2, state(size=5, inode=2))]
    disk = Disk()
    plan = make_plan(listing({"a.mp4": state(size=5, inode=2), "b.mp4": state(inode=1)}), known, hash_of=disk)
    assert sorted(pairs(plan.moved)) == [("a.mp4", "b.mp4"), ("b.mp4", "a.mp4")]
    assert not plan.jobs and not plan.gone and disk.read == []


def test_a_file_that_replaced_another():
    known = [video("a.mp4", b"a", 1), video("b.mp4", b"b", 2)]
    disk = Disk(a=b"b")
    plan = make_plan(listing({"a.mp4": state(inode=2)}), known, hash_of=disk)  # mv b.mp4 a.mp4
    assert pairs(plan.moved) == [("b.mp4", "a.mp4")] and not plan.jobs and not plan.gone


def test_a_hash_that_cannot_be_computed_leaves_the_file_to_the_decoder():
    plan = make_plan(listing({"a.mp4": state(inode=3), "b.mp4": state(inode=4)}), [video("a.mp4")], hash_of=Disk())
    assert [job.file for job in plan.jobs] == ["/v/a.mp4", "/v/b.mp4"]
    assert all(job.content_hash is None for job in plan.jobs)


def test_what_is_gone():
    known = [video("a.mp4", b"a", 1), video("b.mp4", b"b", 2), video("c.mp4", b"c", 3, root="/elsewhere")]
    files = listing({"a.mp4": state()})
    assert names(make_plan(files, known, hash_of=Disk()).gone) == ["b.mp4"]
    plan = make_plan(files, known, (), UpdateOptions(keep_missing=True), Disk())
    assert names(plan.kept) == ["b.mp4"] and plan.gone == []
    # A list of files says nothing about other files of their folder, but those that it names may be gone.
    assert make_plan(listing({"a.mp4": state()}, folders=()), known, hash_of=Disk()).gone == []
    assert names(make_plan(listing({"b.mp4": None}, folders=()), known, hash_of=Disk()).gone) == ["b.mp4"]


def test_a_missing_video_that_is_kept_is_moved_all_the_same():
    plan = make_plan(listing({"b.mp4": state()}), [video("a.mp4")], (), UpdateOptions(keep_missing=True), Disk())
    assert pairs(plan.moved) == [("a.mp4", "b.mp4")] and plan.kept == []


def test_nothing_is_gone_below_a_folder_that_cannot_be_listed():
    known = [video("sub/a.mp4", b"a", 1), video("sub/deep/b.mp4", b"b", 2), video("subway.mp4", b"c", 3)]
    files = listing({"x.mp4": state(size=1)}, failures=(DecodeFailure("/v/sub", "cannot list this folder"),))
    failures = [FailedFile("/v", "sub/deep", None, "x"), FailedFile("/v", "other", None, "x")]
    plan = make_plan(files, known, failures, hash_of=Disk())
    assert names(plan.gone) == ["subway.mp4"] and names(plan.forgotten) == ["other"]


def test_failures_are_tried_again_when_the_file_has_changed():
    def plan(before: FileState | None, now: FileState | None, update: UpdateOptions = UpdateOptions()):
        failures = [FailedFile("/v", "a.mp4", before, "broken")]
        done = make_plan(listing({"a.mp4": now}), [], failures, update, Disk())
        assert len(done.failed_before) + len(done.jobs) == 1 and not done.forgotten
        return done.failed_before == failures

    assert plan(state(), state(seen_ns=2 * LATER))
    assert not plan(state(), state(), UpdateOptions(retry_failed=True))
    assert not plan(state(), state(mtime_s=11)) and not plan(state(), state(size=1)) and not plan(state(), None)
    assert not plan(None, state())  # it changed while it was read
    assert not plan(state(seen_ns=11 * SECOND), state())  # it may have changed since


def test_failures_that_are_no_longer_true_are_forgotten():
    failures = [FailedFile("/v", name, at, "x") for name, at in (("gone.mp4", state()), ("a.mp4", None))]
    failures.append(FailedFile("/elsewhere", "b.mp4", state(), "x"))
    plan = make_plan(listing({"a.mp4": state()}), [video("a.mp4")], failures, hash_of=Disk())
    assert names(plan.forgotten) == ["a.mp4", "gone.mp4"]


def test_ten_thousand_files_that_have_not_changed_are_compared_at_once():
    known = [video(f"{number}.mp4", b"%d" % number, number) for number in range(10_000)]
    files = listing({f"{number}.mp4": state(inode=number) for number in range(10_000)})
    begin = time.process_time()
    assert len(make_plan(files, known, hash_of=Disk()).unchanged) == 10_000
    assert time.process_time() - begin < 2


# --- files and roots --------------------------------------------------------------------------------------------------


def test_the_files_of_folders_and_lists(tmp_path, monkeypatch):
    for name in ("a.mp4", "sub/b.mp4", "sub/notes.txt", "other/c.mkv", "odd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    found = list_files(["sub", tmp_path / "other", "odd", "gone.mp4", Path("sub/../a.mp4")])
    assert list(found.files) == [
        f"{tmp_path}/{name}" for name in ("sub/b.mp4", "other/c.mkv", "odd", "gone.mp4", "a.mp4")
    ]
    assert found.files[f"{tmp_path}/odd"].size == 5 and found.files[f"{tmp_path}/gone.mp4"] is None
    assert found.folders == (f"{tmp_path}/sub", f"{tmp_path}/other")
    assert found.other_files == {f"{tmp_path}/sub": {".txt": 1}, f"{tmp_path}/other": {}}
    assert list(list_files(".").files)[-1] == f"{tmp_path}/sub/b.mp4"
    assert list(list_files("a.mp4").files) == [f"{tmp_path}/a.mp4"] and list_files("a.mp4").folders == ()
    assert list(list_files([tmp_path, "sub"]).files).count(f"{tmp_path}/sub/b.mp4") == 1


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], "no videos given: name a folder or a list of files"),
        ("nowhere", "nowhere: no such folder"),
        (["a.mp4", "nowhere"], "nowhere: no such folder"),
        (["a.mp4", "empty"], "empty: no video in this folder or below it"),
        (5, "expected a list of paths, got 5"),
    ],
)
def test_what_cannot_be_listed(tmp_path, monkeypatch, named, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"1")
    with pytest.raises(VmrError) as caught:
        list_files(named)
    assert str(caught.value) == said


def test_a_folder_that_cannot_be_listed_hides_what_is_below(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"1")
    files = replace(list_files(tmp_path), failures=(DecodeFailure(f"{tmp_path}/sub", "cannot list this folder"),))
    assert files.covers(f"{tmp_path}/b.mp4") and files.covers(f"{tmp_path}/subway/b.mp4")
    assert not files.covers(f"{tmp_path}/sub/b.mp4") and not files.covers(f"{tmp_path}x/b.mp4")


def test_roots():
    def places(known, folders, files):
        roots = Roots(known, Listing(dict.fromkeys(files), tuple(folders)))
        return [roots.place(file) for file in files]

    assert places([], ["/a"], ["/a/x", "/a/b/y"]) == [("/a", "x"), ("/a", "b/y")]
    assert places(["/a"], ["/a/b"], ["/a/b/y"]) == [("/a", "b/y")]
    assert places(["/a/b"], ["/a"], ["/a/x", "/a/b/y"]) == [("/a", "x"), ("/a/b", "y")]
    assert places([], ["/a/b", "/a"], ["/a/b/y"]) == [("/a", "b/y")]
    assert places([], ["/ab", "/a"], ["/ab/y"]) == [("/ab", "y")]
    assert places([], [], ["/a/b/x", "/a/c/d/y"]) == [("/a", "b/x"), ("/a", "c/d/y")]
    assert places([], [], ["/a/x"]) == [("/a", "x")]
    assert places(["/a"], [], ["/a/x", "/b/c/y"]) == [("/a", "x"), ("/b/c", "y")]
    assert places([], [], ["/a/x", "/b/y"]) == [("/", "a/x"), ("/", "b/y")]
    assert places(["/"], ["/a"], ["/a/x"]) == [("/", "a/x")]


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    assert absolute("x.mp4") == f"{tmp_path}/x.mp4" and absolute("real/../x") == f"{tmp_path}/x"
    assert absolute("link/x") == f"{tmp_path}/link/x"
    assert absolute("link/../x") == f"{tmp_path.resolve()}/real/x"  # not what is beside the link
    assert is_below("/a/b", "/a") and is_below("/a", "/a") and is_below("/a", "/") and not is_below("/ab", "/a")


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest = content_hash(str(tmp_path / "a"))
    assert digest.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_hash(str(tmp_path / "b")) is None
