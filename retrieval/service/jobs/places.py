"""The folders from which jobs may add videos."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from starlette.exceptions import HTTPException

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.updating.listing import absolute, is_below

_MAX_SHOWN = 200  # characters of a path in an error


class AllowedFolders:
    """The folders from which jobs may add videos: nothing outside of them is looked at, nor told whether it exists.

    Args:
        folders: the folders.

    Attributes:
        folders: their absolute paths, as they were named.

    Raises:
        VmrError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise VmrError(f"--allow-indexing {folder}: no such folder")
        self.folders = [absolute(folder) for folder in folders]
        self._real = [os.path.realpath(folder) for folder in self.folders]

    def place(self, path: str) -> str:
        """Return the absolute path of what is to be added.

        Args:
            path: as it came: absolute, relative to one of the folders, or beginning with the name of one.

        Raises:
            HTTPException: it is not below one of the folders, not there, or neither a file nor a folder.
        """
        shown = printable(path)[:_MAX_SHOWN]
        self._check_text(path, shown)
        candidates = self._candidates(path)
        inside = [one for one in candidates if self.contains(one)]
        there = [one for one in inside if os.path.lexists(one)]
        if not there and (not inside or inside != candidates):
            raise HTTPException(403, f"path {shown}: is not below a folder that --allow-indexing names")
        if not there:
            raise HTTPException(404, f"path {shown}: no such file or folder")
        self._check_kind(there[0], shown)
        return there[0]

    def contains(self, path: str) -> bool:
        """Whether a path, with all links followed, is below one of the folders, and nothing on the way is hidden."""
        real = os.path.realpath(path)
        below = [(real, root) for root in self._real if is_below(real, root)]
        typed = [(path, root) for root in (*self.folders, *self._real) if is_below(path, root)]
        return any(not _is_hidden(*one) for one in below) and any(not _is_hidden(*one) for one in typed)

    def _candidates(self, path: str) -> list[str]:
        """The absolute paths that a path may stand for."""
        plain = os.path.normpath(path)
        if plain.startswith("/"):
            plain = f"/{plain.lstrip('/')}"  # POSIX allows two slashes at the beginning
            return [plain] if any(is_below(plain, root) for root in (*self.folders, *self._real)) else []
        below = [root if plain == "." else f"{root.rstrip('/')}/{plain}" for root in self.folders]
        name, slash, rest = plain.partition("/")
        return below + [f"{root}{slash}{rest}" for root in self.folders if Path(root).name == name]

    @staticmethod
    def _check_text(path: str, shown: str) -> None:
        try:
            name = os.fsencode(path)
        except UnicodeEncodeError:
            raise HTTPException(400, f"path {shown}: is no name of a file") from None
        if not name or b"\0" in name:
            raise HTTPException(400, f"path {shown}: is no name of a file")
        if ".." in Path(path).parts:
            raise HTTPException(400, f"path {shown}: must not go up with ..")

    @staticmethod
    def _check_kind(path: str, shown: str) -> None:
        try:
            mode = Path(path).stat().st_mode
        except FileNotFoundError:  # a link to nothing
            raise HTTPException(404, f"path {shown}: no such file or folder") from None
        except OSError as error:
            raise HTTPException(400, f"path {shown}: cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise HTTPException(400, f"path {shown}: is neither a file nor a folder")


def _is_hidden(path: str, root: str) -> bool:
    """Whether a part of a path below a root begins with a dot."""
    return any(part.startswith(".") for part in Path(path[len(root) :]).parts)
