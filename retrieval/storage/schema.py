"""The tables of an index. docs/index-format.md describes them for other programs."""

import sqlite3

from vmr.errors import IndexFileError

DATABASE = "index.db"
VERSION = 2  # in `user_version` and in meta.schema; 1 was a manifest in JSON beside a FAISS file
APPLICATION_ID = 0x766D7231  # "vmr1"
PAGE_BYTES = 16384

TABLES = (
    # Settings and counters. The values are integers, texts, numbers or NULL.
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
    # Number of rows of a table and the sum of their digests, see digests.py.
    "CREATE TABLE totals(name TEXT PRIMARY KEY, count INTEGER NOT NULL, total BLOB NOT NULL) STRICT, WITHOUT ROWID",
    # Absolute folders that the paths of videos are relative to.
    "CREATE TABLE roots(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, other_files TEXT NOT NULL) STRICT",
    # An encoder, the frames that it takes, and how its vectors are kept and searched.
    "CREATE TABLE spaces(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, encoder TEXT NOT NULL, "
    "fingerprint TEXT NOT NULL, dim INTEGER NOT NULL, dtype TEXT NOT NULL, frames TEXT NOT NULL, kind TEXT NOT NULL, "
    "search TEXT NOT NULL, calibration TEXT NOT NULL) STRICT",
    "CREATE TABLE videos(id INTEGER PRIMARY KEY, root_id INTEGER NOT NULL, path TEXT NOT NULL, "
    "content_hash BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, "
    "seen_ns INTEGER NOT NULL, duration_s REAL NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, "
    "remarks TEXT NOT NULL, metadata TEXT NOT NULL, first_window INTEGER NOT NULL, num_windows INTEGER NOT NULL, "
    "digest BLOB NOT NULL, UNIQUE(root_id, path)) STRICT",
    "CREATE INDEX videos_content ON videos(content_hash)",
    "CREATE UNIQUE INDEX videos_window ON videos(first_window)",
    # One row for each window; the ids of a video's windows are adjacent and never used again.
    "CREATE TABLE windows(id INTEGER PRIMARY KEY, video_id INTEGER NOT NULL, start_s REAL NOT NULL, "
    "end_s REAL NOT NULL) STRICT",
    # The vectors of all windows of a video in a space, as one block; the index answers how many there are, and where.
    "CREATE TABLE vectors(id INTEGER PRIMARY KEY, space_id INTEGER NOT NULL, first_window INTEGER NOT NULL, "
    "n INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(space_id, first_window, n)) STRICT",
    # Windows that are in a file of FAISS, or in the memory of a reader, and no longer in the index.
    "CREATE TABLE removed(seq INTEGER PRIMARY KEY, first_window INTEGER NOT NULL, n INTEGER NOT NULL) STRICT",
    # Files that were asked for and could not be read; NULL where there is no state of a file.
    "CREATE TABLE failures(root_id INTEGER NOT NULL, path TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, "
    "inode INTEGER, seen_ns INTEGER, reason TEXT NOT NULL, PRIMARY KEY(root_id, path)) STRICT, WITHOUT ROWID",
    # Texts that belong to a video or to a part of it, such as subtitles.
    "CREATE TABLE texts(id INTEGER PRIMARY KEY, video_id INTEGER NOT NULL, start_s REAL, end_s REAL, "
    "kind TEXT NOT NULL, text TEXT NOT NULL) STRICT",
    "CREATE INDEX texts_video ON texts(video_id)",
    "CREATE VIRTUAL TABLE texts_fts USING fts5(text, content='texts', content_rowid='id')",
    "CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN "
    "INSERT INTO texts_fts(rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN "
    "INSERT INTO texts_fts(texts_fts, rowid, text) VALUES ('delete', old.id, old.text); END",
    # Files of FAISS, which are made from the vectors and can be made again.
    "CREATE TABLE generations(id INTEGER PRIMARY KEY, space_id INTEGER NOT NULL, file TEXT NOT NULL, "
    "size INTEGER NOT NULL, sha256 BLOB NOT NULL, kind TEXT NOT NULL, upto_block INTEGER NOT NULL, "
    "upto_removed INTEGER NOT NULL, count INTEGER NOT NULL, trained_on INTEGER NOT NULL) STRICT",
)

COUNTERS = ("commit", "next_video", "next_window", "next_block", "next_removed", "removed_from")
"""Keys of meta that count: commits, and the next id of a video, a window, a block and a line of `removed`. Lines of
`removed` before `removed_from` have been deleted."""

_OLDEST_SQLITE = (3, 38, 0)  # STRICT tables and RETURNING


def check_sqlite() -> None:
    """Check that Python's SQLite can hold an index.

    Raises:
        IndexFileError: it is too old, or lacks full-text search.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise IndexFileError(f"this Python has SQLite {sqlite3.sqlite_version}, but an index needs {needed} or newer")
