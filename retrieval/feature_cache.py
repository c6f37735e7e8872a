"""Features on disk: a second evaluation opens no video, not even to see whether it has changed.

The key of a video's features is a hash of everything that they depend on: the SHA-256 of the file, the frames taken,
the encoder's fingerprint. The hash of a file is remembered until its size, modification time or inode changes.

A cache is a folder with a database, and an .npy file for each array that is too large for it. Such a file is named by
its own SHA-256, so that two writers write the same content and damage is noticed. Of tokens that repeat, `.rows.npy`
holds each once, after an array with their numbers. Any number of processes may share a cache. Its folder must be on a
local disk: SQLite's write-ahead log does not work across machines.
"""

import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vmr.checks import check_path
from vmr.data.decoding.segments import FrameSpec, Segmenter
from vmr.data.remark import Remark
from vmr.errors import VmrError
from vmr.files import cache_folder, sha256_of, write_atomically
from vmr.hashes import HASHES_TABLE, FileContent, hash_file
from vmr.retrieval.embedding.packing import distinct
from vmr.retrieval.segments import FixedWindows

DATABASE = "features-2.sqlite3"  # the number is the layout's version
ARRAYS = "arrays"

_VERSION = 1  # raise it when decoding or embedding gives other features for the same key
_READY = 1
_SCHEMA = f"""
{HASHES_TABLE};
CREATE TABLE IF NOT EXISTS videos (
    key TEXT PRIMARY KEY, spans BLOB NOT NULL, vectors BLOB NOT NULL, remarks TEXT NOT NULL,
    checksum TEXT NOT NULL, tokens TEXT);
CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, vectors TEXT NOT NULL);
PRAGMA user_version = {_READY};
"""
_BUSY_S = 60.0  # another process may be writing
_OWN_ARRAY = re.compile(r"[0-9a-f]{64}(\.rows)?\.npy|\.[0-9a-f]{64}(\.rows)?\.npy\..*\.tmp")
_ROWS = ".rows"


@dataclass(frozen=True)
class Features:
    """The features of one video with S segments.

    Attributes:
        spans: start and end of each segment, in seconds.
        vectors: float32 (S, D).
        remarks: what was noticed while the video was decoded, see `vmr.VideoReader.remarks`.
    """

    spans: tuple[tuple[float, float], ...]
    vectors: NDArray[np.float32]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class CacheSizes:
    """How much a cache holds.

    Attributes:
        num_videos: videos with vectors.
        num_videos_with_tokens: those that have tokens as well.
        num_texts: lists of texts that were embedded together.
        num_bytes: size of all its files.
    """

    num_videos: int
    num_videos_with_tokens: int
    num_texts: int
    num_bytes: int


