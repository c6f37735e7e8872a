"""Files on disk: walking folders, writing and removing.

Everything that vmr writes is written by the functions of this module, except SQLite databases, which have atomic
transactions of their own.
"""

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from typing_extensions import Buffer

from vmr.errors import VmrError


def cache_folder() -> Path:
    """Return the folder for files that vmr can make again: $VMR_CACHE, or ~/.cache/vmr."""
    return Path(os.environ.get("VMR_CACHE") or Path.home() / ".cache" / "vmr")


PassOver = Callable[[Path, OSError | None], None]
"""Is told what `walk_files` passes over: a hidden file or folder, or a folder that cannot be listed, with the error."""


def walk_files(folder: str | Path, max_depth: int | None = None, pass_over: PassOver | None = None) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order.

    Hidden files and folders are skipped. Linked folders are followed, since data sets are often linked into place, but
    no folder is visited twice.

    Args:
        folder: the folder to walk.
        max_depth: how many levels of folders to go down (0: only `folder` itself); None for all.
        pass_over: is called for everything that is passed over.

    Raises:
        VmrError: `folder` cannot be listed; without `pass_over`, also if a folder below it cannot be listed.
    """
    require_folder(folder)
    visited: set[str] = set()

    def unlistable(error: OSError) -> None:
        if pass_over is None or Path(error.filename) == Path(folder):
            raise VmrError(f"{error.filename}: cannot list this folder: {error.strerror}")
        pass_over(Path(error.filename), error)

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unlistable):
        real = os.path.realpath(parent)
        depth = len(Path(parent).relative_to(folder).parts)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        for name in (*folders, *files):
            if name.startswith(".") and pass_over is not None:
                pass_over(Path(parent, name), None)
        too_deep = max_depth is not None and depth >= max_depth
        folders[:] = [] if too_deep else sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def require_folder(folder: str | Path) -> None:
    """Raise VmrError unless `folder` is an existing folder."""
    path = Path(folder)
    if not path.exists():
        raise VmrError(f"{folder}: no such folder")
    if not path.is_dir():
        raise VmrError(f"{folder}: not a folder")


def require_writable(path: str | Path) -> None:
    """Make the folder of a file that will be written, and check that it can be written.

    Raises:
        VmrError: `path` is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise VmrError(f"{path}: is a folder: name a file")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8; some file names and JSON strings cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class OutputFile(io.RawIOBase):
    """A file that is being written: binary, from start to end, without seeking.

    It hashes what it is given, before the system sees it, and remembers the first error of the system: a library that
    is handed this object may pass over an error without a word, or raise one of its own.

    Args:
        descriptor: of an empty file that is open for writing. The caller closes it.
        path: the name of the file in errors.

    Attributes:
        failure: the first error of the system; None while there is none.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.failure: VmrError | None = None
        self._descriptor, self._path = descriptor, path
        self._digest, self._size = hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes that were given, in hex."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were given."""
        return self._size

    def write(self, data: Buffer, /) -> int:
        """Write all of `data`. Raises VmrError if the system does not take it."""
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._size += len(view)
        try:
            with write_errors(self._path):
                _write_all(self._descriptor, view)
        except VmrError as error:
            self.failure = self.failure or error
            raise
        return len(view)


Content = bytes | memoryview | Callable[[BinaryIO], object]
"""What a file is to hold: the bytes, or a function that writes them to the file that it is given."""

Put = Callable[[str, Content], str]
"""put(name, content): writes a file of a new folder; returns its SHA-256 in hex. The name may be "folder/name"."""


