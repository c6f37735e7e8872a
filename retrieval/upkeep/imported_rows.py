"""Checking the rows of a file of vectors, and sorting them by video. Rows are numbered from 1 in messages."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.retrieval.storage.records import Span, Vectors
from vmr.retrieval.upkeep.vector_files import VectorRows

_LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True)
class ImportedVideo:
    """The rows of one video.

    Attributes:
        file: its absolute path.
        rows: numbers of its rows in the file, from 0, in the order of time, int64 (n,).
        spans: start and end of each of them.
    """

    file: str
    rows: NDArray[np.int64]
    spans: tuple[Span, ...]

    @property
    def place(self) -> str:
        """Its first row, for messages."""
        return f"row {self.rows.min() + 1}"


def videos_of(path: Path, rows: VectorRows, root: Path) -> list[ImportedVideo]:
    """Check the names and times of all rows, and return their videos, sorted by path.

    Args:
        path: the file, for messages.
        rows: what it holds.
        root: the folder that relative paths are relative to.

    Raises:
        VmrError: a row is wrong, or there twice.
    """
    _require(path, np.isfinite(rows.starts) & np.isfinite(rows.ends), "its times are no numbers")
    _require(path, (rows.starts >= 0) & (rows.ends >= rows.starts), "its end lies before its start, or both before 0")
    files = _absolute(path, rows.videos, root)
    names = sorted(set(files))
    numbers = {name: number for number, name in enumerate(names)}
    of_row = np.array([numbers[file] for file in files], np.int64)
    order = np.lexsort((rows.ends, rows.starts, of_row))
    _require_different(path, of_row[order], rows.starts[order], rows.ends[order], order)
    bounds = np.flatnonzero(np.diff(of_row[order])) + 1
    return [
        ImportedVideo(
            file=name,
            rows=some,
            spans=tuple(zip(rows.starts[some].tolist(), rows.ends[some].tolist(), strict=True)),
        )
        for name, some in zip(names, np.split(order, bounds), strict=True)
    ]


def checked_vectors(path: Path, vectors: Vectors, *, normalize: bool) -> Vectors:
    """Check vectors, float32 (R, D), and return them.

    Args:
        path: the file, for messages.
        vectors: of all rows.
        normalize: divide each vector by its length.

    Raises:
        VmrError: a vector holds numbers that are not finite, or is longer than 1, as no vector of a video may be.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors)
    _require(path, np.isfinite(squares), "its vector holds numbers that are not finite, or too large")
    if normalize:
        _require(path, squares > 0, "its vector has length 0, which has no direction")
        normal: Vectors = vectors / np.sqrt(squares)[:, None]
        return normal
    said = "its vector is longer than 1, so that scores are no cosines: use --normalize if only its direction counts"
    _require(path, np.sqrt(squares) <= 1 + _LENGTH_TOLERANCE, said)
    return vectors


def _absolute(path: Path, videos: Sequence[str], root: Path) -> list[str]:
    known: dict[str, str] = {}
    for number, video in enumerate(videos, start=1):
        if video not in known:
            if not video or "\0" in video or video.endswith("/"):
                raise VmrError(f"{path}: row {number}: {video!r:.60} is no name of a file")
            try:
                os.fsencode(video)
            except UnicodeEncodeError as error:
                raise VmrError(f"{path}: row {number}: {video!r:.60} is no name of a file") from error
            known[video] = os.path.normpath(root / video)
    return [known[video] for video in videos]


def _require(path: Path, is_right: NDArray[np.bool_], reason: str) -> None:
    if not is_right.all():
        wrong = np.flatnonzero(~is_right)
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise VmrError(f"{path}: row {wrong[0] + 1}{more}: {reason}")


def _require_different(
    path: Path,
    videos: NDArray[np.int64],
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    order: NDArray[np.int64],
) -> None:
    is_same = (np.diff(videos) == 0) & (np.diff(starts) == 0) & (np.diff(ends) == 0)
    if is_same.any():
        place = int(np.flatnonzero(is_same)[0])
        first, second = sorted((int(order[place]) + 1, int(order[place + 1]) + 1))
        raise VmrError(f"{path}: row {second}: it has the video and the times of row {first}")
