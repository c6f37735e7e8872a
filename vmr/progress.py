"""Progress for people: written to standard error, so that results can be piped."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from typing_extensions import Self


def progress_bar(shown: bool) -> Progress:
    """Make a bar that counts items and estimates the time left; it is drawn on a terminal only.

    Args:
        shown: False for a bar that is never drawn.

    Returns:
        The bar; a context manager.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # rich would send what is printed meanwhile to the bar's terminal, also where standard output is a file.
    return Progress(
        *columns, console=console, disable=not (shown and console.is_terminal), redirect_stdout=sys.stdout.isatty()
    )


def spinner(shown: bool, text: str) -> AbstractContextManager[object]:
    """Make a spinner for work whose length is not known; it is drawn on a terminal only.

    Args:
        shown: False for nothing at all.
        text: what is being done.

    Returns:
        A context manager; the spinner turns inside it.
    """
    console = Console(stderr=True)
    return console.status(text) if shown and console.is_terminal else nullcontext()


def printable(text: str) -> str:
    """Return a text in which control characters are escaped, because a file name may hold any of them.

    Args:
        text: any text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Reached:
    """How far work on videos is.

    Attributes:
        num_done: videos that are done.
        num_videos: videos in all.
        done_s: seconds of video that are done.
        total_s: seconds of all videos, as far as that is known; None if nothing is known.
        speed: seconds of video that are done in a second; None at the beginning.
        left_s: seconds until the end, at this speed; None if that is not known.
        now: the video that is being worked on; an empty text before the first.
    """

    num_done: int
    num_videos: int
    done_s: float
    total_s: float | None
    speed: float | None
    left_s: float | None
    now: str


class VideoProgress:
    """Progress of work on videos, in seconds of video; a context manager.

    On a terminal it is a bar. Elsewhere it is a line every 10 seconds, and one at the end:
    `312 s of 4210 s of video, 8.1 x real time, about 8 min left, now: cam/12.mp4`. Threads may share it.

    Args:
        shown: False for nothing at all.
        follow: is called whenever something has changed; None for nothing.
        console: where the bar is drawn; None for standard error.
        clock: tells the time in seconds.
        every_s: seconds between two lines.
    """

    def __init__(
        self,
        shown: bool,
        *,
        follow: Callable[["VideoProgress"], object] | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 10.0,
    ) -> None:
        self._shown, self._console, self._clock, self._every_s = shown, console or Console(stderr=True), clock, every_s
        self._follow = follow
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._lines: threading.Thread | None = None
        self._bar: Progress | None = None
        self._begin_s = clock()
        self._root = ""
        self._waiting: dict[str, float | None] = {}  # videos that are not done, and their lengths
        self._reached: dict[str, float] = {}  # of those, how many seconds are done
        self._num_videos, self._done_s, self._waiting_s, self._num_unknown = 0, 0.0, 0.0, 0
        self._now = ""

    def start(self, lengths: Mapping[str, float | None]) -> None:
        """Begin, and show it.

        Args:
            lengths: path of each video -> its length in seconds, as far as it is known. Unknown ones are taken to be as
                long as the others are on average.
        """
        with self._lock:
            self._begin_s = self._clock()
            self._waiting = dict(lengths)
            self._num_videos = len(lengths)
            self._waiting_s = math.fsum(length_s or 0.0 for length_s in lengths.values())
            self._num_unknown = sum(length_s is None for length_s in lengths.values())
            folders = {os.path.dirname(path) for path in lengths}  # noqa: PTH120 - thousands of paths
            self._root = os.path.commonpath(folders) if len({*map(os.path.isabs, folders)}) == 1 else ""
        self._draw()
        if not self._shown or not lengths:
            return
        if self._console.is_terminal:
            self._bar = Progress(BarColumn(20), _Sentence(self), console=self._console)
            self._bar.add_task("", total=1.0)
            self._bar.start()
        else:
            self._lines = threading.Thread(target=self._print_lines, name="vmr-progress", daemon=True)
            self._lines.start()

    def at(self, path: str, seconds: float = 0.0) -> None:
        """Say which video is being worked on, and how many seconds of it are done."""
        with self._lock:
            self._now = path
            if path in self._waiting:
                self._reached[path] = seconds
        self._draw()

    def video_done(self, path: str, seconds: float) -> None:
        """Say that a video is done; one that failed has 0 seconds."""
        with self._lock:
            length_s = self._waiting.pop(path, 0.0)
            self._reached.pop(path, None)
            self._num_unknown -= length_s is None
            self._waiting_s -= length_s or 0.0
            self._done_s += seconds
        self._draw()

    def reached(self) -> Reached:
        """Return how far the work is."""
        with self._lock:
            done_s, total_s, num_waiting = self._seconds_done(), self._total_s(), len(self._waiting)
            num_videos, now = self._num_videos, self._now
        elapsed_s = self._clock() - self._begin_s
        speed = done_s / elapsed_s if done_s > 0 and elapsed_s > 0 else None
        left_s = max(0.0, total_s - done_s) / speed if speed and total_s and num_waiting else None
        return Reached(num_videos - num_waiting, num_videos, done_s, total_s, speed, left_s, now)

    def sentence(self) -> str:
        """Return in words how far the work is."""
        at = self.reached()
        about = "about " if self._num_unknown else ""
        elapsed_s = self._clock() - self._begin_s
        parts = [
            f"{_amount(at.done_s, at.total_s)} of {about}{_amount(at.total_s, at.total_s)} of video"
            if at.total_s
            else f"{_amount(at.done_s, at.done_s)} of video, {at.num_done} of {at.num_videos} videos"
        ]
        if at.speed is not None:
            parts.append(f"{_speed(at.speed)} x real time")
        if at.left_s is not None:
            parts.append(f"about {duration_in_words(at.left_s)} left")
        if at.num_done == at.num_videos:
            parts.append(f"{duration_in_words(elapsed_s)} in all")
        elif at.now:
            parts.append(f"now: {os.path.relpath(at.now, self._root) if self._root else at.now}")
        return printable(", ".join(parts))

    def fraction(self) -> float:
        """Return the part of the work that is done, from 0 to 1."""
        with self._lock:
            total_s = self._total_s()
            if total_s:
                return min(1.0, self._seconds_done() / total_s)
            return 1 - len(self._waiting) / max(1, self._num_videos)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._draw()
            self._bar.stop()
        if self._lines is not None:
            self._lines.join()
            self._print_line()

    def _seconds_done(self) -> float:
        return self._done_s + math.fsum(self._reached.values())

    def _total_s(self) -> float | None:
        """The seconds of all videos; None if no length is known."""
        num_known = self._num_videos - self._num_unknown
        known_s = self._done_s + self._waiting_s
        if not self._num_unknown:
            return known_s
        return known_s * self._num_videos / num_known if num_known and known_s else None

    def _draw(self) -> None:
        if self._follow is not None:
            self._follow(self)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.fraction())

    def _print_lines(self) -> None:
        while not self._ended.wait(self._every_s):
            self._print_line()

    def _print_line(self) -> None:
        print(self.sentence(), file=sys.stderr, flush=True)


class _Sentence(ProgressColumn):
    """The sentence beside the bar. It is cut where the terminal ends."""

    max_refresh = 0.5  # seconds

    def __init__(self, progress: VideoProgress) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._progress = progress

    def render(self, task: Task) -> Text:
        """Return the sentence as it is now."""
        return Text(self._progress.sentence())


def duration_in_words(seconds: float) -> str:
    """Return a length of time, rounded: `40 s`, `8 min`, `3.2 h`.

    Args:
        seconds: from 0.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _amount(seconds: float, total_s: float | None) -> str:
    """Seconds, or hours where the total is long."""
    return f"{seconds:.0f} s" if (total_s or 0.0) < 3 * 3600 else f"{seconds / 3600:.1f} h"


def _speed(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}" if speed >= 1 else f"{speed:.2g}"
