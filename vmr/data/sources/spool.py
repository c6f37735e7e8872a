"""Temporary files for clips that are bytes in something larger.

Such a clip is written to a file of its own when it is needed, so that it is decoded like any other: with seeking,
cropping and a time limit.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from vmr.errors import VmrError
from vmr.files import write_atomically, write_errors


class Spool:
    """Temporary files for the most recently used clips.

    The files are removed together with this object, or when the program ends. If the program is killed, the owner of
    `folder` must remove them.

    Args:
        keep: how many files there may be.
        folder: the files are put into a new folder in this one; None for the system's folder of temporary files.

    Raises:
        VmrError: `keep` is less than 1.
    """

    def __init__(self, keep: int, folder: Path | None = None) -> None:
        if keep < 1:
            raise VmrError(f"keep must be at least 1, got {keep}")
        self._keep, self._parent = keep, folder
        self._folder: Path | None = None  # made for the first clip
        self._files: dict[int, Path] = {}  # least recently used first

    def put(self, number: int, suffix: str, read: Callable[[], bytes | None]) -> Path:
        """Return the file of a clip; it is written if it does not exist.

        Args:
            number: the number of the clip.
            suffix: the suffix of the file.
            read: returns the bytes of the clip; None if there is no such clip.

        Returns:
            The file; a path of no file if there is no such clip.

        Raises:
            VmrError: the file cannot be written.
        """
        folder = self._folder = self._folder or self._make()
        path = self._files.pop(number, None)
        if path is None:
            path = folder / f"{number}{suffix}"
            content = read()
            if content is not None:
                write_atomically(path, content, lasting=False)
        self._files[number] = path
        if len(self._files) > self._keep:
            oldest = next(iter(self._files))
            self._files.pop(oldest).unlink(missing_ok=True)
        return path

    def _make(self) -> Path:
        with write_errors(self._parent or Path(tempfile.gettempdir())):
            if self._parent is not None:
                self._parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="vmr-clips-", dir=self._parent))
        weakref.finalize(self, _remove, folder, self._parent)
        return folder


def _remove(folder: Path, parent: Path | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if parent is not None:
        with contextlib.suppress(OSError):  # there are others in it
            parent.rmdir()
