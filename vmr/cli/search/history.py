"""What was asked in interactive searches, kept for the next one."""

from contextlib import suppress
from pathlib import Path

from vmr.errors import VmrError
from vmr.files import AppendedFile, cache_folder, is_unicode, write_atomically

MAX_LINES = 1000


class History:
    """The lines that were typed, in a file of vmr's cache folder that sessions share.

    A history that cannot be read or written is not kept, and nothing is said: a search does not depend on it.

    Args:
        file: the file; None for that of the cache folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._path = cache_folder() / "search-history" if file is None else file
        self._file: AppendedFile | None = None
        self.lines = self._read()
        with suppress(VmrError, OSError):
            if len(self.lines) > MAX_LINES:
                self.lines = self.lines[-MAX_LINES:]
                write_atomically(self._path, "".join(f"{line}\n" for line in self.lines).encode(), lasting=False)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AppendedFile(self._path)

    def add(self, line: str) -> None:
        """Keep a line."""
        if self._file is not None and is_unicode(line) and line.isprintable():
            with suppress(VmrError):
                self._file.append(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(VmrError):
                self._file.close()

    def _read(self) -> list[str]:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
