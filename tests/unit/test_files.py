"""Writing: what a library does not say, what is read back, folders, and files that grow.

`tests/integration/test_write_faults.py` runs all writers on a disk that fails; here are the cases that it cannot bring
about.
"""

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

from vmr import files
from vmr.errors import VmrError
from vmr.files import AppendedFile, remove_folder, remove_unnamed, write_atomically, write_folder_atomically


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def full(monkeypatch) -> list[int]:
    """Writes fail from the second on. Appending to the list makes room again."""
    sizes: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        if len(sizes) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    return sizes


def test_bytes_and_functions_are_written(tmp_path):
    data = bytes(range(256)) * 100
    path = tmp_path / "new" / "deep" / "a.bin"
    assert write_atomically(path, data) == hashlib.sha256(data).hexdigest()
    assert write_atomically(path, memoryview(data)) == hashlib.sha256(data).hexdigest()
    assert path.read_bytes() == data

    def in_pieces(file):
        assert file.writable() and file.tell() == 0
        file.write(data[:7])
        file.write(b"")
        file.write(memoryview(data[7:]))
        assert file.tell() == len(data)

    assert write_atomically(path, in_pieces, lasting=False) == hashlib.sha256(data).hexdigest()
    assert path.read_bytes() == data
    assert names_in(tmp_path) == ["new", "new/deep", "new/deep/a.bin"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o026)
    try:
        write_atomically(tmp_path / "a", b"1")
        write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o751
    assert stat.S_IMODE((tmp_path / "f" / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("swallow", [False, True], ids=["raises its own error", "says nothing"])
def test_an_error_that_a_library_hides_is_found(tmp_path, full, swallow):
    (tmp_path / "a").write_bytes(b"old")
    full.clear()

    def library(file):
        for _ in range(3):
            try:
                file.write(b"new")
            except VmrError:
                if not swallow:
                    raise RuntimeError("error 7 in line 12") from None

    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/a: cannot be written: No space left on device")):
        write_atomically(tmp_path / "a", library)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "error", [ValueError("no captions"), OSError(2, "No such file", "other.csv"), KeyboardInterrupt()]
)
def test_errors_of_the_content_itself_are_passed_on(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")

    def content(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(tmp_path / "a", content)
    assert caught.value is error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""])
def test_a_file_that_reads_back_otherwise_is_not_put_in_place(tmp_path, monkeypatch, damage):
    """The system takes all bytes and reports no error, but other bytes are in the file."""
    (tmp_path / "a").write_bytes(b"old")
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        real(descriptor, damage(bytes(data)))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(VmrError, match=r"/a: cannot be written: it reads back as other bytes than were written"):
        write_atomically(tmp_path / "a", b"new content")
    with pytest.raises(VmrError, match=r"/f/a: cannot be written: it reads back as other bytes than were written"):
        write_folder_atomically(tmp_path / "f", lambda put: put("a", b"new content"))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("path", ["file/a.json", "folder"])
def test_a_path_that_cannot_be_a_file_is_named(tmp_path, path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path / path}: cannot be written: ")) as caught:
        write_atomically(tmp_path / path, b"new")
    assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == ["file", "folder", "folder/inside"]


def test_a_folder_appears_as_a_whole(tmp_path):
    def fill(put):
        assert put("a.txt", b"1") == hashlib.sha256(b"1").hexdigest()
        put("sub/deep/b.txt", lambda file: file.write(b"2"))
        assert not folder.exists()

    folder = tmp_path / "new" / "deep" / "f"
    write_folder_atomically(folder, fill)
    assert names_in(folder.parent) == ["f", "f/a.txt", "f/sub", "f/sub/deep", "f/sub/deep/b.txt"]


def test_a_folder_that_holds_something_is_replaced_only_if_asked(tmp_path):
    (tmp_path / "f").mkdir()
    write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))  # it was empty
    with pytest.raises(VmrError, match=r"/f: cannot be written: Directory not empty"):
        write_folder_atomically(tmp_path / "f", lambda put: put("b", b"2"))
    assert names_in(tmp_path) == ["f", "f/a"]
    write_folder_atomically(tmp_path / "f", lambda put: put("b", b"2"), replace=True)
    assert names_in(tmp_path) == ["f", "f/b"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))
    real, calls = Path.rename, []

    def rename(self, target):
        calls.append(self)
        if len(calls) == 2:  # the old folder is out of the way, the new one is not in its place
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(VmrError, match=r"/f: cannot be written: Input/output error"):
        write_folder_atomically(tmp_path / "f", lambda put: put("b", b"2"), replace=True)
    assert names_in(tmp_path) == ["f", "f/a"]


def test_a_line_is_added_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "log").write_text("first\n")
    real, room = os.write, [4]

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[: room.pop()])

    log = AppendedFile(tmp_path / "log")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(VmrError, match=r"/log: cannot be written: No space left on device"):
            log.append("second")
    assert (tmp_path / "log").read_text() == "first\n"
    log.append("third")
    log.close()
    assert (tmp_path / "log").read_text() == "first\nthird\n"


