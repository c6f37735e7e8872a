"""Changing the rows of an index, inside a transaction; every change keeps the digests right."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from vmr.errors import VmrError
from vmr.retrieval.storage.digests import DIGESTED, add_to_total, digest, set_total, video_digest
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import (
    FailedFile,
    FileState,
    Generation,
    IndexSettings,
    NewVideo,
    Space,
    Text,
    Vectors,
)
from vmr.retrieval.storage.rows import encode_block
from vmr.retrieval.storage.schema import COUNTERS
from vmr.retrieval.storage.snapshot import Snapshot

_KEPT_REMOVALS = 1000


class Changes:
    """The changes of one commit. `IndexWriter.commit` gives them.

    Args:
        database: a connection, in a transaction that writes.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._stale: set[str] = set()  # small tables whose totals are computed at the end

    @property
    def snapshot(self) -> Snapshot:
        """What the index holds with the changes made so far."""
        return Snapshot(self._database)

    # Settings

    def start(self, settings: IndexSettings, about: Mapping[str, Any]) -> None:
        """Fill the empty tables of a new index.

        Args:
            settings: how videos are cut into windows.
            about: further values of meta.
        """
        values = {**asdict(settings), **about, **dict.fromkeys(COUNTERS, 1), "commit": 0}
        self._database.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        for name in DIGESTED:
            self._database.execute("INSERT INTO totals VALUES (?, 0, ?)", (name, bytes(16)))
        self._stale.add("meta")

    def set_about(self, created: str, vmr_version: str) -> None:
        """Note when an index was made, in ISO 8601, and by which version of vmr."""
        self._set_meta("created", created)
        self._set_meta("vmr_version", vmr_version)

    def clear(self, settings: IndexSettings) -> None:
        """Remove everything that the index holds, and set how videos are cut from now on."""
        for (video_id,) in self._database.execute("SELECT id FROM videos").fetchall():
            self.remove_video(video_id)
        for table in ("spaces", "roots", "failures", "generations"):
            self._database.execute(f"DELETE FROM {table}")
            self._stale.add(table)
        for key, value in asdict(settings).items():
            self._set_meta(key, value)
        # Readers that have seen no removal at all load everything again.
        self._prune_removed(self._counter("next_removed"))

    # Roots and spaces

    def add_root(self, path: str) -> int:
        """Return the number of an absolute folder, which is added if it is new."""
        text = path_to_text(path)
        row = self._database.execute("SELECT id FROM roots WHERE path = ?", (text,)).fetchone()
        if row is not None:
            return int(row[0])
        self._stale.add("roots")
        return self._inserted("INSERT INTO roots(path, other_files) VALUES (?, '{}')", text)

    def move_root(self, old: str, new: str) -> None:
        """Change the folder that paths are relative to.

        Raises:
            VmrError: `old` is no root of the index, or `new` is one already.
        """
        known = set(self.snapshot.roots().values())
        if old not in known:
            raise VmrError(f"{old} is no folder of this index, which has {', '.join(sorted(known)) or 'none'}")
        if new in known:
            raise VmrError(f"{new} is a folder of this index already")
        self._database.execute("UPDATE roots SET path = ? WHERE path = ?", (path_to_text(new), path_to_text(old)))
        self._stale.add("roots")

    def set_other_files(self, root: str, counts: Mapping[str, int]) -> None:
        """Note how many files of a root are no videos, by kind."""
        root_id = self.add_root(root)
        self._database.execute("UPDATE roots SET other_files = ? WHERE id = ?", (_json(counts), root_id))
        self._stale.add("roots")

    def add_space(self, space: Space) -> int:
        """Add a space and return its number; its `id` is ignored."""
        self._stale.add("spaces")
        values = (space.name, space.encoder, space.fingerprint, space.dim, space.dtype)
        return self._inserted(
            "INSERT INTO spaces(name, encoder, fingerprint, dim, dtype, frames, kind, search, calibration) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(*values, _json(space.frames), space.kind, _json(space.search), _json(space.calibration)),
        )

    def set_space(
        self,
        space_id: int,
        *,
        kind: str | None = None,
        search: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        """Change how a space is searched, or what its scores mean."""
        changed = {"kind": kind, "search": search, "calibration": calibration}
        for column, value in changed.items():
            if value is not None:
                text = value if isinstance(value, str) else _json(value)
                self._database.execute(f"UPDATE spaces SET {column} = ? WHERE id = ?", (text, space_id))
        self._stale.add("spaces")

    # Videos

    def put_video(self, video: NewVideo) -> int:
        """Add a video and return its number. It replaces the video at its path, whose metadata stay."""
        root_id, path = self.add_root(video.root), path_to_text(video.path)
        query = "SELECT id, metadata FROM videos WHERE root_id = ? AND path = ?"
        old_id, metadata = self._database.execute(query, (root_id, path)).fetchone() or (None, "{}")
        if old_id is not None:
            self.remove_video(old_id)
        self.remove_failure(video.root, video.path)
        n = len(video.spans)
        video_id, first = self._take("next_video"), self._take("next_window", n)
        state = (video.state.size, video.state.mtime_ns, video.state.inode, video.state.seen_ns)
        about = (video.duration_s, video.width, video.height)
        remarks = _json([asdict(remark) for remark in video.remarks])
        self._database.execute(
            f"INSERT INTO videos VALUES ({'?, ' * 15}x'')",
            (video_id, root_id, path, video.content_hash, *state, *about, remarks, metadata, first, n),
        )
        self._database.executemany(
            "INSERT INTO windows VALUES (?, ?, ?, ?)",
            [(first + i, video_id, float(start_s), float(end_s)) for i, (start_s, end_s) in enumerate(video.spans)],
        )
        for space_id, vectors in video.vectors.items():
            self._put_block(space_id, first, n, vectors)
        self._add_digest(video_id)
        return video_id

    def add_vectors(self, video_id: int, space_id: int, vectors: Vectors) -> None:
        """Give a video its vectors (n, D) in a further space."""
        with self._changed(video_id):
            query = "SELECT first_window, num_windows FROM videos WHERE id = ?"
            first, n = self._database.execute(query, (video_id,)).fetchone()
            self._put_block(space_id, first, n, vectors)

    def remove_video(self, video_id: int) -> None:
        """Remove a video and everything that belongs to it."""
        self._subtract_digest(video_id)
        query = "DELETE FROM videos WHERE id = ? RETURNING first_window, num_windows"
        first, n = self._database.execute(query, (video_id,)).fetchall()[0]
        self._database.execute("DELETE FROM windows WHERE id >= ? AND id < ?", (first, first + n))
        self._database.execute(
            "DELETE FROM vectors WHERE first_window = ? AND space_id IN (SELECT id FROM spaces)", (first,)
        )
        self._database.execute("DELETE FROM texts WHERE video_id = ?", (video_id,))
        line = (self._take("next_removed"), first, n)
        self._database.execute("INSERT INTO removed VALUES (?, ?, ?)", line)
        add_to_total(self._database, "removed", digest(line))

    def move_video(self, video_id: int, root: str, path: str, state: FileState) -> None:
        """Give a video another path, which no video of the index has."""
        root_id = self.add_root(root)
        self.remove_failure(root, path)
        with self._changed(video_id):
            self._database.execute(
                "UPDATE videos SET root_id = ?, path = ? WHERE id = ?", (root_id, path_to_text(path), video_id)
            )
            self._update_state(video_id, state)

    def set_state(self, video_id: int, state: FileState, content_hash: bytes | None = None) -> None:
        """Note that a file was looked at again, and its content if it is given."""
        with self._changed(video_id):
            self._update_state(video_id, state)
            if content_hash is not None:
                self._database.execute("UPDATE videos SET content_hash = ? WHERE id = ?", (content_hash, video_id))

    def set_metadata(self, video_id: int, metadata: Mapping[str, Any]) -> None:
        """Replace the user's metadata of a video, JSON types by key."""
        with self._changed(video_id):
            self._database.execute("UPDATE videos SET metadata = ? WHERE id = ?", (_json(metadata), video_id))

    def set_texts(self, video_id: int, texts: Iterable[Text]) -> None:
        """Replace the texts of a video."""
        with self._changed(video_id):
            self._database.execute("DELETE FROM texts WHERE video_id = ?", (video_id,))
            self._database.executemany(
                "INSERT INTO texts(video_id, start_s, end_s, kind, text) VALUES (?, ?, ?, ?, ?)",
                [(video_id, text.start_s, text.end_s, text.kind, text.text) for text in texts],
            )

    # Failures

    def put_failure(self, failure: FailedFile) -> None:
        """Note that a file could not be read; it replaces what was noted about this path."""
        self.remove_failure(failure.root, failure.path)
        state = failure.state
        reason = failure.reason.encode("utf-8", "backslashreplace").decode()  # it may name any file
        numbers = (None,) * 4 if state is None else (state.size, state.mtime_ns, state.inode, state.seen_ns)
        row = (self.add_root(failure.root), path_to_text(failure.path), *numbers, reason)
        self._database.execute("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        add_to_total(self._database, "failures", digest(row))

    def remove_failure(self, root: str, path: str) -> None:
        """Forget what was noted about a file; does nothing if nothing was."""
        row = self._database.execute(
            "DELETE FROM failures WHERE root_id = (SELECT id FROM roots WHERE path = ?) AND path = ? RETURNING *",
            (path_to_text(root), path_to_text(path)),
        ).fetchall()
        for each in row:
            add_to_total(self._database, "failures", digest(each), -1)

    # Files of FAISS

    def put_generation(self, generation: Generation) -> int:
        """Note a new FAISS file of a space, in place of the old one, and return its number; its `id` is ignored."""
        self._database.execute("DELETE FROM generations WHERE space_id = ?", (generation.space_id,))
        (last,) = self._database.execute("SELECT ifnull(max(id), 0) FROM generations").fetchone()
        number = max(int(last), int(self._meta("last_generation") or 0)) + 1
        values = asdict(generation) | {"id": number}
        self._database.execute("INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", tuple(values.values()))
        self._set_meta("last_generation", number)
        self._stale.add("generations")
        (oldest,) = self._database.execute("SELECT min(upto_removed) FROM generations").fetchone()
        self._prune_removed(oldest + 1)
        return number

    def remove_generation(self, generation_id: int) -> None:
        """Forget a FAISS file."""
        self._database.execute("DELETE FROM generations WHERE id = ?", (generation_id,))
        self._stale.add("generations")

    def finish(self) -> int:
        """Complete the totals, and return the number of the commit."""
        self._forget_old_removals()
        (number,) = self._database.execute(
            "UPDATE meta SET value = value + 1 WHERE key = 'commit' RETURNING value"
        ).fetchall()[0]
        for name in self._stale | {"meta"}:
            set_total(self._database, name)
        return int(number)

    # Parts

    @contextmanager
    def _changed(self, video_id: int) -> Iterator[None]:
        """A context in which rows of a video change: its digest is computed again."""
        self._subtract_digest(video_id)
        yield
        self._add_digest(video_id)

    def _add_digest(self, video_id: int) -> None:
        query = "SELECT first_window, num_windows FROM videos WHERE id = ?"
        one = video_digest(self._database, video_id, *self._database.execute(query, (video_id,)).fetchone())
        self._database.execute("UPDATE videos SET digest = ? WHERE id = ?", (one, video_id))
        add_to_total(self._database, "videos", one)

    def _subtract_digest(self, video_id: int) -> None:
        row = self._database.execute("SELECT digest FROM videos WHERE id = ?", (video_id,)).fetchone()
        if row is None:
            raise VmrError(f"the index has no video with number {video_id}")
        add_to_total(self._database, "videos", row[0], -1)

    def _update_state(self, video_id: int, state: FileState) -> None:
        self._database.execute(
            "UPDATE videos SET size = ?, mtime_ns = ?, inode = ?, seen_ns = ? WHERE id = ?",
            (state.size, state.mtime_ns, state.inode, state.seen_ns, video_id),
        )

    def _put_block(self, space_id: int, first: int, n: int, vectors: Vectors) -> None:
        query = "SELECT dim, dtype FROM spaces WHERE id = ?"
        dim, dtype = self._database.execute(query, (space_id,)).fetchone()
        if vectors.shape != (n, dim):
            raise VmrError(f"vectors of shape {vectors.shape}, but the video has {n} windows of {dim} dimensions")
        data, crc = encode_block(vectors, dtype)
        block = self._take("next_block")
        self._database.execute("INSERT INTO vectors VALUES (?, ?, ?, ?, ?, ?)", (block, space_id, first, n, crc, data))

    def _forget_old_removals(self) -> None:
        """Without a FAISS file, keep only the lines of `removed` that open readers may not have seen."""
        next_removed = self._counter("next_removed")
        if next_removed - self._counter("removed_from") > 2 * _KEPT_REMOVALS and not self.snapshot.generations():
            self._prune_removed(next_removed - _KEPT_REMOVALS)

    def _prune_removed(self, before: int) -> None:
        """Delete the lines of `removed` before a number; readers that have not seen them load everything again."""
        self._database.execute("DELETE FROM removed WHERE seq < ?", (before,))
        self._stale.add("removed")
        self._set_meta("removed_from", max(before, self._counter("removed_from")))

    def _meta(self, key: str) -> Any:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _set_meta(self, key: str, value: Any) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _counter(self, key: str) -> int:
        return int(self._meta(key))

    def _take(self, key: str, n: int = 1) -> int:
        """Take the next n numbers of a counter; return the first."""
        number = self._counter(key)
        self._set_meta(key, number + n)
        return number

    def _inserted(self, query: str, *values: Any) -> int:
        number = self._database.execute(query, values).lastrowid
        assert number is not None
        return number


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise VmrError(f"{value!r:.60} cannot be kept as JSON: {error}") from error
