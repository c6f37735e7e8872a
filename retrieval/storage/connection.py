"""Connections to the database of an index, and its errors as one line."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.schema import APPLICATION_ID, DATABASE, PAGE_BYTES, VERSION, check_sqlite

BUSY_S = 60.0  # a reader waits only while a writer opens or closes the database
_CHECKPOINT_PAGES = 2000  # 32 MB
_UNFINISHED = "{} is not a finished index: build it again with vmr-index build"


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """Open the database, or make an empty one. The caller holds the lock of the folder.

    Raises:
        VmrError: it cannot be opened.
    """
    check_sqlite()
    with writing_errors(folder):
        database = sqlite3.connect(folder / DATABASE, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA cell_size_check = ON")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return database


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """Open the database of an index for reading.

    Raises:
        IndexFileError: there is none, or it is not one of this version.
    """
    if _is_being_made(folder):
        raise IndexFileError(_UNFINISHED.format(folder))
    with reading_errors(folder):
        database = _opened_to_read(folder)
        try:
            database.execute("PRAGMA cell_size_check = ON")
            check_version(folder, database)
        except BaseException:
            database.close()
            raise
    return database


def holds_index(folder: Path) -> bool:
    """Whether a folder holds a database of an index, finished or not."""
    return (folder / DATABASE).is_file()


def connect_in_memory() -> sqlite3.Connection:
    """Make an empty database in memory."""
    check_sqlite()
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@contextmanager
def new_copy(folder: Path, name: Path) -> Iterator[sqlite3.Connection]:
    """Make an empty database in a new folder, for a copy of another one.

    Args:
        folder: the folder; it is on the disk when the context ends.
        name: the name of the folder in messages.

    Raises:
        VmrError: it cannot be written.
    """
    try:
        with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as database:
            yield database
    except sqlite3.Error as error:
        raise VmrError(f"{name}: cannot be written: {error}") from error


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a database in which the tables of an index have been made.

    Raises:
        IndexFileError: the database cannot be read.
    """
    if not holds_index(folder) or _is_being_made(folder):
        return False
    with reading_errors(folder), closing(_opened_to_read(folder)) as database:
        return is_created(database)


def _is_being_made(folder: Path) -> bool:
    """Whether there is a rollback journal, of a process that was making the database; later there is none."""
    return (folder / f"{DATABASE}-journal").exists()


def is_created(database: sqlite3.Connection) -> bool:
    """Whether the tables have been made: they are made in one commit."""
    return bool(database.execute("PRAGMA user_version").fetchone()[0])


def check_version(folder: Path, database: sqlite3.Connection) -> None:
    """Check that a database is a finished index of this version.

    Raises:
        IndexFileError: it is not.
    """
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if not version:
        raise IndexFileError(_UNFINISHED.format(folder))
    if application != APPLICATION_ID:
        raise IndexFileError(f"{folder / DATABASE} is a database of another program")
    if version != VERSION:
        raise IndexFileError(
            f"{folder / DATABASE} is of version {version}, but this vmr reads version {VERSION}: install a newer vmr"
        )


def _opened_to_read(folder: Path) -> sqlite3.Connection:
    check_sqlite()
    path = folder / DATABASE
    is_still = not os.access(folder, os.W_OK) and not Path(f"{path}-wal").exists()
    mode = "immutable=1" if is_still else "mode=ro"  # SQLite cannot make its files beside the database
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False)


@contextmanager
def reading_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into an IndexFileError that says what to do."""
    try:
        yield
    except sqlite3.Error as raised:
        error = as_damage(raised)
        if isinstance(error, sqlite3.OperationalError):
            raise IndexFileError(f"{folder / DATABASE}: cannot be read: {error}") from error
        if isinstance(error, sqlite3.ProgrammingError):
            if "closed" not in str(error):
                raise
            raise IndexFileError(f"{folder} was closed: open it again") from error
        raise IndexFileError(
            f"{folder / DATABASE} is damaged ({error}): vmr-index verify says what is wrong; build the index again"
        ) from error


@contextmanager
def writing_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors while writing into a VmrError; damage becomes an IndexFileError."""
    try:
        yield
    except sqlite3.DatabaseError as raised:
        error, safe = as_damage(raised), "what was committed before is"
        if isinstance(error, sqlite3.OperationalError):
            raise VmrError(f"{folder / DATABASE}: cannot be written: {error}: {safe} safe") from error
        if isinstance(error, sqlite3.IntegrityError):
            raise VmrError(f"{folder / DATABASE} cannot hold this: {error}: {safe} there") from error
        with reading_errors(folder):
            raise error from None


def as_damage(error: sqlite3.Error) -> sqlite3.Error:
    """Call a text that is not UTF-8 damage: Python calls it an error of operation, and quotes all of it.

    Args:
        error: as raised.

    Returns:
        A DatabaseError in its place, or the error itself if it is another.
    """
    said, quoting, _ = str(error).partition(" with text ")
    return sqlite3.DatabaseError(said) if quoting else error
