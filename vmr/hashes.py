"""Hashes of files, remembered in a database: a file is read again only if it has changed."""

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vmr.files import cache_folder, sha256_of

HASHES_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL)"

_FRESH_S = 2.0  # a file changed so recently may change again within the resolution of its modification time
_BUSY_S = 60.0  # another process may be writing


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
