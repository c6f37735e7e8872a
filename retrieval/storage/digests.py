"""Digests of rows. The sum over a table shows rows that are missing, added or changed.

A row's digest is BLAKE2b with 16 bytes over its values. A value is a letter and its content: N for NULL; I and a signed
integer of 8 bytes; F and a number of 8 bytes; T, the length in 8 bytes, and UTF-8; B, the length, and bytes. All are
little-endian. A total is the sum of digests, taken as little-endian numbers, modulo 2^128.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Iterable

Value = int | float | str | bytes | None

DIGESTED = ("meta", "roots", "spaces", "videos", "failures", "removed", "generations")
"""The tables with a total. That of `videos` covers windows, vectors and texts as well."""

_MODULUS = 1 << 128
_SELECT = {
    "meta": "SELECT key, value FROM meta",
    "roots": "SELECT * FROM roots",
    "spaces": "SELECT * FROM spaces",
    "failures": "SELECT * FROM failures",
    "removed": "SELECT * FROM removed",
    "generations": "SELECT * FROM generations",
}
# The rows that belong to a video: its own without the digest, then its windows, blocks and texts. CROSS JOIN keeps
# SQLite from reading all vectors to find those of the video.
_OF_A_VIDEO = (
    "SELECT id, root_id, path, content_hash, size, mtime_ns, inode, seen_ns, duration_s, width, height, remarks, "
    "metadata, first_window, num_windows FROM videos WHERE id = :id",
    "SELECT id, start_s, end_s FROM windows WHERE id >= :first AND id < :first + :n AND video_id = :id ORDER BY id",
    "SELECT s.id, v.first_window, v.n, v.crc FROM spaces s CROSS JOIN vectors v ON v.space_id = s.id "
    "AND v.first_window = :first ORDER BY s.id",
    "SELECT start_s, end_s, kind, text FROM texts WHERE video_id = :id ORDER BY id",
)


def digest(values: Iterable[Value]) -> bytes:
    """Return the digest of a row, 16 bytes."""
    hashed = hashlib.blake2b(digest_size=16)
    for value in values:
        hashed.update(_encoded(value))
    return hashed.digest()


def video_digest(database: sqlite3.Connection, video_id: int, first_window: int, num_windows: int) -> bytes:
    """Return the digest of a video and of everything that belongs to it."""
    parameters = {"id": video_id, "first": first_window, "n": num_windows}
    hashed = hashlib.blake2b(digest_size=16)
    for query in _OF_A_VIDEO:
        rows = database.execute(query, parameters).fetchall()
        hashed.update(_encoded(len(rows)))
        for row in rows:
            hashed.update(b"".join(map(_encoded, row)))
    return hashed.digest()


def table_total(database: sqlite3.Connection, name: str) -> tuple[int, bytes]:
    """Count the rows of a table, and sum their digests as they should be; for `videos`, see `video_digest`."""
    ones = [digest(row) for row in database.execute(_SELECT[name])]
    return len(ones), summed(ones)


def summed(ones: Iterable[bytes]) -> bytes:
    """Return the total of digests."""
    return (sum(int.from_bytes(one, "little") for one in ones) % _MODULUS).to_bytes(16, "little")


def add_to_total(database: sqlite3.Connection, name: str, one: bytes, sign: int = 1) -> None:
    """Add the digest of a row to the total of its table; with sign -1, subtract it."""
    (total,) = database.execute("SELECT total FROM totals WHERE name = ?", (name,)).fetchone()
    changed = (int.from_bytes(total, "little") + sign * int.from_bytes(one, "little")) % _MODULUS
    database.execute(
        "UPDATE totals SET count = count + ?, total = ? WHERE name = ?", (sign, changed.to_bytes(16, "little"), name)
    )


def set_total(database: sqlite3.Connection, name: str) -> None:
    """Compute the total of a small table anew."""
    count, total = table_total(database, name)
    database.execute("INSERT OR REPLACE INTO totals VALUES (?, ?, ?)", (name, count, total))


def _encoded(value: Value) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, int):
        return b"I" + struct.pack("<q", value)
    if isinstance(value, float):
        return b"F" + struct.pack("<d", value)
    data, letter = (value.encode(), b"T") if isinstance(value, str) else (value, b"B")
    return letter + struct.pack("<Q", len(data)) + data
