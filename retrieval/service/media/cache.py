"""A folder of files that can be made again, bounded in bytes: those that nobody used for longest go first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

from vmr.errors import VmrError
from vmr.files import write_atomically

_FULL_SHARE = 0.9  # of the bound: what is left after files were removed, so that this is rare
_STALE_S = 3600.0  # a file that is being written for longer than this belongs to a program that was killed
_RECENT_S = 60.0  # a file that was used so recently is not marked as used again


class StorageError(VmrError):
    """The cache cannot be written."""


class Cache:
    """The files of a folder by their keys. Several programs may use the same folder; all methods may run in threads.

    A file appears with its whole content, or not at all. One that is open while it is removed can be read to its end.

    Args:
        folder: the folder; it is made when the first file is put into it.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._added_bytes = max_bytes  # since files were removed
        self._num_bytes: int | None = None  # of all files, as far as this program knows; None before it has looked

    def open(self, key: str) -> int | None:
        """Open a file, and note that it was used.

        Args:
            key: any text.

        Returns:
            A descriptor, which the caller closes; None if there is no such file, or it is empty, as a full disk or a
            power cut can leave it.
        """
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not status.st_size:
            os.close(descriptor)
            return None
        if time.time() - status.st_mtime > _RECENT_S:
            with contextlib.suppress(OSError):  # it is only read
                os.utime(self._path(key))
        return descriptor

    def get(self, key: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        descriptor = self.open(key)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def size(self, key: str) -> int:
        """Return the size of a file in bytes, 0 if there is none; note that it was used."""
        descriptor = self.open(key)
        if descriptor is None:
            return 0
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def put(self, key: str, content: bytes | memoryview, *, lasting: bool = True) -> None:
        """Write a file, and remove others if there are too many bytes.

        Args:
            key: any text; what it stands for never changes.
            content: of the file, not empty.
            lasting: False for a file whose content shows whether a power cut damaged it: it is not flushed to the disk,
                which takes longer than to write it.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            write_atomically(self._path(key), content, lasting=lasting)
        except VmrError as error:
            raise StorageError(str(error)) from error
        with self._lock:
            self._added_bytes += len(content)
            self._num_bytes = None if self._num_bytes is None else self._num_bytes + len(content)
            if self._added_bytes > self._max_bytes * (1 - _FULL_SHARE) / 2:  # others may add as much meanwhile
                self._added_bytes = 0
                self._remove_oldest(self._path(key))

    def num_bytes(self) -> int:
        """Return the size of all files together; what other programs did lately may be missing."""
        with self._lock:
            if self._num_bytes is None:
                self._num_bytes = sum(size for _, size, _, _ in self._files())
            return self._num_bytes

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self._folder / name[:2] / name[2:]

    def _remove_oldest(self, new: Path) -> None:
        """Remove files until there is room, but not the one that was just written."""
        found = self._files()
        total, now = sum(size for _, size, _, _ in found), time.time()
        is_full = total > self._max_bytes * (1 + _FULL_SHARE) / 2
        for used_s, size, path, is_unfinished in sorted(found):
            if path == str(new):
                continue
            stale = is_unfinished and now - used_s > _STALE_S
            if stale or (is_full and not is_unfinished and total > self._max_bytes * _FULL_SHARE):
                with contextlib.suppress(OSError):
                    Path(path).unlink()
                    total -= size
        self._num_bytes = total

    def _files(self) -> list[tuple[float, int, str, bool]]:
        """All files: when each was used, its size, its path, and whether it is still being written."""
        found = []
        for folder in self._folder.glob("??"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # another program removed it
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, status.st_size, entry.path, entry.name.startswith(".")))
        return found
