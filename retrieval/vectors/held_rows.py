"""The rows of a space in memory, for many searches: to read them again would take most of each."""

from bisect import bisect_right, insort
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.errors import IndexFileError
from vmr.retrieval.storage.records import Space, Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.store import Ids, Mask, Vectors

MAX_BYTES = 2**30
"""Of vectors and times; a larger space is read from the database."""

MAX_VIDEOS = 50_000  # that are remembered, with their paths
_SPARE = 0.25  # room for new rows, as a share of those that are there
_TIMES_BYTES = 16


class _Seen(NamedTuple):
    """A video as it was read, and what shows that it has not changed: its root and its digest."""

    mark: tuple[str, bytes]
    video: Video


class HeldRows:
    """Times and vectors of all windows of a space, and the videos that were asked for.

    Windows and vectors never change, and their ids are never used again: what a commit adds is read, what it removes
    stays until that is half of the rows. A video that was asked for in an earlier version is compared with its digest.

    `refresh` comes first in every transaction, and the other methods are called in that transaction.

    Args:
        space: which space.
        max_bytes: see MAX_BYTES.
    """

    def __init__(self, space: Space, *, max_bytes: int = MAX_BYTES) -> None:
        self._space, self._max_bytes = space, max_bytes
        self._snapshot: Snapshot | None = None
        self._version: int | None = None
        self._is_held = False
        self._length, self._last_block = 0, -1
        self._vectors: Vectors = np.empty((0, space.dim), np.float32)
        self._spans: NDArray[np.float64] = np.empty((0, 2))
        self._row_of: NDArray[np.int32] = np.full(1, -1, np.int32)  # by the id of the window; -1 for none
        self._firsts: list[int] = []  # windows of videos, ascending
        self._seen: dict[int, _Seen] = {}  # by first window, the oldest first
        self._known: dict[int, Video | None] = {}  # in this version

    def refresh(self, snapshot: Snapshot) -> bool:
        """Take in what has changed since the last call.

        Returns:
            Whether the rows are held; False if there are too many, or if some are damaged: reading them says which.
        """
        self._snapshot = snapshot
        if snapshot.version == self._version:
            return self._is_held
        self._version = None  # if it cannot be read
        total = snapshot.num_windows(self._space.id)
        fits = total * self._row_bytes <= self._max_bytes
        if not fits or self._length > max(2 * total, 1000):
            self._forget()
        self._is_held = fits and self._take(total)
        self._known = {}
        self._version = snapshot.version
        return self._is_held

    def video_of(self, window_id: int) -> Video | None:
        """Return the video of a window; None if the window is not in the index."""
        place = bisect_right(self._firsts, window_id) - 1
        first = self._firsts[place] if place >= 0 else -1
        if first not in self._known:
            self._known[first] = self._video_from(first)
        video = self._known[first]
        return video if video is not None and window_id < first + video.num_windows else None

    def spans(self, video: Video) -> NDArray[np.float64]:
        """See `Snapshot.spans`; (0, 2) if the video has no vectors in the space."""
        return self._spans[self._rows_of(video)]

    def vectors_of(self, video: Video) -> Vectors:
        """Return the vectors of all windows of a video, (n, D); (0, D) if it has none in the space."""
        return self._vectors[self._rows_of(video)]

    def vectors(self, ids: Ids) -> tuple[Vectors, Mask]:
        """See `Snapshot.vectors`; windows that were removed not long ago still have one."""
        is_known = (ids >= 0) & (ids < len(self._row_of))
        rows = self._row_of[np.where(is_known, ids, 0)]
        is_there: Mask = is_known & (rows >= 0)
        return self._vectors[np.where(is_there, rows, 0)], is_there

    @property
    def num_rows(self) -> int:
        """How many rows are in memory, also of windows that were removed."""
        return self._length

    @property
    def _now(self) -> Snapshot:
        assert self._snapshot is not None, "refresh comes first"
        return self._snapshot

    @property
    def _row_bytes(self) -> int:
        return 4 * self._space.dim + _TIMES_BYTES

    def _forget(self) -> None:
        """Hold nothing."""
        self._is_held = False
        self._length, self._last_block = 0, -1
        self._vectors, self._spans = np.empty((0, self._space.dim), np.float32), np.empty((0, 2))
        self._row_of = np.full(1, -1, np.int32)
        self._firsts, self._seen, self._known = [], {}, {}

    def _take(self, total: int) -> bool:
        """Read the blocks that are not known yet; tell whether they are whole."""
        now, space_id = self._now, self._space.id
        num_new = total if self._last_block < 0 else now.num_windows(space_id, self._last_block)
        if self._length + num_new > len(self._vectors):
            room = int((self._length + num_new) * (1 + _SPARE))
            self._vectors, self._spans = _moved(self._vectors, room), _moved(self._spans, room)
        num_ids = int(now.meta("next_window"))
        if num_ids > len(self._row_of):
            longer = np.full(int(num_ids * (1 + _SPARE)), -1, np.int32)
            longer[: len(self._row_of)] = self._row_of
            self._row_of = longer
        try:
            for block in now.blocks(space_id, self._last_block):
                first, n = block.first_window, len(block.vectors)
                spans = now.spans_from(first, n)
                if len(spans) != n:
                    return False
                end = self._length + n
                self._vectors[self._length : end], self._spans[self._length : end] = block.vectors, spans
                self._row_of[first : first + n] = np.arange(self._length, end)
                insort(self._firsts, first)
                self._length, self._last_block = end, block.id
        except IndexFileError:
            return False
        return True

    def _rows_of(self, video: Video) -> slice:
        row = int(self._row_of[video.first_window])
        return slice(row, row + video.num_windows) if row >= 0 else slice(0, 0)

    def _video_from(self, first: int) -> Video | None:
        """Return the video whose windows begin with this one."""
        mark = self._now.mark_of_video(first)
        if mark is None:
            self._seen.pop(first, None)
            return None
        seen = self._seen.get(first)
        if seen is None or seen.mark != mark:
            video = self._now.video_of_window(first)
            assert video is not None
            self._seen[first] = seen = _Seen(mark, video)
            if len(self._seen) > MAX_VIDEOS:
                del self._seen[next(iter(self._seen))]
        return seen.video


def _moved(rows: NDArray[Any], room: int) -> NDArray[Any]:
    """Move rows to new memory with room for so many."""
    longer = np.empty((room, *rows.shape[1:]), rows.dtype)
    longer[: len(rows)] = rows
    return longer
