"""Which files are still being written, so that none is read half."""

import os
import signal
import time
from pathlib import Path

from vmr.retrieval.storage.records import FileState

_MAX_WAIT_S = 60.0  # a program may keep a file open that it has finished


class Settling:
    """Tells files that are still being written from those that are whole.

    A file waits until its size and times have not changed for a while, and until no program has it open for writing. A
    file that has not changed for a minute, or for ten times the wait, does not wait any longer.

    Args:
        settle_s: how long a file must not have changed, in seconds.

    Attributes:
        waiting: the files that waited when they were asked about last.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s, self._max_wait_s = settle_s, max(_MAX_WAIT_S, 10 * settle_s)
        self._seen: dict[str, tuple[tuple[int, int, int], float]] = {}  # file -> its state, and since when it has it
        self.waiting: set[str] = set()

    def waits(self, file: str, state: FileState) -> bool:
        """Whether a file that was looked at just now is still being written."""
        old_s = (state.seen_ns - state.mtime_ns) / 1e9
        if old_s >= self._max_wait_s:  # most files: nothing is noted about them
            self._forget(file)
            return False
        now_s = time.monotonic()
        key, since_s = self._seen.get(file, (None, now_s))
        if key != state.key:
            key, since_s = state.key, now_s
        self._seen[file] = (key, since_s)
        same_s = max(old_s, now_s - since_s)  # a clock that is wrong may put the change into the future
        if same_s >= self._max_wait_s or (same_s >= self._settle_s and not is_being_written(file)):
            self.waiting.discard(file)
            return False
        self.waiting.add(file)
        return True

    def any_settled(self) -> bool:
        """Whether a file that waited is whole now, or gone."""
        settled = False
        for file in list(self.waiting):
            state = FileState.of(file)
            if state is None:
                self._forget(file)
            settled |= state is None or not self.waits(file, state)
        return settled

    def _forget(self, file: str) -> None:
        self._seen.pop(file, None)
        self.waiting.discard(file)


def is_being_written(file: str | Path) -> bool:
    """Whether a program on this machine has a file open for writing; False if that cannot be told.

    Linux grants a lease for reading only on a file that nobody has open for writing. It is given back at once.
    """
    try:
        import fcntl

        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (ImportError, OSError):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # a signal that does nothing, if a writer comes just now
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except (AttributeError, OSError):  # not Linux, the file of another user, or a file system without leases
        return False
    finally:
        os.close(descriptor)
    return False
