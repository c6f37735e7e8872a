"""Opening the file of a video: the one that was indexed, and no other that has taken its place.

A file is named by the index, never by a request. Between indexing and serving, somebody may have put a link, a fifo or
another file in its place. So the opened descriptor is examined, not the path:

- It must be a regular file with the size and the time of the indexed one.
- Where it lies outside the root, because a link led there, it must also have the number (inode) of the indexed one.
  A link that was there when the video was indexed is therefore followed, and one that was put there later is not.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.storage.records import Video, storable_ns


class GoneError(VmrError):
    """There is no file any more where the video was."""


class ChangedError(VmrError):
    """The file is not the one that was indexed."""


@dataclass(frozen=True)
class Source:
    """The file of a video, as the index knows it.

    Attributes:
        root: an absolute folder.
        path: relative to it, with slashes.
        size: bytes.
        mtime_ns: time of its last change.
        inode: its number in the file system.
    """

    root: str
    path: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, video: Video) -> Source:
        """The file of a video of an index."""
        return cls(video.root, video.path, *video.state.key)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Source:
        """The result of `to_json` as a source."""
        root, path = (os.fsdecode(bytes.fromhex(values[name])) for name in ("root", "path"))
        return cls(root, path, values["size"], values["mtime_ns"], values["inode"])

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; names of files may be any bytes."""
        return {**asdict(self), "root": os.fsencode(self.root).hex(), "path": os.fsencode(self.path).hex()}

    @property
    def file(self) -> Path:
        """The absolute path."""
        return Path(self.root, self.path)

    @property
    def name(self) -> str:
        """The path below the root, for messages."""
        return printable(self.path)

    @property
    def stamp(self) -> str:
        """32 hex digits that differ from those of every other file, and of this one after a change."""
        return _digest(f"{self.root}\0{self.path}\0{self._state}")

    @property
    def content_stamp(self) -> str:
        """32 hex digits that other names of this file, such as links, share."""
        return _digest(f"{self.file.suffix}\0{self._state}")

    @property
    def _state(self) -> str:
        return f"{self.size} {self.mtime_ns} {self.inode}"

    def open(self) -> int:
        """Open the file for reading.

        Returns:
            A descriptor, which the caller closes.

        Raises:
            GoneError: there is no such file, or it cannot be opened.
            ChangedError: there is another one.
        """
        changed = ChangedError(f"{self.name}: the file has changed since it was indexed: build the index again")
        try:
            if not stat.S_ISREG(self.file.stat().st_mode):  # opening a device can do something
                raise changed
            descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a fifo would wait
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise GoneError(f"{self.name}: the file of this video is gone or cannot be read ({reason})") from None
        try:
            status = os.fstat(descriptor)
            is_same = stat.S_ISREG(status.st_mode) and (status.st_size, storable_ns(status.st_mtime_ns)) == (
                self.size,
                self.mtime_ns,
            )
            if not is_same or not (status.st_ino == self.inode or self._is_below_root(descriptor, status)):
                raise changed
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_below_root(self, descriptor: int, status: os.stat_result) -> bool:
        """Whether an opened file lies in the root, links resolved."""
        if sys.platform == "linux":
            place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        else:
            place = os.path.realpath(self.file)
            with suppress(OSError):
                if not os.path.samestat(Path(place).lstat(), status):
                    return False
        root = os.path.realpath(self.root)
        return os.path.commonpath([root, place]) == root


@lru_cache(10_000)  # every hit of a search needs two
def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


@contextmanager
def named(source: Source) -> Iterator[str]:
    """Open a file, and give a path for libraries that want one: whatever happens to its name, it is this file.

    Args:
        source: the file.

    Yields:
        A path with the suffix of the file's own.

    Raises:
        GoneError: there is no such file.
        ChangedError: there is another one.
    """
    descriptor = source.open()
    try:
        if sys.platform == "linux":
            with tempfile.TemporaryDirectory(prefix="vmr-serve-") as folder:
                link = Path(folder, "video" + source.file.suffix)
                link.symlink_to(f"/proc/self/fd/{descriptor}")
                yield str(link)
        else:
            yield str(source.file)
    finally:
        os.close(descriptor)
