"""Files on disk: atomic writes, remembered hashes, and locks for one writer."""

import hashlib
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vmr.errors import VmrError

LOCK_FILE = ".lock"
HASHES_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL)"

_FRESH_S = 2.0  # a file changed so recently may change again within the resolution of its modification time
_BUSY_S = 60.0  # another process may be writing


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
        VmrError: `path` is a folder.
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise VmrError(f"{path}: is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8; some file names and JSON strings cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: a reader finds the old file or the new one, even after a power cut.

    Args:
        path: the file to make or replace.
        write: fills the temporary file that it is given, which is in the folder of `path`.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        flush(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)  # the rename itself must survive a power cut


def flush(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path, busy: VmrError) -> Iterator[None]:
    """Make a folder and lock it, so that other callers of this function cannot write to it.

    Args:
        folder: the folder; the lock is its file `.lock`, which is not removed.
        busy: the error to raise if another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class FileContent:
    """The content of a file at some time.

    Attributes:
        sha256: the hash of its bytes, in hex.
        state: values that show, without reading the file, whether it has changed; see `state_of`.
    """

    sha256: str
    state: str


def state_of(path: str | Path) -> str | None:
    """Return size, modification time and inode of a file; None if it is no regular file or cannot be examined."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}" if stat.S_ISREG(status.st_mode) else None


def hash_file(path: str | Path, database: sqlite3.Connection) -> FileContent | None:
    """Return the hash of a file, which is read only if it has changed since it was hashed last.

    A database that cannot be read or written costs time and nothing else: the file is hashed again.

    Args:
        path: the file.
        database: the database of hashes, with the table HASHES_TABLE.

    Returns:
        The content; None if the file is no regular file or cannot be read.
    """
    state = state_of(path)
    if state is None:
        return None
    place = os.fsencode(Path(path).absolute())
    with suppress(sqlite3.Error):
        row = database.execute("SELECT sha256 FROM files WHERE path = ? AND state = ?", (place, state)).fetchone()
        if row is not None:
            return FileContent(row[0], state)
    try:
        content = FileContent(sha256_of(Path(path)), state)
    except OSError:
        return None
    if time.time() - int(state.split()[1]) / 1e9 > _FRESH_S:
        with suppress(sqlite3.Error), database:
            database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (place, state, content.sha256))
    return content


@contextmanager
def remembered_hashes() -> Iterator[sqlite3.Connection]:
    """Open the database of hashes in the cache folder, for `hash_file`.

    A damaged database is replaced. If the folder cannot be written, the hashes are remembered in memory.
    """
    place = cache_folder() / "hashes.sqlite3"
    try:
        database = _open_hashes(place)
    except sqlite3.OperationalError:  # no permission, or no room
        database = _open_hashes(None)
    except sqlite3.DatabaseError:
        with suppress(OSError):
            place.unlink()
        database = _open_hashes(None)
    with closing(database):
        yield database


def _open_hashes(place: Path | None) -> sqlite3.Connection:
    """Open a database of hashes, or make one; None makes one in memory."""
    if place is not None:
        with suppress(OSError):  # connecting says what is wrong
            place.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(":memory:" if place is None else place, timeout=_BUSY_S)
    try:
        database.execute(HASHES_TABLE)
        database.execute("SELECT path, state, sha256 FROM files LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database
