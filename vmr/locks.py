"""Locks between processes, as files that hold nothing."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vmr.errors import VmrError
from vmr.files import write_errors

LOCK_FILE = ".lock"


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Wait until no other process is in this context for the same path; the lock is a file beside it, `NAME.lock`."""
    lock = FileLock(path.with_suffix(".lock"))
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        _release(lock)


@contextmanager
def locked_folder(folder: Path, busy: VmrError) -> Iterator[None]:
    """Make a folder and lock it, so that other callers of this function cannot write to it.

    Args:
        folder: the folder; the lock is its file `.lock`, which is not removed.
        busy: the error to raise if another process holds the lock.

    Raises:
        VmrError: `busy`, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)
    with write_errors(folder):
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise busy from None
            if (folder / LOCK_FILE).exists():  # otherwise another process removed it before it was locked
                break
            lock.release()
    try:
        yield
    finally:
        _release(lock)


def _release(lock: FileLock) -> None:
    with suppress(OSError):  # the file holds nothing that could be lost
        lock.release()
