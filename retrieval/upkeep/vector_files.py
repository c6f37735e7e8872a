"""Files of vectors for other programs, and from them: Parquet, npz and CSV.

Each row is a window: `video`, `start_s`, `end_s`, and its `vector`. Files that vmr writes also hold `window`, the
number of the window in its index, and `about`, which model made the vectors; their paths are written as in the
database.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vmr.errors import MissingExtraError, VmrError
from vmr.from_json import from_json
from vmr.retrieval.storage.paths import path_to_text, text_to_path
from vmr.retrieval.storage.records import Vectors, Window

_ABOUT = b"vmr"  # the key of `about` in the metadata of a Parquet file
_ROWS_AT_ONCE = 8192
_COLUMNS = ("video", "start_s", "end_s", "vector")

Rows = Iterator[tuple[list[Window], Vectors]]
"""Windows, and their vectors, float32 (n, D)."""


@dataclass(frozen=True)
class About:
    """Which model made the vectors of a file.

    Attributes:
        encoder: name or path of the model.
        fingerprint: of that model, see `vmr.Encoder`.
        dim: D.
        dtype: how the index stored them.
        frames: which frames the model was given, as in `Space.frames`.
        window_s: seconds that a window covers; None for whole videos.
        stride_s: seconds from the start of one window to the start of the next.
    """

    encoder: str
    fingerprint: str
    dim: int
    dtype: Literal["float16", "float32"]
    frames: dict[str, Any]
    window_s: float | None
    stride_s: float | None


@dataclass(frozen=True)
class VectorRows:
    """What a file of vectors holds, one entry for each of R rows.

    Attributes:
        videos: paths, as in the file.
        starts: in seconds, float64 (R,).
        ends: in seconds, float64 (R,).
        vectors: float32 (R, D).
        about: which model made them; None if the file does not say.
    """

    videos: list[str]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    vectors: Vectors
    about: About | None


def write_parquet(out: BinaryIO, rows: Rows, about: About) -> None:
    """Write Parquet, a part of the rows at a time. Raises MissingExtraError if pyarrow is not installed."""
    arrow, parquet, _ = require_arrow()
    columns = {"video": arrow.string(), "window": arrow.int64(), "start_s": arrow.float64(), "end_s": arrow.float64()}
    columns["vector"] = arrow.list_(arrow.float32(), about.dim)
    schema = arrow.schema(columns, metadata={_ABOUT: json.dumps(asdict(about))})
    with parquet.ParquetWriter(arrow.PythonFile(out, mode="w"), schema) as writer:
        for windows, vectors in rows:
            values = [path_to_text(one.file) for one in windows], *_numbers(windows)
            lists = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), about.dim)
            writer.write_batch(arrow.record_batch([*map(arrow.array, values), lists], schema=schema))


def write_npz(out: BinaryIO, rows: Rows, about: About) -> None:
    """Write npz. Many rows have the same video: `videos` holds each path once, and `video` numbers from 0."""
    parts = list(rows)
    windows = [one for part, _ in parts for one in part]
    numbers: dict[str, int] = {}
    video = [numbers.setdefault(one.file, len(numbers)) for one in windows]
    ids, starts, ends = _numbers(windows)
    np.savez(
        out,
        videos=np.array([path_to_text(file) for file in numbers], np.str_),
        video=np.array(video, np.int64),
        window=np.array(ids, np.int64),
        start_s=np.array(starts, np.float64),
        end_s=np.array(ends, np.float64),
        vector=np.concatenate([np.empty((0, about.dim), np.float32), *(vectors for _, vectors in parts)]),
        about=np.array(json.dumps(asdict(about))),
    )


def write_csv(out: BinaryIO, rows: Rows, about: About | None) -> None:
    """Write CSV; with `about`, also the numbers of the vectors, in columns v0, v1, ..."""
    names = ["video", "window", "start_s", "end_s", *(f"v{number}" for number in range(about.dim if about else 0))]
    out.write(_csv([names]))
    for windows, vectors in rows:
        numbers = (
            [[f"{number:.9g}" for number in vector] for vector in vectors.tolist()] if about else [[]] * len(windows)
        )
        out.write(
            _csv(
                [path_to_text(window.file), window.id, window.start_s, window.end_s, *more]
                for window, more in zip(windows, numbers, strict=True)
            )
        )


def read_vector_file(path: Path) -> VectorRows:
    """Read a Parquet or npz file, by its name.

    Raises:
        VmrError: it cannot be read, or lacks a column, or a column is of a wrong type or length.
        MissingExtraError: pyarrow is not installed.
    """
    if not path.is_file():
        raise VmrError(f"{path}: no such file")
    if path.suffix not in (".parquet", ".npz"):
        raise VmrError(f"{path}: name a file that ends with .parquet or .npz")
    columns = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    about = _about(path, columns["about"]) if "about" in columns else None
    videos = columns["video"]
    n = len(videos)
    if not n:
        raise VmrError(f"{path}: holds no rows")
    starts, ends = (_floats(path, name, columns[name], n) for name in ("start_s", "end_s"))
    vectors = columns["vector"]
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != n or not vectors.shape[1]:
        raise VmrError(f"{path}: column vector is {vectors.dtype} {vectors.shape}, but numbers ({n}, D) are needed")
    if not all(isinstance(video, str) for video in videos):
        raise VmrError(f"{path}: column video holds other values than texts")
    if about is not None:
        videos = [text_to_path(video) for video in videos]
    return VectorRows(videos, starts, ends, np.ascontiguousarray(vectors, np.float32), about)


def require_arrow() -> tuple[Any, Any, Any]:
    """Import pyarrow and its modules for Parquet and for computing. Raises MissingExtraError if it is not installed."""
    try:
        import pyarrow
        from pyarrow import compute, parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "train") from error
    return pyarrow, parquet, compute


def _read_parquet(path: Path) -> dict[str, Any]:
    arrow, parquet, _ = require_arrow()
    columns: dict[str, Any] = {"video": [], "start_s": [], "end_s": [], "vector": np.empty((0, 1), np.float32)}
    with _reading(path, arrow.ArrowException), parquet.ParquetFile(path) as file:
        _require_columns(path, file.schema_arrow.names)
        row = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(_COLUMNS)):
            vectors = _lists(path, batch, row, columns["vector"].shape[1] if row else None)
            if not row:
                columns["vector"] = np.empty((file.metadata.num_rows, vectors.shape[1]), vectors.dtype)
            columns["vector"][row : row + len(batch)] = vectors
            columns["video"] += batch["video"].to_pylist()
            for name in ("start_s", "end_s"):
                columns[name].append(batch[name].to_numpy(zero_copy_only=False))
            row += len(batch)
        columns |= {name: np.concatenate([np.empty(0), *columns[name]]) for name in ("start_s", "end_s") if row}
        about = (file.schema_arrow.metadata or {}).get(_ABOUT)
    return columns if about is None else {**columns, "about": about}


def _lists(path: Path, batch: Any, row: int, dim: int | None) -> NDArray[Any]:
    """The vectors of some rows, (n, D). `row` is the number of rows before them; D is given if there are any."""
    arrow, _, compute = require_arrow()
    for name in _COLUMNS:
        if batch[name].null_count:
            raise VmrError(
                f"{path}: row {row + batch[name].is_null().index(True).as_py() + 1}: column {name} has no value"
            )
    lists = batch["vector"]
    if not (arrow.types.is_list(lists.type) or arrow.types.is_fixed_size_list(lists.type)):
        raise VmrError(f"{path}: column vector is {lists.type}, but lists of numbers are needed")
    lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    dim = int(lengths[0]) if dim is None else dim
    if (lengths != dim).any():
        wrong = int(np.flatnonzero(lengths != dim)[0])
        raise VmrError(f"{path}: row {row + wrong + 1}: its vector has {lengths[wrong]} numbers, that of row 1 {dim}")
    vectors: NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), dim)
    return vectors


def _read_npz(path: Path) -> dict[str, Any]:
    with _reading(path, BadZipFile, EOFError), np.load(path, allow_pickle=False) as content:
        _require_columns(path, content.files)
        columns = {name: content[name] for name in (*_COLUMNS, "about", "videos") if name in content.files}
    video = columns["video"]
    if video.ndim != 1:
        raise VmrError(f"{path}: column video has shape {video.shape}, but (R,) is needed")
    if "videos" in columns:
        names = columns["videos"].tolist()
        if video.dtype.kind != "i" or (len(video) and not 0 <= video.min() <= video.max() < len(names)):
            raise VmrError(f"{path}: column video does not number the texts of videos, from 0")
        columns["video"] = [names[number] for number in video.tolist()]
    else:
        columns["video"] = video.tolist()
    return columns if "about" not in columns else {**columns, "about": str(columns["about"])}


@contextmanager
def _reading(path: Path, *more: type[Exception]) -> Iterator[None]:
    kinds: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, *more)
    try:
        yield
    except kinds as error:
        said = " ".join(str(error).split())
        raise VmrError(f"{path}: cannot be read: {said:.200}") from error


def _require_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise VmrError(f"{path}: has no column {', '.join(missing)}: it needs {', '.join(_COLUMNS)}")


def _floats(path: Path, name: str, column: NDArray[Any], n: int) -> NDArray[np.float64]:
    if column.shape != (n,) or column.dtype.kind not in "fiu":
        raise VmrError(f"{path}: column {name} is {column.dtype} {column.shape}, but numbers ({n},) are needed")
    return column.astype(np.float64)


def _about(path: Path, text: str | bytes) -> About:
    try:
        about: About = from_json(About, json.loads(text), "")
    except (ValueError, VmrError) as error:
        raise VmrError(f"{path}: what it says about its vectors is damaged ({error}): export them again") from error
    return about


def _csv(lines: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def _numbers(windows: list[Window]) -> tuple[list[int], list[float], list[float]]:
    return [one.id for one in windows], [one.start_s for one in windows], [one.end_s for one in windows]
