"""Vectors as bytes: all of one video in one space are a block."""

import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.records import Vectors

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
