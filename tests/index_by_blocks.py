"""Small indexes for tests: videos of random vectors, and brute force over them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests import indexes
from tests.indexes import SETTINGS, STATE
from vmr.retrieval.storage.records import NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter


def space(dim: int, *, name: str = "space", dtype: str = "float16", **options) -> Space:
    return indexes.space(dim=dim, name=name, dtype=dtype, **options)


def video(path: str, vectors: Mapping[int, np.ndarray]) -> NewVideo:
    """A video with these vectors, by space."""
    n = len(next(iter(vectors.values())))
    spans = tuple((4.0 * i, 4.0 * i + 8) for i in range(n))
    return NewVideo("/videos", path, b"", STATE, 4.0 * n + 4, (), spans, vectors)


def new_index(folder: Path, *spaces: Space) -> IndexWriter:
    """The writer of a new index; not entered yet."""

    def fill(changes):
        for each in spaces:
            changes.add_space(each)

    return IndexWriter(folder, SETTINGS, fill)


def brute_force(
    rows: Mapping[int, np.ndarray], query: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[list[float], list[int]]:
    """Scores and ids of the k best rows, by score and then by id; id -> row."""
    ids = [number for number in rows if allowed is None or (number < len(allowed) and allowed[number])]
    scores = {number: np.multiply(rows[number], query).sum() for number in ids}
    best = sorted(ids, key=lambda number: (-scores[number], number))[:k]
    return [float(scores[number]) for number in best], best