def test_only_own_files_that_are_not_named_are_removed(tmp_path):
    for name in ("v-1.bin", "v-2.bin", "v-3.bin.bak", "mine.bin"):
        (tmp_path / name).write_bytes(b"")
    own = re.compile(r"v-\d\.bin")
    (tmp_path / "index").write_bytes(b'\xff {"vectors": "v-2.bin"}')
    remove_unnamed(tmp_path, own, named_in=tmp_path / "index")
    assert names_in(tmp_path) == ["index", "mine.bin", "v-2.bin", "v-3.bin.bak"]
    remove_unnamed(tmp_path, own, named_in=tmp_path / "absent")
    assert names_in(tmp_path) == ["index", "mine.bin", "v-3.bin.bak"]


def test_a_nameless_file_leaves_nothing(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), files.scratch_file(tmp_path / "a") as scratch:
        scratch.write(b"1")
        raise KeyboardInterrupt
    assert names_in(tmp_path) == []


@pytest.fixture
def flushed(monkeypatch) -> list[bool]:
    """What was flushed: True for a folder, False for a file. The time numbered `fail_at`, from 1, fails."""

    class Flushed(list):
        fail_at = 0

    found, real = Flushed(), os.fsync

    def fsync(descriptor: int) -> None:
        found.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        if len(found) == found.fail_at:
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_what_must_last_is_flushed_with_its_folder(tmp_path, flushed):
    write_atomically(tmp_path / "a", b"1")
    assert flushed == [False, True]
    write_atomically(tmp_path / "a", b"1", lasting=False)
    assert flushed == [False, True]
    flushed.clear()
    write_folder_atomically(tmp_path / "f", lambda put: put("sub/a", b"1"))
    assert flushed == [False, True, True, True]  # the file, f, f/sub and the folder that holds f


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_flush_that_fails_is_an_error_of_the_file(tmp_path, flushed, fail_at):
    flushed.fail_at = fail_at
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/a: cannot be written: Input/output error")):
        write_atomically(tmp_path / "a", b"1")
    assert names_in(tmp_path) == (["a"] if fail_at == 2 else [])


@pytest.mark.parametrize(("fail_at", "name"), [(1, "f/a"), (2, "f"), (3, "f")])
def test_a_flush_that_fails_is_an_error_of_the_folder(tmp_path, flushed, fail_at, name):
    flushed.fail_at = fail_at
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/{name}: cannot be written: Input/output error")):
        write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))
    assert names_in(tmp_path) == (["f", "f/a"] if fail_at == 3 else [])


def test_folders_that_cannot_be_made_or_removed_are_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/file/f: cannot be written: Not a directory")):
        write_folder_atomically(tmp_path / "file" / "f", lambda put: put("a", b"1"))
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/gone: cannot be written: No such file or directory")):
        remove_folder(tmp_path / "gone")
    write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))
    remove_folder(tmp_path / "f")
    assert names_in(tmp_path) == ["file"]


def test_an_old_folder_that_cannot_be_removed_does_not_fail_its_replacement(tmp_path, monkeypatch):
    write_folder_atomically(tmp_path / "f", lambda put: put("a", b"1"))

    def unlink(*_args, **_options):
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        write_folder_atomically(tmp_path / "f", lambda put: put("b", b"2"), replace=True)
    assert (tmp_path / "f" / "b").read_bytes() == b"2" and not (tmp_path / "f" / "a").exists()


def test_a_log_that_cannot_be_opened_or_flushed_is_named(tmp_path, flushed):
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/gone/log: cannot be written: No such file")):
        AppendedFile(tmp_path / "gone" / "log")
    before = os.umask(0)
    try:
        log = AppendedFile(tmp_path / "log")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o666
    flushed.fail_at = 1
    with pytest.raises(VmrError, match=re.escape(f"{tmp_path}/log: cannot be written: Input/output error")):
        log.close()
    with pytest.raises(VmrError, match="Bad file descriptor"):  # it is closed all the same
        log.append("more")


def test_a_line_that_cannot_be_taken_back_is_the_error_of_its_writing(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(28, "No space left on device")

    def fail_again(*_args):
        raise OSError(5, "Input/output error")

    log = AppendedFile(tmp_path / "log")
    monkeypatch.setattr(os, "write", fail)
    monkeypatch.setattr(os, "ftruncate", fail_again)
    with pytest.raises(VmrError, match=r"/log: cannot be written: No space left on device"):
        log.append("line")
    log.close()


def test_what_cannot_be_removed_is_in_nobodys_way(tmp_path):
    (tmp_path / "v-1.bin").mkdir()
    (tmp_path / "v-2.bin").write_bytes(b"")
    remove_unnamed(tmp_path, re.compile(r"v-\d\.bin"), named_in=tmp_path / "absent")
    assert names_in(tmp_path) == ["v-1.bin"]


def test_a_scratch_file_in_a_folder_that_is_none_is_named(tmp_path):
    path = tmp_path / "gone" / "a"
    with pytest.raises(VmrError, match=re.escape(f"{path}: cannot be written: No such file")), files.scratch_file(path):
        pass
    with files.scratch_file(tmp_path / "a") as scratch:
        assert scratch.write(b"12") == 2 and os.fstat(scratch.fileno()).st_size == 2  # it is not buffered
