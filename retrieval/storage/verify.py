"""Checking an index: every row, every vector, every file."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from vmr.errors import IndexFileError
from vmr.files import sha256_of
from vmr.retrieval.storage.connection import as_damage, connect_to_read, holds_index
from vmr.retrieval.storage.digests import DIGESTED, summed, table_total, video_digest
from vmr.retrieval.storage.paths import text_to_path
from vmr.retrieval.storage.records import Fault
from vmr.retrieval.storage.rows import decode_block
from vmr.retrieval.storage.schema import DATABASE, TABLES
from vmr.retrieval.storage.seal import check_seal, read_seal

_FULL_TEXT = ("texts_fts_config", "texts_fts_data", "texts_fts_docsize", "texts_fts_idx")


def verify(folder: Path) -> list[Fault]:
    """Check an index, which may be in use. It reads every byte that means something.

    Args:
        folder: the folder of the index.

    Returns:
        What is wrong; empty if nothing is.

    Raises:
        IndexFileError: there is no index.
    """
    if not holds_index(folder):
        raise IndexFileError(f"{folder}: no such index")
    faults: list[Fault] = []
    number = None
    try:
        number = read_seal(folder)
    except IndexFileError as error:
        faults.append(Fault("seal", str(error)))
    try:
        database = connect_to_read(folder)
    except IndexFileError as error:
        return [*faults, Fault(DATABASE, str(error))]
    try:
        database.execute("BEGIN")
        (commit,) = database.execute("SELECT value FROM meta WHERE key = 'commit'").fetchone()
        check_seal(folder, number, commit)
        for check in (_structure, _rows, _totals):
            faults += check(database)
        wrong_files = list(_files(folder, database))
        database.execute("COMMIT")
        named = {name for (name,) in database.execute("SELECT file FROM generations")}  # some may have been replaced
        faults += [fault for fault in wrong_files if fault.where in named]
        faults += _full_text(database)
    except sqlite3.Error as error:
        faults.append(Fault(DATABASE, str(as_damage(error))))
    except IndexFileError as error:
        faults.append(Fault(DATABASE, str(error)))
    except (TypeError, ValueError, OverflowError) as error:  # a value of a wrong type
        faults.append(Fault(DATABASE, f"holds a value that it cannot hold: {error}"))
    finally:
        database.close()
    return faults


def _structure(database: sqlite3.Connection) -> Iterator[Fault]:
    for (line,) in database.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Fault(DATABASE, line)
    found = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'texts_fts_%'")}
    if found - {None} != set(TABLES):
        yield Fault(DATABASE, "its tables are not those of an index")


def _rows(database: sqlite3.Connection) -> Iterator[Fault]:
    """The digest of every video, its vectors, and rows that belong to no video."""
    num_windows = 0
    spaces = {number: (dim, dtype) for number, dim, dtype in database.execute("SELECT id, dim, dtype FROM spaces")}
    videos = database.execute("SELECT id, path, first_window, num_windows, digest FROM videos").fetchall()
    num_blocks = 0
    for number, path, first, n, stored in videos:
        where = text_to_path(path)
        if video_digest(database, number, first, n) != stored:
            yield Fault("videos", f"{where}: its rows are not those that were written")
        for space_id, data, block_n, crc in _blocks(database, first):
            num_blocks += 1
            try:
                dim, dtype = spaces[space_id]
                decode_block(data, dim, dtype, block_n, crc)
            except (IndexFileError, KeyError):
                yield Fault("vectors", f"{where}: its vectors are damaged")
            if block_n != n:
                yield Fault("vectors", f"{where}: it has {block_n} vectors for {n} windows")
        num_windows += n
    expected = database.execute("SELECT count, total FROM totals WHERE name = 'videos'").fetchone()
    if expected != (len(videos), summed(stored for *_, stored in videos)):
        yield Fault("videos", f"there are {len(videos)}, which are not those that were written")
    of_videos = "SELECT count(*) FROM texts WHERE video_id IN (SELECT id FROM videos)"
    for table, count in (("windows", num_windows), ("vectors", num_blocks), ("texts", _count(database, of_videos))):
        if _count(database, f"SELECT count(*) FROM {table}") != count:
            yield Fault(table, "some rows belong to no video")


def _blocks(database: sqlite3.Connection, first: int) -> list[tuple[int, bytes, int, int]]:
    query = (
        "SELECT v.space_id, v.data, v.n, v.crc FROM spaces s "
        "CROSS JOIN vectors v ON v.space_id = s.id AND v.first_window = ?"
    )
    return database.execute(query, (first,)).fetchall()


def _totals(database: sqlite3.Connection) -> Iterator[Fault]:
    expected = {name: (count, total) for name, count, total in database.execute("SELECT * FROM totals")}
    if expected.keys() != set(DIGESTED):
        yield Fault("totals", "rows are missing or added")
    for name in expected.keys() & (set(DIGESTED) - {"videos"}):
        if table_total(database, name) != expected[name]:
            yield Fault(name, "its rows are not those that were written")


def _full_text(database: sqlite3.Connection) -> Iterator[Fault]:
    """FTS5 checks itself by a statement that writes: it is given a copy in memory."""
    database.execute("ATTACH ':memory:' AS copy")
    database.execute("BEGIN")
    database.execute("CREATE TABLE copy.texts AS SELECT * FROM main.texts")
    database.execute("CREATE VIRTUAL TABLE copy.texts_fts USING fts5(text, content='texts', content_rowid='id')")
    for table in _FULL_TEXT:
        database.execute(f"DELETE FROM copy.{table}")
        database.execute(f"INSERT INTO copy.{table} SELECT * FROM main.{table}")
    try:
        database.execute("INSERT INTO copy.texts_fts(texts_fts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        yield Fault("texts_fts", f"the full-text index does not fit the texts: {error}")


def _files(folder: Path, database: sqlite3.Connection) -> Iterator[Fault]:
    for name, size, sha256 in database.execute("SELECT file, size, sha256 FROM generations"):
        file = folder / name
        try:
            is_right = file.stat().st_size == size and sha256_of(file) == sha256.hex()
        except OSError as error:
            yield Fault(name, f"cannot be read: {error.strerror}", is_derived=True)
        else:
            if not is_right:
                yield Fault(name, "is not the file that was written", is_derived=True)


def _count(database: sqlite3.Connection, query: str) -> int:
    return int(database.execute(query).fetchone()[0])
