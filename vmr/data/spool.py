"""Temporary files for clips that are bytes in something larger.

Such a clip is written to a file of its own when its turn comes, so that it is decoded like any other: sought in,
cropped, and given up on in time.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from vmr.errors import VmrError


class Spool:
    """Temporary files for the clips that were asked for last."""

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise VmrError(f"keep must be at least 1, got {keep}")
        self._keep = keep
        self._folder = Path(tempfile.mkdtemp(prefix="vmr-clips-"))
        self._files: dict[int, Path] = {}  # in the order they were asked for
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def put(self, number: int, suffix: str, read: Callable[[], bytes | None]) -> Path:
        """The file of clip `number`, written if it is not there; a path without a file if `read` gives None."""
        path = self._files.pop(number, None)
        if path is None:
            path = self._folder / f"{number}{suffix}"
            content = read()
            if content is not None:
                path.write_bytes(content)
        self._files[number] = path
        if len(self._files) > self._keep:
            oldest = next(iter(self._files))
            self._files.pop(oldest).unlink(missing_ok=True)
        return path
