"""What an index holds at one moment: the queries of all readers.

A snapshot is valid inside one transaction. Everything that it returns belongs together.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import IndexFileError
from vmr.retrieval.storage.paths import path_to_text, text_to_path
from vmr.retrieval.storage.records import (
    Block,
    FailedFile,
    FoundText,
    Generation,
    IndexSettings,
    Removed,
    Space,
    Text,
    Vectors,
    Video,
    VideoOrder,
    Window,
)
from vmr.retrieval.storage.rows import (
    WHAT_TO_DO,
    to_block,
    to_counts,
    to_failure,
    to_remarks,
    to_some_rows,
    to_space,
    to_video,
    to_window,
)
from vmr.retrieval.storage.schema import COUNTERS
from vmr.retrieval.storage.where import Where

_VIDEO = (
    "SELECT v.id, r.path, v.path, v.content_hash, v.size, v.mtime_ns, v.inode, v.seen_ns, v.duration_s, "
    "v.width, v.height, v.remarks, v.metadata, v.first_window, v.num_windows FROM videos v "
    "JOIN roots r ON r.id = v.root_id"
)
_WINDOW = (
    "SELECT w.id, r.path, v.path, w.start_s, w.end_s FROM windows w JOIN videos v ON v.id = w.video_id "
    "JOIN roots r ON r.id = v.root_id"
)
_FILE = "rtrim(r.path, '/') || '/' || v.path"
# The order of an index, which does not depend on which video was embedded first: by the absolute path.
_VIDEO_ORDER = f"ORDER BY {_FILE}"
_WINDOW_ORDER = f"{_VIDEO_ORDER}, w.start_s, w.end_s, w.id"
_ORDERS: dict[VideoOrder, str] = {"path": _FILE, "duration": "v.duration_s", "date": "v.mtime_ns", "added": "v.id"}
_VALUES_AT_ONCE = 10_000


class Snapshot:
    """The content of an index at one moment.

    Args:
        database: a connection, in a transaction.

    Attributes:
        version: changes whenever another connection has committed something; compare it only with that of other
            snapshots of the same reader.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("SELECT 1 FROM meta").fetchone()  # begins the snapshot, before the version is asked for
        (self.version,) = database.execute("PRAGMA data_version").fetchone()

    def meta(self, key: str) -> Any:
        """Return a value of the table meta; None if there is no such key."""
        (value,) = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone() or (None,)
        if key in COUNTERS and not isinstance(value, int):
            raise IndexFileError(f"the counter {key} of the index is damaged: {WHAT_TO_DO}")
        return value

    @property
    def settings(self) -> IndexSettings:
        """How videos are cut into windows."""
        return IndexSettings(
            self.meta("window_s"), self.meta("stride_s"), self.meta("segments"), bool(self.meta("whole_video"))
        )

    def roots(self) -> dict[int, str]:
        """Number of a root -> the absolute folder."""
        return {number: text_to_path(path) for number, path in self._database.execute("SELECT id, path FROM roots")}

    def other_files(self, root: str | None = None) -> dict[str, int]:
        """Kind -> how many files of the roots, or of one, are no videos."""
        counts: dict[str, int] = {}
        for path, text in self._database.execute("SELECT path, other_files FROM roots"):
            if root is not None and text_to_path(path) != root:
                continue
            for kind, count in to_counts(text):
                counts[kind] = counts.get(kind, 0) + count
        return dict(sorted(counts.items(), key=lambda kind_count: (-kind_count[1], kind_count[0])))

    def spaces(self) -> list[Space]:
        """Return the spaces, the oldest first."""
        return [to_space(row) for row in self._database.execute("SELECT * FROM spaces ORDER BY id")]

    def num_videos(self) -> int:
        """Count the videos."""
        return self._count("SELECT count FROM totals WHERE name = 'videos'")

    def num_damaged(self) -> int:
        """Count the videos that were read with damage."""
        query = "SELECT remarks FROM videos WHERE remarks != '[]'"
        return sum(
            any(remark.kind == "damage" for remark in to_remarks(text)) for (text,) in self._database.execute(query)
        )

    def num_failures(self) -> int:
        """Count the files that could not be read."""
        return self._count("SELECT count FROM totals WHERE name = 'failures'")

    def num_windows(self, space_id: int | None = None, after_block: int = -1) -> int:
        """Count the windows, or those that have a vector in a space, in a block that was written after a given one."""
        if space_id is None:
            return self._count("SELECT ifnull(sum(num_windows), 0) FROM videos")
        query = "SELECT ifnull(sum(n), 0) FROM vectors WHERE +space_id = ? AND id > ?"
        return self._count(query, space_id, after_block)

    @property
    def has_texts(self) -> bool:
        """Whether a video has a text."""
        return bool(self._count("SELECT EXISTS (SELECT 1 FROM texts)"))

    def num_texts(self) -> int:
        """Count the texts of all videos."""
        return self._count("SELECT count(*) FROM texts")

    def videos(self, where: Where | None = None) -> Iterator[Video]:
        """Yield the videos in the order of the index, all or those that a condition selects."""
        if where is None:
            return map(to_video, self._database.execute(f"{_VIDEO} {_VIDEO_ORDER}"))
        query = f"{_VIDEO} WHERE {where.condition} {_VIDEO_ORDER}"
        return map(to_video, self._database.execute(query, where.parameters))

    def video_ids(self, where: Where) -> list[int]:
        """Return the numbers of the videos that a condition selects, the lowest first."""
        query = f"SELECT v.id FROM videos v JOIN roots r ON r.id = v.root_id WHERE {where.condition} ORDER BY v.id"
        return [number for (number,) in self._database.execute(query, where.parameters)]

    def video(self, video_id: int) -> Video | None:
        """Return a video; None if it is not in the index."""
        row = self._database.execute(f"{_VIDEO} WHERE v.id = ?", (video_id,)).fetchone()
        return None if row is None else to_video(row)

    def videos_with(self, video_ids: Iterable[int]) -> dict[int, Video]:
        """Return videos by their numbers; those that are not in the index are left out."""
        query = f"{_VIDEO} WHERE v.id IN (SELECT value FROM json_each(?))"
        rows = self._database.execute(query, (json.dumps([int(number) for number in video_ids]),))
        return {video.id: video for video in map(to_video, rows)}

    def count_videos(self, where: Where | None = None) -> int:
        """Count the videos, all or those that a condition selects."""
        if where is None:
            return self.num_videos()
        query = f"SELECT count(*) FROM videos v JOIN roots r ON r.id = v.root_id WHERE {where.condition}"
        return int(self._database.execute(query, where.parameters).fetchone()[0])

    def some_videos(
        self,
        k: int,
        by: VideoOrder = "path",
        *,
        is_descending: bool = False,
        where: Where | None = None,
        after: tuple[str | int | float, int] | None = None,
    ) -> list[Video]:
        """Return videos in an order; those that tie by their numbers.

        Args:
            k: how many at most.
            by: what they are ordered by: path, duration, time of the last change, or number.
            is_descending: whether the largest comes first.
            where: selects videos; None for all.
            after: only those after this value of `by` and this number; None for the first.
        """
        column, sign, word = _ORDERS[by], "<" if is_descending else ">", "DESC" if is_descending else ""
        condition, values = ("1", ()) if where is None else (where.condition, where.parameters)
        if after is not None:
            condition, values = f"({condition}) AND ({column}, v.id) {sign} (?, ?)", (*values, *after)
        query = f"{_VIDEO} WHERE {condition} ORDER BY {column} {word}, v.id {word} LIMIT ?"
        return [to_video(row) for row in self._database.execute(query, (*values, k))]

    def folders(self, most: int) -> list[str]:
        """Return the folders of the videos, relative to their roots, the first ones in alphabetical order.

        A folder that holds nothing but other folders is left out, and so is the root itself, and paths that are not
        UTF-8.

        Args:
            most: how many to return at most.
        """
        folder = "rtrim(rtrim(path, replace(path, '/', '')), '/')"
        wanted = "folder != '' AND instr(path, '//') = 0"
        query = f"SELECT DISTINCT {folder} AS folder FROM videos WHERE {wanted} ORDER BY folder LIMIT ?"
        return [path for (path,) in self._database.execute(query, (most,))]

    def video_of_window(self, window_id: int) -> Video | None:
        """Return the video that a window belongs to; None if the window is not in the index."""
        query = f"{_VIDEO} WHERE v.first_window <= ? ORDER BY v.first_window DESC LIMIT 1"
        row = self._database.execute(query, (window_id,)).fetchone()
        video = None if row is None else to_video(row)
        return video if video is not None and window_id < video.first_window + video.num_windows else None

    def spans(self, video: Video) -> NDArray[np.float64]:
        """Return start and end of each window of a video in seconds, (n, 2)."""
        return self.spans_from(video.first_window, video.num_windows)

    def spans_from(self, first_window: int, n: int) -> NDArray[np.float64]:
        """Return start and end of n windows whose ids follow each other, in seconds, (n, 2); fewer if some are gone."""
        query = "SELECT start_s, end_s FROM windows WHERE id >= ? AND id < ? ORDER BY id"
        rows = self._database.execute(query, (first_window, first_window + n)).fetchall()
        return np.array(rows, np.float64).reshape(-1, 2)

    def mark_of_video(self, first_window: int) -> tuple[str, bytes] | None:
        """Return root and digest of the video that begins with a window: while they are the same, so is the video."""
        query = "SELECT r.path, v.digest FROM videos v JOIN roots r ON r.id = v.root_id WHERE v.first_window = ?"
        row: tuple[str, bytes] | None = self._database.execute(query, (first_window,)).fetchone()
        return row

    def window_ranges(self, where: Where) -> NDArray[np.int64]:
        """Return the first window and the number of windows of each video that a condition selects, int64 (V, 2)."""
        columns = "SELECT v.first_window, v.num_windows FROM videos v JOIN roots r ON r.id = v.root_id"
        rows = self._database.execute(f"{columns} WHERE {where.condition}", where.parameters)
        return np.array(rows.fetchall(), np.int64).reshape(-1, 2)

    def video_at(self, file: str) -> Video | None:
        """Return the video of a file, given its absolute path; None if it is not in the index."""
        for root_id, root in self.roots().items():
            prefix = root.rstrip("/") + "/"
            if file.startswith(prefix):
                query = f"{_VIDEO} WHERE v.root_id = ? AND v.path = ?"
                row = self._database.execute(query, (root_id, path_to_text(file[len(prefix) :]))).fetchone()
                if row is not None:
                    return to_video(row)
        return None

    def windows(self, video_ids: Iterable[int] | None = None, space_id: int | None = None) -> Iterator[Window]:
        """Yield the windows in the order of the index.

        Args:
            video_ids: only those of these videos; None for all.
            space_id: only those that have a vector in this space; None for all.
        """
        conditions: list[str] = ["1"]
        parameters: list[str | int] = []
        if video_ids is not None:
            conditions.append("w.video_id IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps([int(number) for number in video_ids]))
        if space_id is not None:
            conditions.append("v.first_window IN (SELECT first_window FROM vectors WHERE space_id = ?)")
            parameters.append(space_id)
        query = f"{_WINDOW} WHERE {' AND '.join(conditions)} {_WINDOW_ORDER}"
        return map(to_window, self._database.execute(query, parameters))

    def hits(self, window_ids: Iterable[int]) -> dict[int, Window]:
        """Return windows by their ids; those that are not in the index are left out."""
        wanted = [int(number) for number in window_ids]
        found: dict[int, Window] = {}
        for start in range(0, len(wanted), _VALUES_AT_ONCE):
            some = json.dumps(wanted[start : start + _VALUES_AT_ONCE])
            query = f"{_WINDOW} WHERE w.id IN (SELECT value FROM json_each(?))"
            found |= {row[0]: to_window(row) for row in self._database.execute(query, (some,))}
        return found

    def video_ranges(self, space_id: int) -> NDArray[np.int64]:
        """Return the first window and the number of windows of each block of a space, int64 (V, 2), by first window."""
        query = "SELECT first_window, n FROM vectors WHERE space_id = ? ORDER BY first_window"
        return np.array(self._database.execute(query, (space_id,)).fetchall(), np.int64).reshape(-1, 2)

    def blocks(self, space_id: int, after_block: int = -1) -> Iterator[Block]:
        """Yield the vectors of a space, the oldest block first; those that were written after a block.

        Raises:
            IndexFileError: a block is damaged.
        """
        space = self._space(space_id)
        # Without the plus, SQLite finds the rows by their space and sorts all of them by id, with their data.
        query = "SELECT id, first_window, n, crc, data FROM vectors WHERE +space_id = ? AND id > ? ORDER BY id"
        for number, first, n, crc, data in self._database.execute(query, (space_id, after_block)):
            yield to_block(space, number, first, n, crc, data)

    def blocks_of(self, space_id: int, window_ids: Iterable[int]) -> Iterator[Block]:
        """Yield the blocks that hold some windows, by first window; windows without a vector are passed over.

        Raises:
            IndexFileError: a block is damaged.
        """
        space = self._space(space_id)
        for number, first, n, crc, data in self._rows_of_blocks(space_id, sorted(map(int, window_ids))):
            yield to_block(space, number, first, n, crc, data)

    def vectors(self, space_id: int, window_ids: NDArray[np.int64]) -> tuple[Vectors, NDArray[np.bool_]]:
        """Read the vectors of some windows.

        Args:
            space_id: the space.
            window_ids: int64 (N,), in any order.

        Returns:
            The vectors, float32 (N, D), and which of the windows have one, bool (N,).

        Raises:
            IndexFileError: a block that holds one of them is damaged.
        """
        shape = "SELECT dim, dtype FROM spaces WHERE id = ?"  # a search reads no more of the space
        dim, dtype = self._database.execute(shape, (space_id,)).fetchone()
        vectors, is_there = np.empty((len(window_ids), dim), np.float32), np.zeros(len(window_ids), bool)
        order = np.argsort(window_ids, kind="stable")
        ids = window_ids[order]
        for _, first, n, crc, data in self._rows_of_blocks(space_id, ids.tolist()):
            start, end = np.searchsorted(ids, [first, first + n])
            vectors[order[start:end]] = to_some_rows(data, dim, dtype, n, crc, ids[start:end] - first)
            is_there[order[start:end]] = True
        return vectors, is_there

    def _rows_of_blocks(self, space_id: int, window_ids: Sequence[int]) -> Iterator[Sequence[Any]]:
        """Yield id, first window, n, CRC and data of the blocks that hold windows, which are in increasing order."""
        query = (
            "SELECT id, first_window, n, crc, data FROM vectors WHERE space_id = ? AND first_window <= ? "
            "ORDER BY first_window DESC LIMIT 1"
        )
        end = 0
        for window_id in window_ids:
            row = None if window_id < end else self._database.execute(query, (space_id, window_id)).fetchone()
            if row is not None and window_id < row[1] + row[2]:
                end = row[1] + row[2]
                yield row

    def removed(self, after_seq: int = -1) -> list[Removed]:
        """Return the windows that were removed after a line; lines before meta.removed_from are not there."""
        query = "SELECT seq, first_window, n FROM removed WHERE seq > ? ORDER BY seq"
        return [Removed(*row) for row in self._database.execute(query, (after_seq,))]

    def failures(self) -> list[FailedFile]:
        """Return the files that could not be read, by path."""
        query = (
            "SELECT r.path, f.path, f.size, f.mtime_ns, f.inode, f.seen_ns, f.reason FROM failures f "
            "JOIN roots r ON r.id = f.root_id ORDER BY r.path, f.path"
        )
        return [to_failure(row) for row in self._database.execute(query)]

    def texts(self, video_id: int) -> list[Text]:
        """Return the texts of a video in the order in which they were given."""
        query = "SELECT start_s, end_s, kind, text FROM texts WHERE video_id = ? ORDER BY id"
        return [Text(*row) for row in self._database.execute(query, (video_id,))]

    def find_texts(
        self, words: Sequence[str], k: int, where: Where | None = None, before: int | None = None
    ) -> list[FoundText]:
        """Find the texts that hold all of some words, the best first by bm25; ties by age.

        Args:
            words: at least one and at most 100, in any order; those without a letter or a digit do not count.
            k: how many texts to return at most.
            where: only texts of the videos that a condition selects; None for all.
            before: only texts of videos whose windows have lower ids than this; None for all.
        """
        query = " ".join('"' + word.replace('"', '""') + '"' for word in words)
        condition, values = ("1", ()) if where is None else (where.condition, where.parameters)
        if before is not None:
            condition, values = f"({condition}) AND v.first_window < ?", (*values, before)
        rows = self._database.execute(
            "SELECT t.video_id, t.start_s, t.end_s, t.kind, t.text, -f.rank FROM texts_fts f JOIN texts t "
            "ON t.id = f.rowid JOIN videos v ON v.id = t.video_id JOIN roots r ON r.id = v.root_id "
            f"WHERE texts_fts MATCH ? AND ({condition}) ORDER BY f.rank, t.id LIMIT ?",
            (query, *values, k),
        )
        return [FoundText(row[0], Text(*row[1:5]), row[5]) for row in rows]

    def generations(self, space_id: int | None = None) -> list[Generation]:
        """Return the FAISS files, of all spaces or of one, the newest first."""
        query = "SELECT * FROM generations WHERE ? IN (space_id, -1) ORDER BY id DESC"
        rows = self._database.execute(query, (-1 if space_id is None else space_id,))
        return [Generation(*row) for row in rows]

    def _space(self, space_id: int) -> Space:
        return to_space(self._database.execute("SELECT * FROM spaces WHERE id = ?", (space_id,)).fetchone())

    def _count(self, query: str, *parameters: int) -> int:
        return int(self._database.execute(query, parameters).fetchone()[0])
