"""Temporary files for clips that are bytes in something larger.

Such a clip is written to a file of its own when its turn comes, so that it is decoded like any other: sought in,
cropped, and given up on in time.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from vmr.errors import VmrError


class Spool:
    """Temporary files for the clips that were asked for last, `keep` of them.

    folder: where a folder for them is made, default the system's; both go with this object or the program. What a
    killed program left in `folder` is for its owner to remove.
    """

    def __init__(self, keep: int, folder: Path | None = None) -> None:
        if keep < 1:
            raise VmrError(f"keep must be at least 1, got {keep}")
        self._keep, self._parent = keep, folder
        self._folder: Path | None = None  # until there is a clip
        self._files: dict[int, Path] = {}  # in the order they were asked for

    def put(self, number: int, suffix: str, read: Callable[[], bytes | None]) -> Path:
        """The file of clip `number`, written if it is not there; a path without a file if `read` gives None."""
        folder = self._folder = self._folder or self._make()
        path = self._files.pop(number, None)
        if path is None:
            path = folder / f"{number}{suffix}"
            content = read()
            if content is not None:
                path.write_bytes(content)
        self._files[number] = path
        if len(self._files) > self._keep:
            oldest = next(iter(self._files))
            self._files.pop(oldest).unlink(missing_ok=True)
        return path

    def _make(self) -> Path:
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
