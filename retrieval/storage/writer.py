"""The one writer of an index.

A commit is acknowledged when its context ends: it has been flushed to the disk, and its number is in the seal. After a
kill or a power cut an index holds every acknowledged commit, and perhaps the one that was under way, whole.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from vmr.errors import IndexFileError
from vmr.files import flush, write_errors
from vmr.locks import locked_folder
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import (
    BUSY_S,
    check_version,
    connect_in_memory,
    connect_to_write,
    holds_index,
    is_created,
    writing_errors,
)
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import IndexSettings
from vmr.retrieval.storage.schema import APPLICATION_ID, DATABASE, TABLES, VERSION
from vmr.retrieval.storage.seal import Seal, check_seal, read_seal
from vmr.version import __version__

_MAX_LOG_BYTES = 32 << 20  # of the write-ahead log; beside busy readers it would grow without a limit
_WAIT_FOR_READERS_MS = 300

Fill = Callable[[Changes], object]


class IndexWriter:
    """The writer of an index; a context manager that holds the lock of the folder.

    Args:
        folder: the folder of the index.
        settings: makes an index where there is none; None if there must be one.
        fill: more changes for the commit that makes a new index: it appears with them, or not at all.
        is_locked: whether the caller holds the lock of the folder.

    Attributes:
        folder: as given.
        reader: reads what has been committed.

    Raises:
        IndexFileError: another process writes the index, there is none, it is damaged, or commits are missing.
        VmrError: it cannot be written.
    """

    reader: IndexReader

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings | None = None,
        fill: Fill | None = None,
        *,
        is_locked: bool = False,
    ) -> None:
        self.folder = folder
        self._settings, self._fill, self._is_locked = settings, fill, is_locked
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._settings is None and not holds_index(self.folder):
            raise IndexFileError(f"{self.folder}: no such index: make one with vmr-index build DIR --out {self.folder}")
        with ExitStack() as stack:
            if not self._is_locked:
                busy = IndexFileError(f"{self.folder} is being written by another process: wait for it")
                stack.enter_context(locked_folder(self.folder, busy))
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._empty_log()

    @contextmanager
    def commit(self) -> Iterator[Changes]:
        """Begin a transaction. It is committed and acknowledged when the context ends, and undone after an error.

        Raises:
            VmrError: it cannot be written; what was committed before is there.
        """
        with self._transaction() as changes:
            yield changes
        with suppress(OSError):  # SQLite removed the log
            if (self.folder / f"{DATABASE}-wal").stat().st_size > _MAX_LOG_BYTES:
                self._empty_log()

    def compact(self) -> None:
        """Write the database anew, without the room of what was removed.

        Raises:
            VmrError: it cannot be written, for which there must be room for two copies; everything is still there.
        """
        with writing_errors(self.folder):
            self._database.execute("VACUUM")
        self._empty_log()

    def _open(self, stack: ExitStack) -> None:
        number = read_seal(self.folder)
        self._database = connect_to_write(self.folder)
        stack.callback(self._database.close)
        with writing_errors(self.folder):
            is_new = not is_created(self._database)
        if is_new and self._settings is None:
            raise IndexFileError(f"{self.folder} is not a finished index: build it again with vmr-index build")
        self._seal = Seal(self.folder)
        stack.callback(self._seal.close)
        if is_new:
            self._create()
        check_version(self.folder, self._database)
        self.reader = stack.enter_context(IndexReader(self.folder))
        with self.reader.snapshot() as snapshot:
            check_seal(self.folder, number, snapshot.meta("commit"))

    def _create(self) -> None:
        """Make the tables, in one transaction with their first content."""
        assert self._settings is not None
        with self._transaction() as changes:
            _make_tables(self._database, changes, self._settings)
            if self._fill is not None:
                self._fill(changes)
        with write_errors(self.folder):
            flush(self.folder)

    @contextmanager
    def _transaction(self) -> Iterator[Changes]:
        with writing_errors(self.folder):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                changes = Changes(self._database)
                yield changes
                number = changes.finish()
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        self._seal.write(number)

    def _empty_log(self) -> None:
        """Move the write-ahead log into the database, unless readers keep it: the next commit tries again."""
        with writing_errors(self.folder):
            self._database.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_READERS_MS}")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._database.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")


def index_in_memory(folder: Path, settings: IndexSettings, fill: Fill) -> IndexReader:
    """Make an index in memory, which nobody changes.

    Args:
        folder: the folder that messages name.
        settings: how its videos are cut into windows.
        fill: puts in what it holds.

    Returns:
        Its reader, to be closed.
    """
    database = connect_in_memory()
    try:
        database.execute("BEGIN")
        changes = Changes(database)
        _make_tables(database, changes, settings)
        fill(changes)
        changes.finish()
        database.execute("COMMIT")
        return IndexReader(folder, database)
    except BaseException:
        database.close()
        raise


def _make_tables(database: sqlite3.Connection, changes: Changes, settings: IndexSettings) -> None:
    about = {
        "schema": VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "vmr_version": __version__,
    }
    for statement in TABLES:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    changes.start(settings, about)
