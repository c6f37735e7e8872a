"""Reading an index while it is written: a reader never waits for the writer, and never sees half a change."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from vmr.retrieval.storage.connection import connect_to_read, reading_errors
from vmr.retrieval.storage.seal import check_seal, read_seal
from vmr.retrieval.storage.snapshot import Snapshot


class IndexReader:
    """A connection that reads an index. Several threads may use it: they read one after the other.

    Args:
        folder: the folder of the index.
        database: a connection to take instead, which the reader closes; None for one to the folder.

    Raises:
        IndexFileError: there is no finished index, it is damaged, or commits are missing.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection | None = None) -> None:
        self.folder = folder
        number = None if database is not None else read_seal(folder)  # before the database: a writer may be at work
        self._database = connect_to_read(folder) if database is None else database
        self._lock = threading.RLock()
        try:
            with self.snapshot() as snapshot:
                check_seal(folder, number, snapshot.meta("commit"))
        except BaseException:
            self.close()
            raise

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Begin a read transaction, which ends with the context; inside another one, it is the same transaction.

        Raises:
            IndexFileError: the database cannot be read.
        """
        with self._lock, reading_errors(self.folder):
            is_outermost = not self._database.in_transaction
            if is_outermost:
                self._database.execute("BEGIN")
            try:
                yield Snapshot(self._database)
            finally:
                if is_outermost and self._database.in_transaction:
                    self._database.execute("COMMIT")

    def copy_to(self, database: sqlite3.Connection) -> None:
        """Copy everything into an empty database; inside a snapshot, what that holds.

        Raises:
            sqlite3.Error: the other database cannot be written.
        """
        with self._lock:
            self._database.backup(database)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
