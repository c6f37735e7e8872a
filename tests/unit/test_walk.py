"""Walking folders, and checking paths before anything is read or written."""

import os
import re
from pathlib import Path

import pytest

from vmr.errors import VmrError
from vmr.files import cache_folder, is_unicode, require_folder, require_writable, walk_files


@pytest.fixture
def tree(tmp_path) -> Path:
    """b, a/, a/c, a/d/, a/d/e, f/g, hidden ones, and a link from a/d to the top."""
    (tmp_path / "a" / "d").mkdir(parents=True)
    (tmp_path / "f").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b", "a/c", "a/d/e", "f/g", "a/.f", ".git/g"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "d" / "top").symlink_to(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("max_depth", "found"),
    [(None, ["b", "a/c", "a/d/e", "f/g"]), (0, ["b"]), (1, ["b", "a/c", "f/g"]), (2, ["b", "a/c", "a/d/e", "f/g"])],
)
def test_a_walk_finds_each_file_once_in_a_fixed_order(tree, max_depth, found):
    assert [str(path.relative_to(tree)) for path in walk_files(tree, max_depth)] == found
    assert list(walk_files(str(tree), max_depth)) == [tree / name for name in found]


def test_a_walk_says_what_it_passes_over(tree):
    passed = []
    assert len(list(walk_files(tree, pass_over=lambda path, error: passed.append((path, error))))) == 4
    assert passed == [(tree / ".git", None), (tree / "a" / ".f", None)]


def test_a_walk_follows_links(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "linked").symlink_to(tree / "a")
    names = ("c", "d/e", "d/top/b", "d/top/f/g")
    assert list(walk_files(other)) == [other / "linked" / name for name in names]


def test_folders_that_cannot_be_listed(tree, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name in unlistable:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    unlistable, passed = {"d"}, []
    found = walk_files(tree, pass_over=lambda path, error: passed.append((path, error and error.strerror)))
    assert [path.name for path in found] == ["b", "c", "g"]
    assert passed[-1] == (tree / "a" / "d", "Permission denied")
    message = f"{tree / 'a' / 'd'}: cannot list this folder: Permission denied"
    with pytest.raises(VmrError, match=f"^{re.escape(message)}$"):
        list(walk_files(tree))
    unlistable = {tree.name}
    message = f"{tree}: cannot list this folder: Permission denied"
    with pytest.raises(VmrError, match=f"^{re.escape(message)}$"):
        list(walk_files(tree, pass_over=lambda path, error: None))


def test_paths_that_are_no_folder_or_no_file(tree):
    for call in (require_folder, lambda path: list(walk_files(path))):
        with pytest.raises(VmrError, match=f"^{re.escape(str(tree / 'gone'))}: no such folder$"):
            call(tree / "gone")
        with pytest.raises(VmrError, match=f"^{re.escape(str(tree / 'b'))}: not a folder$"):
            call(tree / "b")
    with pytest.raises(VmrError, match=f"^{re.escape(str(tree / 'a'))}: is a folder: name a file$"):
        require_writable(tree / "a")
    with pytest.raises(VmrError, match=f"^{re.escape(str(tree / 'b' / 'x'))}: cannot be written: "):
        require_writable(tree / "b" / "x")
    require_folder(str(tree / "a"))
    for _ in range(2):
        require_writable(str(tree / "new" / "folder" / "x"))
    assert [path.name for path in (tree / "new").rglob("*")] == ["folder"]


def test_text_that_can_be_written():
    assert is_unicode("a dog \U0001f415") and not is_unicode("\udcff")


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VMR_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "vmr"
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