class FeatureCache:
    """Features on disk. An entry is on disk when the call that puts it returns; a damaged entry counts as absent.

    Every method raises VmrError, naming the folder, if the cache cannot be used.

    Args:
        folder: None for `features` in vmr's cache folder ($VMR_CACHE, or ~/.cache/vmr).
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder() / "features" if folder is None else Path(check_path("folder", folder))

    def contents(self, paths: Iterable[str]) -> Iterator[tuple[str, FileContent | None]]:
        """Yield each path with the content of its file; a file is read only if its hash is not remembered.

        The content is None if the path is not a regular file or cannot be read: its features cannot be kept.
        """
        with self._database() as database:
            database.execute("PRAGMA synchronous = NORMAL")  # a hash may be lost when the power is cut
            for path in paths:
                yield path, hash_file(path, database)

    def find(self, keys: Iterable[str], with_tokens: bool = False) -> dict[str, Features]:
        """Return the features that the cache holds.

        Args:
            keys: as returned by `video_key`.
            with_tokens: leave out videos whose tokens the cache lacks.

        Returns:
            Features by key.
        """
        found = {}
        with self._database() as database:
            for key in dict.fromkeys(keys):
                query = "SELECT spans, vectors, remarks, checksum, tokens FROM videos WHERE key = ?"
                row = database.execute(query, (key,)).fetchone()
                spans, vectors, remarks, checksum, tokens = row or (b"", b"", "", "", None)
                if _checksum(spans, vectors, remarks) != checksum:
                    continue
                if with_tokens and not (tokens and self._array(tokens).is_file()):
                    continue
                found[key] = _features(spans, vectors, remarks)
        return found

    def put(self, key: str, features: Features, tokens: NDArray[np.float32] | None = None) -> None:
        """Keep the features of a video, and its tokens, float32 (S, N, C). Without `tokens`, earlier ones stay."""
        with self._database() as database:
            name = None if tokens is None else self._save(*_without_repeats(tokens))
            spans = np.array(features.spans, "<f8").tobytes()
            vectors = np.ascontiguousarray(features.vectors, "<f4").tobytes()
            remarks = json.dumps([asdict(remark) for remark in features.remarks])
            with database:
                database.execute(
                    "INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                    "spans = excluded.spans, vectors = excluded.vectors, remarks = excluded.remarks, "
                    "checksum = excluded.checksum, tokens = coalesce(excluded.tokens, tokens)",
                    (key, spans, vectors, remarks, _checksum(spans, vectors, remarks), name),
                )

    def tokens(self, key: str) -> NDArray[np.float32] | None:
        """Return the tokens of a video, float32 (S, N, C); None if there are none.

        They are mapped from disk copy-on-write, except where some repeat.
        """
        return self._load("SELECT tokens FROM videos WHERE key = ?", key, mapped=True)

    def texts(self, key: str) -> NDArray[np.float32] | None:
        """Return the vectors of a list of texts, (N, D), given its `texts_key`; None if there are none."""
        return self._load("SELECT vectors FROM texts WHERE key = ?", key, mapped=False)

    def put_texts(self, key: str, vectors: NDArray[np.float32]) -> None:
        """Keep the vectors of a list of texts, (N, D)."""
        with self._database() as database:
            name = self._save(vectors)
            with database:
                database.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", (key, name))

    def forget(self, key: str) -> None:
        """Remove the features of a video, with the file of its tokens."""
        with self._database() as database, database:
            row = database.execute("SELECT tokens FROM videos WHERE key = ?", (key,)).fetchone()
            database.execute("DELETE FROM videos WHERE key = ?", (key,))
            if row is not None and row[0]:
                self._array(row[0]).unlink(missing_ok=True)

    def sizes(self) -> CacheSizes:
        """Return how much the cache holds."""
        with self._database() as database:
            counts = "SELECT (SELECT count(*) FROM videos), (SELECT count(tokens) FROM videos), count(*) FROM texts"
            num_videos, num_with_tokens, num_texts = database.execute(counts).fetchone()
            files = [*self.folder.glob("features-*.sqlite3*"), *self._own_arrays()]
            num_bytes = sum(size for file in files if (size := _size(file)) is not None)
        return CacheSizes(num_videos, num_with_tokens, num_texts, num_bytes)

    def clear(self) -> None:
        """Remove everything that the cache has written, even a damaged database, but no other file."""
        try:
            with self._database() as database:
                with database:
                    for table in ("files", "videos", "texts"):
                        database.execute(f"DELETE FROM {table}")
                for file in self._own_arrays():
                    file.unlink(missing_ok=True)
                database.execute("VACUUM")
        except VmrError as error:
            if type(error.__cause__) is not sqlite3.DatabaseError:  # only this one says: no database
                raise
            for file in [*self.folder.glob("features-*.sqlite3*"), *self._own_arrays()]:
                file.unlink(missing_ok=True)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one task, and close it afterwards: threads and forked processes share nothing."""
        try:
            (self.folder / ARRAYS).mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.folder / DATABASE, timeout=_BUSY_S)) as database:
                if database.execute("PRAGMA user_version").fetchone() != (_READY,):
                    with FileLock(self.folder / ".lock"):  # SQLite does not wait while another process turns on the log
                        database.execute("PRAGMA journal_mode = WAL")
                        database.executescript(_SCHEMA)
                yield database
        except (OSError, sqlite3.Error) as error:
            raise VmrError(
                f"{self.folder}: this feature cache cannot be used ({error}): make room on its disk, remove it, name "
                "another folder, or use no cache"
            ) from error

    def _save(self, array: NDArray[np.float32], numbers: NDArray[np.uint32] | None = None) -> str:
        """Write an array, or the one that results from taking `numbers` of it, under the name of its contents."""
        buffer = io.BytesIO()
        if numbers is not None:
            np.save(buffer, numbers)
        np.save(buffer, np.ascontiguousarray(array, np.float32))
        name = hashlib.sha256(buffer.getbuffer()).hexdigest() + ("" if numbers is None else _ROWS)
        write_atomically(self._array(name), buffer.getbuffer())
        return name

    def _load(self, query: str, key: str, mapped: bool) -> NDArray[np.float32] | None:
        with self._database() as database:
            (name,) = database.execute(query, (key,)).fetchone() or (None,)
        if name is None:
            return None
        with suppress(OSError):  # removed by another process
            path = self._array(name)
            if sha256_of(path) != name.removesuffix(_ROWS):
                return None
            if name.endswith(_ROWS):
                with path.open("rb") as file:
                    numbers: NDArray[np.uint32] = np.load(file)
                    rows: NDArray[np.float32] = np.load(file)
                return rows[numbers]
            array: NDArray[np.float32] = np.load(path, mmap_mode="c" if mapped else None)
            return array
        return None

    def _array(self, name: str) -> Path:
        return self.folder / ARRAYS / f"{name}.npy"

    def _own_arrays(self) -> list[Path]:
        return [file for file in (self.folder / ARRAYS).glob("*") if _OWN_ARRAY.fullmatch(file.name)]


