"""The folder of an index that is being updated: what may be in it, its lock, and its commits."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from vmr.errors import IndexBusyError, IndexFileError, VmrError
from vmr.files import write_errors
from vmr.locks import LOCK_FILE, locked_folder
from vmr.retrieval.embedding.token_files import TOKENS, TokenFolder
from vmr.retrieval.legacy import OLD_FILES, is_old_index
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import holds_index, is_finished
from vmr.retrieval.storage.paths import JOBS, only_holds_jobs
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import IndexSettings
from vmr.retrieval.storage.writer import IndexWriter
from vmr.signals import signals_held_back

_DATABASE_FILES = r"index\.db(-wal|-shm|-journal)?|seal"
_TEMPORARY = r"\.(manifest\.json|(vectors|gen)-[0-9a-f]{32}\.faiss)\.\w+\.tmp"
OWN_FILES = re.compile(rf"\.lock|{_DATABASE_FILES}|gen-[0-9a-f]{{32}}\.faiss|{OLD_FILES}|{_TEMPORARY}")
"""The names of all files that an index may hold."""


class UpdatedFolder:
    """The folder of an index while it is updated; a context manager that holds its lock.

    A new index, and one that replaces another, appears with its first commit. Until then the folder holds what it held.

    Args:
        folder: the folder, which need not exist.
        settings: how videos are cut into windows, for a new index; None if there must be an index.
        overwrite: start anew.

    Raises:
        IndexFileError: the folder is a file, holds other files or an index of schema 1 (without `overwrite`), the index
            is damaged, or another process writes it.
    """

    def __init__(self, folder: Path, settings: IndexSettings | None, overwrite: bool = False) -> None:
        self.folder = folder
        self._settings, self._overwrite = settings, overwrite
        self._writer: IndexWriter | None = None
        self._is_fresh, self._is_making = True, False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.folder.exists() and not self.folder.is_dir():
            raise IndexFileError(f"{self.folder} is a file: name a folder for the index")
        if self._settings is None and not holds_index(self.folder) and not is_old_index(self.folder):
            raise IndexFileError(f"{self.folder}: no such index: make one with vmr-index build DIR --out {self.folder}")
        is_new = not self.folder.exists()
        self._check_files()
        busy = IndexBusyError(f"{self.folder} is being written by another process: wait for it, or name another folder")
        with ExitStack() as stack:
            stack.enter_context(locked_folder(self.folder, busy))
            stack.callback(self._tidy, is_new)
            self._check_files()  # again, because another build may have ended before the lock was held
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def is_fresh(self) -> bool:
        """Whether the first commit is still to come of an index that is new or to be replaced."""
        return self._is_fresh

    @property
    def reader(self) -> IndexReader:
        """Reads what has been committed; not before the first commit of a new index."""
        assert self._writer is not None
        return self._writer.reader

    @property
    def writer(self) -> IndexWriter:
        """Writes the index; not before the first commit of a new index."""
        assert self._writer is not None
        return self._writer

    def commit(self, change: Callable[[Changes], object]) -> None:
        """Commit changes. A signal to stop waits until they are acknowledged.

        Args:
            change: makes them.

        Raises:
            VmrError: they cannot be written; what was committed before is there.
        """
        with signals_held_back():
            if self._writer is None:
                self._is_making = True
                self._remove(_DATABASE_FILES)  # of an index that was not finished, or is damaged and to be replaced
                writer = IndexWriter(self.folder, self._settings, change, is_locked=True)
                self._writer = self._stack.enter_context(writer)
            else:
                with self._writer.commit() as changes:
                    if self._is_fresh:
                        assert self._settings is not None  # only they allow to start anew
                        changes.clear(self._settings)
                    change(changes)
            if self._is_fresh:
                self._remove(OLD_FILES)  # readers took them for the index until now
            self._is_fresh = False

    def _open(self, stack: ExitStack) -> None:
        """Open the index that is there, unless it is not finished, or damaged and to be replaced."""
        try:
            if self._settings is not None and not is_finished(self.folder):
                return
            writer = stack.enter_context(IndexWriter(self.folder, is_locked=True))
        except IndexFileError as error:
            is_out_of_reach = isinstance(error.__cause__, sqlite3.OperationalError | OSError)  # and may be right
            if is_out_of_reach or not self._overwrite:
                raise
            return
        self._writer, self._is_fresh = writer, self._overwrite
        self._remove(OLD_FILES)  # left by a process that was killed after its first commit

    def _check_files(self) -> None:
        """Refuse a folder that holds other files than those of an index, and an index of schema 1."""
        if not self.folder.exists():
            return
        names = {file.name for file in self.folder.iterdir()} - {TOKENS, JOBS}
        holds_others = TokenFolder(self.folder).holds_others() or not only_holds_jobs(self.folder / JOBS)
        if not all(OWN_FILES.fullmatch(name) for name in names) or holds_others:
            raise IndexFileError(f"{self.folder} holds other files: name a new folder for the index")
        if not self._overwrite and is_old_index(self.folder):
            raise IndexFileError(
                f"{self.folder} was made by an earlier version of vmr: vmr-index upgrade {self.folder} converts it "
                "without embedding, --overwrite starts anew"
            )

    def _remove(self, names: str) -> None:
        with write_errors(self.folder):
            for file in sorted(self.folder.iterdir()):  # the manifest before the vectors that it names
                if re.fullmatch(names, file.name):
                    file.unlink()

    def _tidy(self, is_new: bool) -> None:
        """Leave nothing behind of an index that did not come to be; the lock is still held."""
        if self._writer is not None:
            return
        with suppress(OSError, VmrError):
            if self._is_making:
                self._remove(_DATABASE_FILES)
            if is_new:
                TokenFolder(self.folder).remove()
            if is_new and {file.name for file in self.folder.iterdir()} == {LOCK_FILE}:
                (self.folder / LOCK_FILE).unlink()
                self.folder.rmdir()
