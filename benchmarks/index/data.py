"""Vectors like those of an encoder, queries, filters by whole videos, and the truth by comparing every pair.

The vectors of an encoder share a mean (they lie in a cone), form clusters of several levels, have a spectrum that
decays, and have unit length; windows of one video resemble each other. Queries lie further off, as texts do: every
second one near a video, of which most of its nearest windows are; the others near the middle of a subject, between the
videos. Random vectors without this structure would be easier for some kinds of index and harder for others.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOWS = 64  # of a video
K = 10
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0)
COLUMNS = ("random", "topic")
NEW_VIDEOS = 16  # 1024 windows, which are added to a finished index

TOPICS, SUBJECTS = 64, 2048  # clusters; every video belongs to a subject, every subject to a topic
SPREAD = {"topic": 1.0, "subject": 0.8, "video": 0.6, "window": 0.45, "query": 0.9}
MEAN_LENGTH = 6.0
BLOCK = 32_768  # rows that are made or compared at once

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Filter(NamedTuple):
    """A filter that keeps whole videos.

    Attributes:
        column: of COLUMNS. Every video has a place in a random order, and one by its nearness to the video in which a
            topic is strongest.
        share: of the videos that are kept, those with the first places.
    """

    column: str
    share: float

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.column}-{self.share:g}"


FILTERS = tuple(Filter(column, share) for column in COLUMNS for share in SHARES if share < 1)


@dataclass(frozen=True)
class Data:
    """The inputs of a benchmark in a folder.

    Attributes:
        folder: where `make_data` wrote them.
    """

    folder: Path

    @cached_property
    def vectors(self) -> Vectors:
        """All vectors, float32 (N, D), mapped; WINDOWS adjacent rows are a video."""
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    @cached_property
    def new_vectors(self) -> Vectors:
        """Vectors that are not in the index, float32 (NEW_VIDEOS * WINDOWS, D)."""
        return np.load(self.folder / "new.npy")

    @cached_property
    def queries(self) -> Vectors:
        """The queries, float32 (Q, D)."""
        return np.load(self.folder / "queries.npy")

    @cached_property
    def num_rows(self) -> int:
        """How many vectors there are; read without mapping them."""
        return len(self.places("random")) * WINDOWS

    def places(self, column: str) -> Rows:
        """Give the place of every video in an order.

        Args:
            column: of COLUMNS.

        Returns:
            int64 (videos,), a permutation.
        """
        return np.load(self.folder / f"{column}.npy")

    def end(self, only: Filter) -> int:
        """Tell how many videos a filter keeps: those with a place below this number.

        Args:
            only: the filter.

        Returns:
            At least 1.
        """
        return max(1, round(only.share * self.num_rows / WINDOWS))

    def mask(self, only: Filter) -> Mask:
        """Tell which rows a filter keeps.

        Args:
            only: the filter.

        Returns:
            bool (N,).
        """
        return np.repeat(self.places(only.column) < self.end(only), WINDOWS)

    def truth(self, only: Filter | None) -> Rows:
        """Give the rows that are nearest to each query.

        Args:
            only: the filter; None for all rows.

        Returns:
            int64 (Q, K), best first.
        """
        return np.load(self.folder / f"truth-{only.name if only else 'all'}.npy")


def make_data(folder: Path, num_rows: int, dim: int, num_queries: int) -> Data:
    """Write the inputs of a benchmark, if they are not in the folder yet.

    Args:
        folder: is made; holds the inputs of these arguments only.
        num_rows: rounded up to whole videos.
        dim: of the vectors.
        num_queries: how many queries.

    Returns:
        The inputs.
    """
    data, done = Data(folder), folder / f"made-{num_rows}-{dim}-{num_queries}"
    if done.exists():
        return data
    folder.mkdir(parents=True, exist_ok=True)
    random, world = np.random.default_rng(0), _World(-(-num_rows // WINDOWS), dim)
    shape = (world.num_videos * WINDOWS, dim)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
    for start in range(0, len(vectors), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(vectors)))
        vectors[rows] = world.near(world.videos[rows // WINDOWS], "window")
    vectors.flush()
    np.save(folder / "new.npy", world.near(_World(NEW_VIDEOS, dim).videos.repeat(WINDOWS, axis=0), "window"))
    centres = world.videos[random.integers(0, world.num_videos, num_queries)]
    centres[::2] = world.subjects[random.integers(0, SUBJECTS, len(centres[::2]))]
    queries = world.near(centres, "query")
    np.save(folder / "queries.npy", queries)
    np.save(folder / "random.npy", random.permutation(world.num_videos))
    nearness = world.videos @ world.videos[random.integers(world.num_videos)]
    np.save(folder / "topic.npy", np.argsort(np.argsort(-nearness, kind="stable")))
    filters = [None, *FILTERS]
    masks = [np.ones(len(vectors), bool) if only is None else data.mask(only) for only in filters]
    for only, truth in zip(filters, nearest(vectors, queries, masks), strict=True):
        np.save(folder / f"truth-{only.name if only else 'all'}.npy", truth)
    done.touch()
    return data


def nearest(vectors: Vectors, queries: Vectors, masks: list[Mask]) -> list[Rows]:
    """Find the nearest rows by comparing every pair.

    Args:
        vectors: float32 (N, D).
        queries: float32 (Q, D).
        masks: bool (N,) each: among which rows to search.

    Returns:
        int64 (Q, K) for each mask, best first; -1 where there are fewer rows.
    """
    best = [(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)) for _ in masks]
    for start in range(0, len(vectors), BLOCK):
        scores = queries @ vectors[start : start + BLOCK].T
        for number, mask in enumerate(masks):
            rows = np.flatnonzero(mask[start : start + BLOCK])
            kept = scores[:, rows]
            if len(rows) > K:
                top = np.argpartition(-kept, K - 1, axis=1)[:, :K]
                kept, rows = np.take_along_axis(kept, top, axis=1), rows[top]
            found = np.concatenate([best[number][0], kept], axis=1)
            ids = np.concatenate([best[number][1], np.broadcast_to(start + rows, kept.shape)], axis=1)
            order = np.argsort(-found, axis=1, kind="stable")[:, :K]
            best[number] = np.take_along_axis(found, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return [np.pad(ids, [(0, 0), (0, K - ids.shape[1])], constant_values=-1) for _, ids in best]


class _World:
    """Clusters of three levels, from which windows and queries are drawn."""

    def __init__(self, num_videos: int, dim: int) -> None:
        self._random, self.num_videos = np.random.default_rng(1), num_videos
        self._spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        self._axes = np.linalg.qr(self._random.standard_normal((dim, dim)))[0].astype(np.float32)
        mean = self._random.standard_normal(dim).astype(np.float32)
        self._mean = mean * (MEAN_LENGTH / np.linalg.norm(mean))
        topic_of = self._random.integers(0, TOPICS, SUBJECTS)
        self.subjects = self._spread(TOPICS, "topic")[topic_of] + self._spread(SUBJECTS, "subject")
        self._random = np.random.default_rng(num_videos)  # other videos of the same subjects for every number
        subject_of = self._random.integers(0, SUBJECTS, num_videos)
        self.videos = self.subjects[subject_of] + self._spread(num_videos, "video")

    def near(self, centres: Vectors, what: str) -> Vectors:
        """Draw a vector of unit length near each of these centres."""
        drawn = (centres + self._spread(len(centres), what)) @ self._axes + self._mean
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return np.asarray(drawn, np.float32)

    def _spread(self, count: int, what: str) -> Vectors:
        shape = (count, len(self._spectrum))
        return self._random.standard_normal(shape, dtype=np.float32) * self._spectrum * np.float32(SPREAD[what])
