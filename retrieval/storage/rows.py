"""Rows of the database as values; the vectors of one video in one space are a block of bytes."""

import functools
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.remark import Remark
from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.paths import text_to_path
from vmr.retrieval.storage.records import Block, FailedFile, FileState, Space, Vectors, Video, Window

WHAT_TO_DO = "see vmr-index verify, and build the index again"

DType = Literal["float16", "float32"]
_STORED: dict[DType, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


def encode_block(vectors: Vectors, dtype: DType) -> tuple[bytes, int]:
    """Return vectors (n, D) as little-endian bytes, row by row, and their CRC-32.

    Raises:
        VmrError: a number is not finite, or too large for the type.
    """
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, _STORED[dtype])
    if not np.isfinite(stored).all():
        raise VmrError(
            f"vectors with numbers up to {np.abs(vectors).max():g} do not fit into {dtype}: build the index with "
            "--dtype float32, or check the model's weights"
        )
    data = stored.tobytes()
    return data, zlib.crc32(data)


def decode_block(data: bytes, dim: int, dtype: DType, n: int, crc: int) -> Vectors:
    """Return the vectors of a block, float32 (n, D).

    Raises:
        IndexFileError: the bytes are not those that were written.
    """
    return decode_rows(data, dim, dtype, n, crc, slice(None))


def decode_rows(data: bytes, dim: int, dtype: DType, n: int, crc: int, rows: NDArray[np.int64] | slice) -> Vectors:
    """Return some vectors of a block, float32 (N, D), after all of it has been checked.

    Raises:
        IndexFileError: the bytes are not those that were written.
    """
    if zlib.crc32(data) != crc or len(data) != n * dim * _STORED[dtype].itemsize:
        raise IndexFileError("a block of vectors is damaged: see vmr-index verify, and build its video again")
    return np.frombuffer(data, _STORED[dtype]).reshape(n, dim)[rows].astype(np.float32)


Value = TypeVar("Value")


def _from_row(make: Callable[..., Value]) -> Callable[..., Value]:
    """Damage that SQLite does not notice, such as a text that is no JSON, becomes an IndexFileError."""

    @functools.wraps(make)
    def made(*row: Any) -> Value:
        try:
            return make(*row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IndexFileError(f"a row of the index is damaged ({error}): {WHAT_TO_DO}") from error

    return made


@_from_row
def to_counts(text: str) -> list[tuple[str, int]]:
    """Read a JSON object of counts."""
    return [(kind, int(count)) for kind, count in json.loads(text).items()]


@_from_row
def to_remarks(text: str) -> tuple[Remark, ...]:
    """Read a JSON list of remarks."""
    return tuple(Remark(**remark) for remark in json.loads(text))


@_from_row
def to_space(row: Sequence[Any]) -> Space:
    """Read a row of `spaces`."""
    number, name, encoder, fingerprint, dim, dtype, frames, kind, *measured = row
    search, calibration = map(json.loads, measured)
    return Space(number, name, encoder, fingerprint, dim, dtype, json.loads(frames), kind, search, calibration)


@_from_row
def to_video(row: Sequence[Any]) -> Video:
    """Read a row of `videos`, with the path of its root."""
    number, root, path, content_hash, *state, duration_s, width, height, remarks, metadata, first, n = row
    return Video(
        root=text_to_path(root),
        path=text_to_path(path),
        content_hash=content_hash,
        state=FileState(*state),
        duration_s=duration_s,
        width=width,
        height=height,
        remarks=to_remarks(remarks),
        id=number,
        metadata=json.loads(metadata),
        first_window=first,
        num_windows=n,
    )


@_from_row
def to_block(space: Space, number: int, first: int, n: int, crc: int, data: bytes) -> Block:
    """Read a row of `vectors`."""
    return Block(number, first, decode_block(data, space.dim, space.dtype, n, crc))


to_some_rows = _from_row(decode_rows)


@_from_row
def to_failure(row: Sequence[Any]) -> FailedFile:
    """Read a row of `failures`, with the path of its root."""
    root, path, *state, reason = row
    return FailedFile(text_to_path(root), text_to_path(path), None if state[0] is None else FileState(*state), reason)


@_from_row
def to_window(row: Sequence[Any]) -> Window:
    """Read a row of `windows`, with the paths of its root and its video."""
    number, root, path, start_s, end_s = row
    return Window(number, f"{text_to_path(root).rstrip('/')}/{text_to_path(path)}", start_s, end_s)
