"""Records, with strace, the calls by which a program changes the files of a folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.paths import REPOSITORY

WRITES = ("write", "pwrite64")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
UNLINKS = ("unlink", "unlinkat")
# They would change files in ways that `Recorder` does not follow; a program that uses them cannot be recorded.
OTHERS = (
    "writev", "pwritev", "pwritev2", "truncate", "fallocate", "link", "linkat", "symlink", "symlinkat", "sendfile",
    "copy_file_range", "splice", "sync_file_range", "creat", "mmap", "rmdir",
)  # fmt: skip
TRACED = ("openat", "lseek", "ftruncate", *WRITES, *SYNCS, *RENAMES, *UNLINKS, *OTHERS)
IN_MEMORY = "-shm"  # files of SQLite that are mapped, and need not survive


@dataclass(frozen=True)
class Call:
    """A call that changes a file, or makes a change last.

    Attributes:
        kind: "create", "write", "size", "sync", "rename", "unlink", or "told" for what the program said.
        path: of the file or folder.
        offset: where `data` is written, or the new size.
        data: what is written, or was said.
        target: the new path of a file that is renamed.
    """

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    target: str = ""


def record(command: Sequence[object], folder: Path, told: Path) -> list[Call]:
    """Run `python COMMAND` to its end, and return what it did in `folder`.

    Args:
        command: the arguments of Python.
        folder: calls for other files are passed over. It has no folders inside.
        told: what the program writes to this file becomes calls of the kind "told".
    """
    trace = told.with_suffix(".trace")
    options = ["-f", "-xx", "-y", "-s", "100000000", "-e", f"trace={','.join(TRACED)}", "-o", str(trace)]
    subprocess.run(
        ["strace", *options, sys.executable, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    recorder = Recorder(folder, told)
    with trace.open(encoding="ascii", errors="replace") as file:
        calls = [call for line in _whole(file) for call in recorder.calls(line)]
    trace.unlink()  # a hundred times as large as the folder
    return calls


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Join the two parts of a call during which another thread made one; a call counts from when it ended."""
    begun: dict[str, str] = {}
    for line in lines:
        process, _, text = line.strip().partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[process] = text.removesuffix("<unfinished ...>")
        elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            yield begun.pop(process) + resumed[1]
        else:
            yield text


class Recorder:
    """Reads lines of strace, and knows the position in every open file."""

    def __init__(self, folder: Path, told: Path) -> None:
        self._folder, self._told = str(folder), str(told)
        self._positions: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._flags: dict[str, str] = {}

    def calls(self, line: str) -> Iterator[Call]:
        """Yield the changes that a line of strace stands for: none or one, or two if a file is opened and emptied."""
        match = re.match(r"(\w+)\((.*)\)\s+= (\d+)(<.*>)?$", line)
        if match is None:
            return  # a call that failed, or a signal
        name, arguments, result = match[1], match[2], int(match[3])
        descriptor = re.match(r"(\d+)<(.*?)>", arguments)
        path = _text(descriptor[2]) if descriptor else ""
        if name in WRITES and path == self._told:
            yield Call("told", path, data=_quoted(arguments)[0][:result])
        elif name == "openat":
            yield from self._open(arguments, result)
        elif name in RENAMES or name in UNLINKS:
            paths = [_absolute(each) for each in _quoted(arguments)]
            if self._is_inside(paths[0]) or self._is_inside(paths[-1]):
                yield Call("rename" if name in RENAMES else "unlink", paths[0], target=paths[-1])
        elif descriptor and self._is_inside(path):
            yield from self._change(name, descriptor[1], path, arguments, result)
        elif name in ("rmdir", "symlink", "link", "linkat", "truncate", "creat"):
            paths = [_absolute(each) for each in _quoted(arguments)]
            assert not any(map(self._is_inside, paths)), f"cannot follow {name}: {line[:200]}"

    def _is_inside(self, path: str) -> bool:
        is_there = path == self._folder or path.startswith(self._folder + "/")
        return is_there and not path.endswith((IN_MEMORY, "(deleted)"))

    def _open(self, arguments: str, descriptor: int) -> Iterator[Call]:
        path = _absolute(_quoted(arguments)[0])
        if not self._is_inside(path):
            return
        self._positions[str(descriptor)], self._flags[str(descriptor)] = 0, arguments
        if "O_CREAT" in arguments and path != self._folder:
            assert "O_TMPFILE" not in arguments
            yield Call("create", path)
        if "O_TRUNC" in arguments:
            self._sizes[path] = 0
            yield Call("size", path)

    def _change(self, name: str, descriptor: str, path: str, arguments: str, result: int) -> Iterator[Call]:
        """A call for an open file."""
        if name == "write":
            flags = self._flags[descriptor]
            assert "O_RDWR" not in flags or "O_APPEND" in flags, f"{path} may have been read: where is it written?"
            at = self._sizes.get(path, 0) if "O_APPEND" in flags else self._positions[descriptor]
            self._positions[descriptor] = at + result
        elif name == "pwrite64":
            at = int(arguments.rpartition(",")[2])
        if name in WRITES:
            self._sizes[path] = max(self._sizes.get(path, 0), at + result)
            yield Call("write", path, at, _quoted(arguments)[0][:result])
        elif name == "ftruncate":
            self._sizes[path] = int(arguments.rpartition(",")[2])
            yield Call("size", path, self._sizes[path])
        elif name in SYNCS:
            yield Call("sync", path)
        elif name == "lseek":
            self._positions[descriptor] = result
        else:
            assert name == "mmap", f"cannot follow {name} of {path}"


def _text(escaped: str) -> str:
    """A path behind a descriptor, in which strace may escape all characters or none."""
    return os.fsdecode(bytes.fromhex(escaped.replace("\\x", ""))) if escaped.startswith("\\x") else escaped


def _absolute(path: bytes) -> str:
    return str(Path.cwd() / os.fsdecode(path))


def _quoted(arguments: str) -> list[bytes]:
    return [bytes.fromhex(text.replace("\\x", "")) for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)]