def write_atomically(path: Path, content: Content, *, lasting: bool = True) -> str:
    """Write a file atomically: a reader finds the old file or the new one, even after a power cut.

    The folder is made if it does not exist. The new file replaces the old one only after the system has taken every
    byte, flushed it, closed the file without an error and given the same bytes back.

    Args:
        path: the file to make or replace.
        content: what it is to hold. An error that the function raises for reasons of its own is passed on.
        lasting: False for a file that nobody needs after a power cut, which is not flushed to the disk.

    Returns:
        The SHA-256 of the content, in hex; of what was to be written, not of what was found in the file.

    Raises:
        VmrError: the file cannot be written. The old file is still there, unless the error came when the folder was
            flushed, after the new file had replaced it.
    """
    temporary = path.with_name(_temporary_name(path))
    try:
        sha256 = _write_new(temporary, path, content, lasting)
        with write_errors(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    if lasting:
        with write_errors(path):
            flush(path.parent)  # the rename itself must survive a power cut
    return sha256


def write_folder_atomically(folder: Path, fill: Callable[[Put], object], *, replace: bool = False) -> None:
    """Write a folder of files atomically: it appears when all of it is on the disk, or not at all.

    Args:
        folder: the folder to make. It must be absent or empty.
        fill: puts every file with the function that it is given.
        replace: also replace a folder that holds something.

    Raises:
        VmrError: the folder cannot be written. What it held before is still there.
    """
    with new_folder(folder, replace=replace) as (_, put):
        fill(put)


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[tuple[Path, Put]]:
    """Make a hidden folder beside `folder`, which takes its name when the context ends; after an error it is removed.

    Args:
        folder: the folder to make. It must be absent or empty.
        replace: also replace a folder that holds something.

    Yields:
        The hidden folder, and a function that puts files into it. A library that writes files of its own there must
        flush them to the disk.

    Raises:
        VmrError: the folder cannot be written. What it held before is still there.
    """
    temporary = folder.with_name(_temporary_name(folder))

    def put(name: str, content: Content) -> str:
        return _write_new(temporary / name, folder / name, content)

    try:
        with write_errors(folder):
            temporary.mkdir(parents=True)
        yield temporary, put
        with write_errors(folder):
            for parent, _, _ in os.walk(temporary):
                flush(Path(parent))
            if replace and folder.exists():
                _replace_folder(folder, temporary)
            else:
                temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with write_errors(folder):
        flush(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder; if the program is killed meanwhile, no part of it keeps the name."""
    hidden = folder.with_name(_temporary_name(folder))
    with write_errors(folder):
        folder.rename(hidden)
        shutil.rmtree(hidden)


class AppendedFile:
    """A text file that grows by lines, such as a log. What it held before stays.

    Args:
        path: the file; it is made if it does not exist.

    Raises:
        VmrError: the file cannot be opened; or, from every method, cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with write_errors(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def append(self, line: str) -> None:
        """Add a line, which holds no line break; all of it or, if that fails, nothing."""
        with write_errors(self._path):
            size = os.fstat(self._descriptor).st_size
            try:
                _write_all(self._descriptor, memoryview(f"{line}\n".encode()))
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, size)
                raise

    def close(self) -> None:
        """Flush all lines to the disk and close the file."""
        with write_errors(self._path):
            try:
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)


@contextmanager
def scratch_file(path: Path) -> Iterator[io.FileIO]:
    """Open a nameless temporary file, unbuffered, in the folder of `path`; it vanishes with the context."""
    with write_errors(path):
        file = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115
    try:
        yield file
    finally:
        with suppress(OSError):  # all that was needed of it has been read
            file.close()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the system into a VmrError that names the file or folder that is being written."""
    try:
        yield
    except OSError as error:
        raise VmrError(f"{path}: cannot be written: {error.strerror or error}") from error


def flush(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(file: Path, path: Path, content: Content, lasting: bool = True) -> str:
    """Write a new file, and compare it with what was to be written. Errors name it `path`."""
    with write_errors(path):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    out = OutputFile(descriptor, path)
    try:
        _fill(out, content)
        with write_errors(path):
            if lasting:
                os.fsync(descriptor)
    finally:
        with write_errors(path):
            os.close(descriptor)  # may report that bytes were lost: over a network, or over the quota
    with write_errors(path):
        if sha256_of(file) != out.sha256:
            raise OSError(errno.EIO, "it reads back as other bytes than were written")
    return out.sha256


def _fill(out: OutputFile, content: Content) -> None:
    """Write the content. Errors of the system win over those that a library made of them."""
    try:
        content(cast("BinaryIO", out)) if callable(content) else out.write(content)
    except Exception:
        if out.failure is None:
            raise
    if out.failure is not None:
        raise out.failure


def _write_all(descriptor: int, view: memoryview) -> None:
    """Write all bytes: the system may take a part of them."""
    while len(view):
        view = view[os.write(descriptor, view) :]


def _temporary_name(path: Path) -> str:
    return f".{path.name}.{secrets.token_hex(4)}.tmp"


def _replace_folder(old: Path, new: Path) -> None:
    """Put a folder in the place of another one, which stays if that fails."""
    hidden = old.with_name(_temporary_name(old))
    old.rename(hidden)
    try:
        new.rename(old)
    except OSError:
        hidden.rename(old)
        raise
    shutil.rmtree(hidden, ignore_errors=True)


def remove_unnamed(folder: Path, own: re.Pattern[str], named_in: Path) -> None:
    """Remove files that a text file, which says which files of its folder are in use, does not name.

    Args:
        folder: the folder, in which no other process may be writing.
        own: files whose whole name does not match are left alone.
        named_in: the text file; if it cannot be read, it names no file.
    """
    try:
        names = named_in.read_text(encoding="utf-8", errors="replace")
    except OSError:
        names = ""
    for file in folder.iterdir():
        if own.fullmatch(file.name) and file.name not in names:
            with suppress(OSError):  # it is in nobody's way
                file.unlink()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
