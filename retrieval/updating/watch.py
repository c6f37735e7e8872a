"""Watching folders, and bringing an index up to date when something in them has changed.

What the system says about changes is taken as a sign that something has changed, and never as what has changed: an
update looks at the folders themselves. So a sign that comes late, twice or not at all for one of many files costs
nothing, and a file that is gone again when it is looked at is no error.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vmr.checks import check_path, real_number, require_extra
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.files import walk_files
from vmr.progress import printable
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.updating.hooks import Hooks, Tell
from vmr.retrieval.updating.listing import absolute
from vmr.retrieval.updating.plan import UpdateOptions
from vmr.retrieval.updating.settling import Settling
from vmr.retrieval.updating.spaces import AnyEncoder
from vmr.retrieval.updating.update import load_encoders, update_index
from vmr.signals import StopSignals

_PATIENCE = 5  # times the wait: so long may changes that do not end put an update off
_REST = 4  # times the length of an update that found nothing to do: so long it is not repeated
_LOOK_REST = 20  # times the CPU time that it takes to look at all files: so long they are not looked at again
_RETRY_S, _MAX_RETRY_S = 10.0, 300.0
_RESCAN_S = 600.0  # an update comes even without a sign: the system may have had no room for it


Updater = Callable[[Sequence[str], Hooks], object]
"""Brings an index up to date with those of its folders that are there; the hooks say what to ask and to tell."""


class _CannotWatchError(Exception):
    """The system does not tell what changes; the message says why."""


class _MissingError(Exception):
    """A folder is not there; the message says so."""


def watch_index(
    folders: Sequence[str | Path],
    out: str | Path,
    encoder: AnyEncoder | Sequence[AnyEncoder] | None = None,
    segments: SegmentOptions = SegmentOptions(),
    *,
    decode: DecodeOptions = DecodeOptions(),
    update: UpdateOptions = UpdateOptions(),
    settle_s: float = 2.0,
    poll: bool = False,
    say: Tell = print,
) -> None:
    """Keep an index up to date with folders, until Ctrl-C or SIGTERM; a video in flight is finished first.

    The index is locked only while it is updated. It may come to be empty, and is made even if there is no video yet.

    Args:
        folders: folders of videos; see `watch_folders`.
        out: the folder of the index.
        encoder: the models; they are loaded once. None for those of the index; `offline` for a new one.
        segments: how videos are cut, and which frames are taken.
        decode: how videos are decoded.
        update: how files are compared with the index.
        settle_s: see `watch_folders`.
        poll: see `watch_folders`.
        say: is told what happens, in lines.

    Raises:
        VmrError: as for `vmr.build_index` and `watch_folders`, of the first update only.
    """
    models: list[AnyEncoder] = []

    def bring_up_to_date(folders: Sequence[str], hooks: Hooks) -> None:
        if not models:
            models.extend(load_encoders(Path(check_path("out", out)), encoder, segments, reader=decode.reader))
        update_index(folders, out, models, segments, decode=decode, update=update, hooks=hooks)

    watch_folders(folders, bring_up_to_date, settle_s=settle_s, poll=poll, ignored=[out], say=say)


def watch_folders(
    folders: Sequence[str | Path],
    update: Updater,
    *,
    settle_s: float = 2.0,
    poll: bool = False,
    ignored: Sequence[str | Path] = (),
    say: Tell = print,
) -> None:
    """Update an index at once, and again whenever something in some folders has changed, until Ctrl-C or SIGTERM.

    An update waits until nothing has changed for `settle_s`, but not much longer while changes do not end. A folder
    that is gone is waited for, and nothing of it is removed. After an error the update is tried again later.

    Args:
        folders: the folders, which are watched with everything below them.
        update: brings the index up to date.
        settle_s: how long nothing must have changed, in seconds; also for how long a file must not have changed before
            it is read, see `Settling`.
        poll: look at all files again and again, where the system does not tell what changes: on network file systems.
        ignored: folders below the others in which nothing matters, such as that of the index.
        say: is told what happens, in lines.

    Raises:
        VmrError: the first update fails, a folder does not exist, or an argument is out of range.
        MissingExtraError: the package watchfiles is missing.
    """
    require_extra("index", "watchfiles")
    places = [absolute(check_path("folder", folder)) for folder in folders]
    if not 0 < real_number("settle_s", settle_s) <= 3600:
        raise VmrError(f"settle_s is {settle_s}: expected a number of seconds above 0 and up to 3600")
    for place in places:
        if not Path(place).is_dir():
            raise VmrError(f"{place}: no such folder")
    with StopSignals() as signals:
        left_out = [absolute(one) for one in ignored]
        _Watch(places, update, signals, settle_s=settle_s, poll=poll, ignored=left_out, say=say).run()


class _Watch:
    """The state of `watch_folders`. Times are those of `time.monotonic`."""

    def __init__(
        self,
        folders: Sequence[str],
        update: Updater,
        signals: StopSignals,
        *,
        settle_s: float,
        poll: bool,
        ignored: Sequence[str],
        say: Tell,
    ) -> None:
        self._folders, self._update, self._signals, self._say = folders, update, signals, say
        self._settle_s, self._poll, self._ignored = settle_s, poll, ignored
        self._settling = Settling(settle_s)
        self._tick_s = min(0.5, settle_s / 4)
        self._first_s: float | None = -float("inf")  # when the first change came that no update has seen
        self._last_s = -float("inf")  # when the last one came
        self._not_before_s = -float("inf")
        self._ended_s = time.monotonic()  # when the last update ended
        self._retry_s = _RETRY_S
        self._error = ""
        self._has_begun = False
        self._missing: dict[str, str] = {}  # folder -> why it is not there
        self._filled: dict[str, tuple[int, int]] = {}  # folders in which something was when they were seen first

    @property
    def _is_stopped(self) -> bool:
        return self._signals.received is not None

    def is_set(self) -> bool:
        """Whether to end; watchfiles asks."""
        return self._is_stopped

    def run(self) -> None:
        """Watch until a signal comes."""
        while not self._is_stopped:
            identities = self._present()
            if not identities:
                time.sleep(self._tick_s)
                continue
            try:
                for has_changed in self._signs([*identities]):
                    self._note(has_changed)
                    if self._is_due():
                        self._bring_up_to_date([*identities])
                    if self._is_stopped or self._present() != identities:
                        break
            except _CannotWatchError as error:
                self._poll = True
                self._say(printable(f"the system cannot watch ({error}): looking at all files again and again instead"))
            self._note(True)  # folders came or went
        self._say("stopped")

    def _signs(self, folders: Sequence[str]) -> Iterator[bool]:
        """Yield, a few times in a second, whether something has changed."""
        if self._poll:
            yield from self._look_again_and_again(folders)
            return
        from watchfiles import watch

        tick_ms = max(1, round(1000 * self._tick_s))
        try:
            for changes in watch(
                *folders,
                watch_filter=None,  # while it leaves out everything, nothing is yielded, not even in time
                debounce=tick_ms,
                step=min(50, tick_ms),
                rust_timeout=tick_ms,
                yield_on_timeout=True,
                stop_event=self,
            ):
                yield any(self._matters(path) for _, path in changes)
        except FileNotFoundError:  # a folder has gone since it was looked at
            return
        except (OSError, RuntimeError) as error:
            raise _CannotWatchError(str(error).partition(" (Error {")[0]) from None

    def _look_again_and_again(self, folders: Sequence[str]) -> Iterator[bool]:
        """Do the same without the help of the system. Unlike that of watchfiles, it gets along with locked folders."""
        known: dict[str, tuple[int, int, int] | None] | None = None
        while True:
            begin_s, begin_cpu_s = time.monotonic(), time.thread_time()
            try:
                seen = {path: key for folder in folders for path, key in self._files(folder)}
            except VmrError:  # a folder has gone
                return
            wall_s, cpu_s = time.monotonic() - begin_s, time.thread_time() - begin_cpu_s
            yield known is not None and seen != known
            known = seen
            until_s = time.monotonic() + max(self._settle_s, _LOOK_REST * cpu_s, wall_s)
            while time.monotonic() < until_s:
                time.sleep(self._tick_s)
                yield False

    def _files(self, folder: str) -> Iterator[tuple[str, tuple[int, int, int] | None]]:
        for path in walk_files(folder, pass_over=lambda _path, _error: None):
            if self._matters(str(path)):
                state = FileState.of(path)
                yield str(path), None if state is None else state.key

    def _matters(self, path: str) -> bool:
        """Whether a change may be one of the videos. Hidden files and the index itself do not matter."""
        if any(path == one or path.startswith(f"{one}/") for one in self._ignored):
            return False
        below = [path.removeprefix(folder) for folder in self._folders if path.startswith(folder)]
        return not below or any("/." not in rest for rest in below)

    def _present(self) -> dict[str, tuple[int, int]]:
        """The folders that are there, and which they are: one that has come back is another one."""
        present = {}
        for folder in self._folders:
            try:
                present[folder] = self._identity(folder)
            except _MissingError as missing:
                self._filled.pop(folder, None)
                if self._missing.get(folder) != str(missing):
                    self._missing[folder] = str(missing)
                    self._say(printable(f"{folder} {missing}"))
                continue
            if self._missing.pop(folder, ""):
                self._say(printable(f"{folder} is back"))
        return present

    def _identity(self, folder: str) -> tuple[int, int]:
        """Which folder this is. One that has been empty since it was seen first may be a disk that is not mounted."""
        try:
            status = Path(folder).stat()
            identity = (status.st_dev, status.st_ino)
            if self._filled.get(folder) != identity:
                with os.scandir(folder) as entries:
                    if next(entries, None) is None:
                        raise _MissingError(
                            "is empty: videos that were in it stay in the index until something is in it"
                        )
                self._filled[folder] = identity
        except OSError as error:
            reason = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be listed ({error.strerror})"
            raise _MissingError(f"{reason}: its videos stay in the index until it is back") from None
        return identity

    def _note(self, has_changed: bool) -> None:
        if has_changed:
            self._last_s = time.monotonic()
            self._first_s = self._last_s if self._first_s is None else self._first_s
        elif self._first_s is None and (self._settling.any_settled() or time.monotonic() > self._ended_s + _RESCAN_S):
            self._first_s = self._last_s = -float("inf")  # there is nothing to wait for

    def _is_due(self) -> bool:
        """Whether there are changes, and they have ended or have gone on for long."""
        if self._first_s is None:
            return False
        now_s = time.monotonic()
        is_quiet = now_s - self._last_s >= self._settle_s
        return now_s >= self._not_before_s and (is_quiet or now_s - self._first_s >= _PATIENCE * self._settle_s)

    def _bring_up_to_date(self, folders: Sequence[str]) -> None:
        begin_s, num_lines = time.monotonic(), 0

        def tell(line: str) -> None:
            nonlocal num_lines
            num_lines += 1
            self._say(printable(line))
            if self._is_stopped:
                raise KeyboardInterrupt

        self._first_s = None
        try:
            self._update(folders, Hooks(self._settling.waits, tell, may_be_empty=True))
        except KeyboardInterrupt:
            if not self._is_stopped:
                raise
        except (VmrError, OSError) as error:
            if not self._has_begun:
                raise
            self._put_off(error)
        else:
            self._retry_s, self._error = _RETRY_S, ""
            if num_lines == 0:
                self._not_before_s = time.monotonic() + _REST * (time.monotonic() - begin_s)
        self._ended_s = time.monotonic()
        if not self._has_begun and not self._is_stopped:
            self._has_begun = True
            self._say(printable(f"watching {', '.join(self._folders)}: Ctrl-C ends it"))

    def _put_off(self, error: Exception) -> None:
        """Say why an update failed, unless a folder is gone, which is said elsewhere; try again later."""
        now_s = time.monotonic()
        self._first_s = self._last_s = now_s
        if not all(Path(folder).is_dir() for folder in self._folders):
            return
        if str(error) != self._error:
            self._say(printable(f"not updated: {error}"))
            self._error = str(error)
        self._not_before_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)
