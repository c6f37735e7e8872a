"""Kinds of FAISS indexes: their names, when an index makes which, and how thoroughly it is searched."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FACTORIES = {
    "flat": "Flat",
    "sq8": "SQ8",
    "hnsw": "HNSW32,Flat",
    "ivf_flat": "IVF{n},Flat",
    "ivf_sq8": "IVF{n},SQ8",
    "ivf_rabitq": "IVF{n},RaBitQ",
}
"""Short names of kinds. flat: every score, exact. sq8: one byte per dimension, every score. hnsw: a graph, searched
from neighbour to neighbour. ivf_...: n lists, of which a search reads some, see `num_lists` and `num_probes`; rabitq:
one bit per dimension."""

AUTO = "auto"
"""The kind of a space that leaves the choice to `factory_of_space`."""

EF_SEARCH = 128  # of HNSW: how many rows a search can find; equal to the depth of re-ranking
POINTS_PER_LIST = 39  # with fewer, FAISS warns that the lists are not well trained
_TRAINING_ROWS_PER_LIST = 64  # more make lists no better
_TRAINING_ROWS = 16_384  # for 256 values of each part of a vector, as product quantisation has them


@dataclass(frozen=True)
class Thresholds:
    """When a space of an index gets which FAISS file.

    A row is a vector of the space. The delta are the rows that are newer than the file; each reader keeps them in
    memory.

    Attributes:
        file_rows: with fewer rows there is no file.
        list_rows: from here on, the file that is made without being asked for is an inverted file.
        flat_delta: so many rows a delta may have beside a file that is searched from end to end.
        delta: so many it may have beside any other file;
        delta_share: or this share of the rows of the file, if that is more.
        removed_share: this share of the file may be rows that were removed.
        growth: a file is trained again when there are so many times the rows that it was trained for.
    """

    file_rows: int = 5_000
    list_rows: int = 100_000
    flat_delta: int = 5_000
    delta: int = 20_000
    delta_share: float = 0.02
    removed_share: float = 0.05
    growth: float = 2.0

    def max_delta(self, factory: str, count: int) -> int:
        """Return how many rows may be newer than a file of `count` rows of a kind."""
        is_flat = not has_lists(factory) and not is_graph(factory)
        return self.flat_delta if is_flat else max(self.delta, int(self.delta_share * count))


THRESHOLDS = Thresholds()

_MOST_WITH_FILTER = 4
_WIDE_SHARE = 0.6


@dataclass(frozen=True)
class Thoroughness:
    """How thoroughly an approximate kind is searched.

    Attributes:
        effort: how many lists of an inverted file are read, or how many rows a graph search keeps (efSearch).
        rescore: for k results, this times k candidates are scored again with their stored vectors.
    """

    effort: int
    rescore: int

    @classmethod
    def of(cls, factory: str, tuned: Mapping[str, Any]) -> "Thoroughness":
        """Return what was measured for a kind, or what is right for most vectors.

        Args:
            factory: FAISS's name of the kind.
            tuned: `Space.search`; settings that are not complete, or of another kind, are passed over.
        """
        if {"factory", "effort", "rescore"} <= tuned.keys() and factory_matches(str(tuned["factory"]), factory):
            return cls(int(tuned["effort"]), int(tuned["rescore"]))
        if "RaBitQ" in factory:
            return cls(16, 10)  # one bit per dimension says little about the order of near rows
        return cls(EF_SEARCH if is_graph(factory) else 8, 2)

    def num_candidates(self, k: int) -> int:
        """Return how many rows to score again for k results."""
        return max(self.rescore * k, k + 10)

    def num_lists(self, num_candidates: int, share: float, num_rows: int, num_lists: int, num_held: int) -> int:
        """Return how many lists of an inverted file one search reads.

        A search without a filter reads `effort` lists. With one, it reads the nearest of those lists that hold selected
        rows, until it has met as many of them as `effort` lists hold rows; up to four times as many, because the rows
        that a filter selects may lie far from the query, where more lists are about equally near. (Measured with
        filters by whole videos, at random and by topic: `python -m benchmarks.index`.) The lists must also hold ten
        times as many selected rows as are to be found.

        Args:
            num_candidates: how many rows the search is to find.
            share: of the rows that may be found, above 0.
            num_rows: all rows of the file.
            num_lists: all its lists.
            num_held: of them, those from which it reads: the lists that hold selected rows, or all.
        """
        met_by_each = share * num_rows / num_held
        wanted = self.effort * num_rows / num_lists * min(_MOST_WITH_FILTER, 1 + 2 * _MOST_WITH_FILTER * (1 - share))
        return min(num_held, math.ceil(max(wanted, 10 * num_candidates) / met_by_each))

    def ef_search(self, num_candidates: int, share: float, num_rows: int) -> int:
        """Return how many rows one search of a graph keeps: below 60 % of the rows, more as fewer rows may be found.

        Args:
            num_candidates: how many rows the search is to find.
            share: of the rows that may be found, above 0.
            num_rows: all rows of the file.
        """
        return min(num_rows, max(self.effort, num_candidates, math.ceil(self.effort * _WIDE_SHARE / share)))


def factory_string(kind: str, num_rows: int) -> str:
    """Return the index_factory string of a short name in FACTORIES, for `num_rows` rows; any other string unchanged."""
    return FACTORIES.get(kind.lower(), kind).replace("{n}", str(num_lists(num_rows)))


def num_lists(num_rows: int) -> int:
    """Return the number of lists of an inverted file in memory.

    It is 4 sqrt(num_rows), FAISS's own advice, but no more than can be trained on the rows.
    """
    return max(1, min(round(4 * math.sqrt(num_rows)), num_rows // POINTS_PER_LIST))


def num_probes(num_lists: int) -> int:
    """Return how many lists a search reads: the square root, so that reading costs about as much as finding."""
    return max(1, round(math.sqrt(num_lists)))


def factory_of_space(kind: str, dtype: str, num_rows: int, thresholds: Thresholds, before: str = "") -> str:
    """Return the kind of FAISS file of a space; {n} stands for the number of its lists.

    Args:
        kind: what was asked for: AUTO, a short name of FACTORIES or a string for index_factory.
        dtype: how the space stores its vectors. Files of a float16 space hold float16 where they would hold float32.
        num_rows: how many vectors the space has.
        thresholds: where AUTO begins to use lists.
        before: the kind that the space has now; lists stay until there are half as many rows.
    """
    if kind == AUTO:
        lists_from = thresholds.list_rows // 2 if has_lists(before) else thresholds.list_rows
        kind = "ivf_sq8" if num_rows >= lists_from else "flat"
    if kind.lower() not in FACTORIES:
        return kind
    factory = FACTORIES[kind.lower()]
    return re.sub("Flat$", "SQfp16", factory) if dtype == "float16" else factory


def with_lists(factory: str, num_rows: int) -> str:
    """Put the number of lists of a file into the kind: 2 sqrt(num_rows), but no more than can be trained on the rows.

    With 100,000 rows, twice the square root found more in six tenths of the time of the square root, and four times the
    square root found no more, but took three times as long to train.
    """
    return factory.replace("{n}", str(max(1, min(round(2 * math.sqrt(num_rows)), num_rows // POINTS_PER_LIST))))


def without_lists(factory: str) -> str:
    """Put {n} in the place of the number of lists."""
    return re.sub(r"IVF\d+", "IVF{n}", factory)


def needs_training(factory: str) -> bool:
    """Whether a kind adapts to the vectors."""
    return re.fullmatch(r"(HNSW\d*,)?(Flat|SQfp16)", factory) is None


def num_training_rows(factory: str) -> int:
    """Return how many rows a kind is trained on: 64 for each list, and enough for what compresses the vectors."""
    lists = re.search(r"IVF(\d+)", factory)
    return max(_TRAINING_ROWS, _TRAINING_ROWS_PER_LIST * int(lists[1]) if lists else 0)


def factory_matches(pattern: str, factory: str) -> bool:
    """Whether a kind is the one that is wanted, whatever the number of lists that {n} stands for."""
    return re.fullmatch(re.escape(pattern).replace(re.escape("{n}"), r"\d+"), factory) is not None


def has_lists(factory: str) -> bool:
    """Whether a kind is an inverted file."""
    return "IVF" in factory


def is_graph(factory: str) -> bool:
    """Whether a kind is a graph, from which FAISS cannot remove rows."""
    return "HNSW" in factory


def is_exact(factory: str, dtype: str) -> bool:
    """Whether a file of a kind holds the stored vectors themselves, and a search of it passes over none."""
    return factory == ("SQfp16" if dtype == "float16" else "Flat")