def video_key(
    content: FileContent, frames: FrameSpec, segmenter: Segmenter | None, reader: str, fingerprint: str
) -> str:
    """Return the key of a video's features: a hash of everything that they depend on."""
    known: dict[str, object] = {**asdict(frames), "window_s": None, "stride_s": None, "reader": reader}
    for option, usual in (("keyframes", False), ("skip_still", 0.0)):  # what was no option earlier
        if known[option] == usual:
            del known[option]
    if segmenter is not None:
        known["frames_on"] = "grid"  # earlier, each window by itself
    if type(segmenter) is FixedWindows:
        known |= asdict(segmenter)
    elif segmenter is not None:
        known["segmenter"] = [type(segmenter).__qualname__, dict(segmenter.settings)]
    return _digest("video", content.sha256, known, fingerprint)


def facts_key(kind: str, content: str, facts: Mapping[str, object], fingerprint: str) -> str:
    """Return the key of features of another kind: a hash of everything that they depend on.

    Args:
        kind: what the features are; other kinds have other keys.
        content: the SHA-256 of the file, or what else says which pictures there are.
        facts: what is taken of them, and how, as JSON types.
        fingerprint: the model's fingerprint.
    """
    return _digest(kind, content, facts, fingerprint)


def texts_key(texts: Sequence[str], max_text_tokens: int | None, fingerprint: str) -> str:
    """Return the key of the vectors of a list of texts.

    Args:
        texts: the list.
        max_text_tokens: see `vmr.models.encoder.TextLimited`; None if the encoder has no limit.
        fingerprint: the encoder's fingerprint.
    """
    return _digest("texts", list(texts), max_text_tokens, fingerprint)


def _digest(*parts: str | int | list[str] | Mapping[str, object] | None) -> str:
    return hashlib.sha256(json.dumps([_VERSION, *parts], sort_keys=True).encode()).hexdigest()


def _features(spans: bytes, vectors: bytes, remarks: str) -> Features:
    """Make features from bytes whose checksum has been verified."""
    times = np.frombuffer(spans, "<f8").reshape(-1, 2)
    rows = np.frombuffer(vectors, "<f4").astype(np.float32).reshape(len(times), -1)
    noticed = tuple(Remark(**remark) for remark in json.loads(remarks))
    return Features(tuple((start_s, end_s) for start_s, end_s in times.tolist()), rows, noticed)


def _checksum(spans: bytes, vectors: bytes, remarks: str) -> str:
    lengths = len(spans).to_bytes(8, "little") + len(vectors).to_bytes(8, "little")
    return hashlib.sha256(lengths + spans + vectors + remarks.encode()).hexdigest()


def _without_repeats(tokens: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint32] | None]:
    """Turn tokens (S, N, C) into the different ones of each segment, and their numbers (S, N) if that is shorter."""
    found = [distinct(np.ascontiguousarray(segment, np.float32)) for segment in tokens]
    first = accumulate((len(rows) for _, rows in found), initial=0)
    numbers = np.array([numbers + start for (numbers, _), start in zip(found, first, strict=False)], np.uint32)
    kept_bytes = numbers.nbytes + sum(rows.nbytes for _, rows in found)
    return (np.concatenate([rows for _, rows in found]), numbers) if kept_bytes < tokens.nbytes else (tokens, None)


def _size(file: Path) -> int | None:
    with suppress(OSError):  # removed since it was listed
        return file.stat().st_size
    return None
