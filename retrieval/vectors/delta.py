"""The rows of a space that are in no FAISS file: they are searched in memory, exactly."""

import numpy as np

from vmr.retrieval.vectors.ranking import Ranked, certain_best, rounding_margin
from vmr.retrieval.vectors.store import Ids, Mask, Vectors


class Delta:
    """Vectors in memory, in the order in which they were added.

    Args:
        dim: D, their dimensions.
    """

    def __init__(self, dim: int) -> None:
        self._rows = np.empty((0, dim), np.float32)  # longer than needed: it grows by doubling
        self._ids = np.empty(0, np.int64)
        self._is_live = np.empty(0, bool)
        self._length = 0
        self._largest_norm = 0.0

    def __len__(self) -> int:
        """Return how many vectors there are, without those that were removed."""
        return int(np.count_nonzero(self._is_live[: self._length]))

    def reserve(self, n: int) -> None:
        """Make room for n more vectors, or for more: it grows by doubling."""
        if self._length + n > len(self._ids):
            self._move(slice(0, self._length), room=max(self._length + n, 2 * self._length))

    def add(self, first_id: int, vectors: Vectors) -> None:
        """Add vectors (n, D) under ids that follow each other."""
        self.reserve(len(vectors))
        end = self._length + len(vectors)
        place = slice(self._length, end)
        self._rows[place] = vectors
        self._ids[place] = np.arange(first_id, first_id + len(vectors))
        self._is_live[place] = True
        self._length = end
        if len(vectors):
            longest = float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max()))
            self._largest_norm = max(self._largest_norm, longest)

    def remove(self, is_removed: Mask) -> None:
        """Remove the vectors whose ids are marked in a mask with a place for each id."""
        self._is_live[: self._length] &= ~is_removed[self._ids[: self._length]]
        live = np.flatnonzero(self._is_live[: self._length])
        if 2 * len(live) < self._length:  # else an index in which videos are replaced would fill the memory
            self._move(live, room=len(live))

    def search(self, queries: Vectors, k: int, allowed: Mask | None) -> list[Ranked]:
        """Return the k best for each query (Q, D), or of those whose ids are marked; equal ones by id."""
        is_wanted = self._is_live[: self._length]
        if allowed is not None:
            is_wanted = is_wanted & allowed[self._ids[: self._length]]
        places = np.flatnonzero(is_wanted)
        if not len(places):
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        return [
            self._best(query, k, rounded, places)
            for query, rounded in zip(queries, queries @ self._rows[: self._length].T, strict=True)
        ]

    def _best(self, query: Vectors, k: int, scores: Vectors, places: Ids) -> Ranked:
        """The k best of some places for a query (D,), given the scores of all, which may be rounded in another way."""
        rounded = scores if len(places) == len(scores) else scores[places]

        def find(n: int) -> Ranked:
            chosen = np.argpartition(rounded, len(rounded) - n)[-n:] if n < len(rounded) else np.arange(len(rounded))
            return rounded[chosen], chosen

        margin = rounding_margin(query, self._largest_norm)
        found, chosen = certain_best(query, k, find, lambda some: self._rows[places[some]], margin)
        return found, self._ids[places[chosen]]

    def _move(self, kept: slice | Ids, room: int) -> None:
        """Move some rows to new memory with room for `room` rows."""
        for name in ("_rows", "_ids", "_is_live"):
            old = getattr(self, name)
            some = old[kept]
            new = np.empty((max(room, 64), *old.shape[1:]), old.dtype)
            new[: len(some)] = some
            setattr(self, name, new)
        self._length = len(some)
