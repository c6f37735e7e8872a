"""Captions of a training set as a memory-mapped Arrow table: read from disk as needed, shared by all processes.

A list of Python objects takes gigabytes of memory for ten million captions, in every process. From a mapped file, the
system frees pages when it needs the memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vmr.data.extras import import_extra
from vmr.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Media
from vmr.errors import AnnotationError
from vmr.files import OutputFile, cache_folder, is_unicode, scratch_file, sha256_of, write_atomically
from vmr.hashes import hash_file, remembered_hashes
from vmr.locks import locked_file

_VERSION = 3  # raise it when the layout of the table changes, or when a reader gives other records for the same file
_BATCH = 1 << 15  # records in each batch but the last, so that the batch of a row is known without a search
_NAMED = 100  # how many names of left-out records are kept


@dataclass(frozen=True)
class Record:
    """A video or picture and its captions.

    Attributes:
        path: relative to the folder of the videos, or absolute; it may lack its suffix.
        id: the data set's name for it.
        captions: the captions, unchanged.
        media: video or image.
        start_s: where the moment that the captions are about begins, in seconds; None for the whole video.
        end_s: where that moment ends; None for the whole video.
        offset: for a member of a tar file, the position in the file `path` where its bytes begin; else None.
        size: for a member of a tar file, its size in bytes; else None.

    Raises:
        AnnotationError: the times are not those of a moment.
    """

    path: str
    id: str
    captions: tuple[str, ...]
    media: Media = "video"
    start_s: float | None = None
    end_s: float | None = None
    offset: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if (self.start_s is None) != (self.end_s is None):
            raise AnnotationError(f"{self.path}: a moment needs both start_s and end_s")
        if self.start_s is not None and self.end_s is not None and not 0 <= self.start_s <= self.end_s < float("inf"):
            raise AnnotationError(f"{self.path}: no moment lasts from {self.start_s} s to {self.end_s} s")


def id_of(path: str) -> str:
    """Reduce "all/video9770.mp4" and "video9770" to the id that they share: the name without its media suffix."""
    name = PurePosixPath(path)
    return name.stem if name.suffix.lower() in VIDEO_SUFFIXES + IMAGE_SUFFIXES else name.name


class RecordTable:
    """A sequence of records on disk. `build` writes a table, `open` maps it, and `cached_table` builds it if needed.

    Attributes:
        path: the file of the table.
        media: video or image, the same for all records.
        num_captions: the number of captions of all records together.
        num_videos: how many different videos there are; several records may be of the same video.
        has_moments: whether the captions of any record are about a moment.
        num_left_out: how many items of the records' source could not be used.
        left_out: the names of the first of these items.
    """

    def __init__(self, path: Path, reader: Any) -> None:
        about = json.loads(reader.schema.metadata[b"vmr"])
        self.path = path
        self.media: Media = about["media"]
        self.num_captions: int = about["num_captions"]
        self.num_videos: int = about["num_videos"]
        self.has_moments: bool = about["has_moments"]
        self.num_left_out: int = about["num_left_out"]
        self.left_out: tuple[str, ...] = tuple(about["left_out"])
        self._num_records: int = about["num_records"]
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

    @classmethod
    def build(cls, records: Iterable[Record], path: str | Path, left_out: Sequence[str] = ()) -> RecordTable:
        """Write records to a file, atomically, and open it.

        Args:
            records: the records.
            path: the file to write.
            left_out: names of items that are left out, to store in the table. The list may grow while records are read.

        Raises:
            AnnotationError: there are no records, videos and pictures are mixed, or a caption is blank. Then no file is
                written.
            VmrError: the file cannot be written.
        """
        path = Path(path)
        write_atomically(path, lambda file: _write(iter(records), file, path, left_out))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> RecordTable:
        """Map the table at `path`. Raises AnnotationError if it is not a table of this version."""
        arrow = import_extra("pyarrow")
        try:
            reader = arrow.ipc.open_file(arrow.memory_map(os.fspath(path)))
        except (OSError, arrow.ArrowInvalid) as error:
            raise AnnotationError(f"{path}: not a table of records: {str(error).splitlines()[0]}") from None
        metadata = json.loads((reader.schema.metadata or {}).get(b"vmr", b"{}"))
        if metadata.get("version") != _VERSION:
            raise AnnotationError(f"{path}: not a table of records of version {_VERSION}: remove it to have it rebuilt")
        return cls(Path(path), reader)

    def __len__(self) -> int:
        return self._num_records

    def __getitem__(self, index: int) -> Record:
        batch, row = self._place(index)
        values = {name: batch.column(name)[row].as_py() for name in _COLUMNS}
        return Record(**{**values, "captions": tuple(values["captions"])}, media=self.media)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def video_number(self, index: int) -> int:
        """Return a number in [0, num_videos); it is equal only for records of the same video (and moment)."""
        batch, row = self._place(index)
        number: int = batch.column("video")[row].as_py()
        return number

    def distinct_texts(self) -> list[str]:
        """Return the captions of all records, each once, sorted: for records whose captions are labels."""
        texts: set[str] = set()
        for batch in self._batches:
            texts.update(batch.column("captions").flatten().unique().to_pylist())
        return sorted(texts)

    def _place(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index} of {len(self)}")
        number, row = divmod(index, _BATCH)
        return self._batches[number], row


_COLUMNS = tuple(field.name for field in fields(Record) if field.name != "media")


def _write(records: Iterator[Record], file: BinaryIO, path: Path, left_out: Sequence[str]) -> None:
    """Write in two passes, because only after the last row it is known which rows have the same video."""
    arrow = import_extra("pyarrow")
    first = next(records, None)
    if first is None:
        raise AnnotationError("there are no captions in it")
    kinds = {"path": arrow.string(), "id": arrow.string(), "captions": arrow.list_(arrow.string())}
    kinds |= dict.fromkeys(("start_s", "end_s"), arrow.float64()) | dict.fromkeys(("offset", "size"), arrow.int64())
    schema = arrow.schema([(name, kinds[name]) for name in _COLUMNS])
    hashes, num_captions, has_moments = array("Q"), 0, False
    with scratch_file(path) as rows:
        with arrow.ipc.new_file(OutputFile(rows.fileno(), path), schema) as sink:
            for batch in _batches(chain([first], records)):
                for record in batch:
                    _check(record, first.media)
                    hashes.append(_hash(record))
                    num_captions += len(record.captions)
                    has_moments |= record.start_s is not None
                columns = [[getattr(record, name) for record in batch] for name in _COLUMNS]
                arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
                sink.write_batch(arrow.record_batch(arrays, schema=schema))
        numbers, num_videos = _numbered(np.frombuffer(hashes, np.uint64))
        about = {
            "version": _VERSION,
            "media": first.media,
            "num_records": len(hashes),
            "num_videos": num_videos,
            "num_captions": num_captions,
            "has_moments": has_moments,
            "num_left_out": len(left_out),
            "left_out": list(left_out[:_NAMED]),
        }
        final = schema.append(arrow.field("video", arrow.int64())).with_metadata({"vmr": json.dumps(about)})
        with arrow.ipc.open_file(rows) as reader, arrow.ipc.new_file(file, final) as sink:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                videos = arrow.array(numbers[number * _BATCH : number * _BATCH + len(batch)], arrow.int64())
                sink.write_batch(arrow.record_batch([*batch.columns, videos], schema=final))


def _numbered(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], int]:
    """Replace each value by its number among the distinct values, in order of appearance; and count these."""
    _, first_place, where = np.unique(hashes, return_index=True, return_inverse=True)
    number_of = np.empty(len(first_place), np.int64)
    number_of[np.argsort(first_place)] = np.arange(len(first_place))
    return number_of[where], len(first_place)


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(records, _BATCH)):
        yield batch


def _check(record: Record, media: Media) -> None:
    if record.media != media:
        raise AnnotationError(f"{record.path}: {record.media} in a file of {media}s: keep them apart, in two files")
    if not all(map(is_unicode, (record.path, record.id, *record.captions))):
        raise AnnotationError(f"{record.path!r}: it or a caption of it holds half a surrogate pair")
    if not record.captions or not all(caption.strip() for caption in record.captions):
        raise AnnotationError(f"{record.path}: a blank caption; `vmr-data check` lists all of them")


def _hash(record: Record) -> int:
    what = repr((record.path, record.offset, record.start_s, record.end_s)).encode()
    return int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "little")


def cached_table(
    files: Sequence[Path],
    how: Sequence[str],
    read: Callable[[list[str]], Iterable[Record]],
    *,
    by_contents: bool = True,
) -> RecordTable:
    """Return the table of the records in some files. It is built once and kept in the cache folder.

    If several processes need the table at the same time, one builds it and the others wait.

    Args:
        files: the files that the records are read from.
        how: everything else that the records depend on.
        read: reads the records. Its argument is a list; it adds the names of items that it leaves out.
        by_contents: True: a file counts as unchanged while its SHA-256 is the same (computed again when size or
            modification time change). False, for files too large to read: while its path, size and modification time
            are the same.

    Raises:
        AnnotationError: as `read` and `RecordTable.build` raise; the message names a file.
    """
    states = _contents(files) if by_contents else [_place_and_state(file) for file in files]
    key = hashlib.sha256(json.dumps([_VERSION, *how, states]).encode()).hexdigest()
    path = cache_folder() / "records" / f"{files[0].stem}-{key[:24]}.arrow"
    if not path.exists():
        with locked_file(path):
            if not path.exists():
                left_out: list[str] = []
                try:
                    return RecordTable.build(read(left_out), path, left_out)
                except AnnotationError as error:
                    named = str(error).startswith(tuple(map(str, files)))
                    raise AnnotationError(str(error) if named else f"{files[0]}: {error}") from None
    return RecordTable.open(path)


def _contents(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file; only files that have changed are read."""
    with remembered_hashes() as hashes:
        return [_sha256(file, hashes) for file in files]


def _sha256(file: Path, hashes: sqlite3.Connection) -> str:
    content = hash_file(file, hashes)
    try:
        return content.sha256 if content is not None else sha256_of(file)  # it says why the file cannot be read
    except OSError as error:
        raise _unreadable(file, error) from None


def _place_and_state(file: Path) -> list[str | int]:
    """Return path, size and modification time, which show without reading a file whether it has changed."""
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from None
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def _unreadable(file: Path, error: OSError) -> AnnotationError:
    return AnnotationError(f"{file}: cannot read this file: {error.strerror}")
