"""The interface of a store of vectors. Scores are inner products; higher is better."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]


class VectorSearch(Protocol):
    """The searching side of a store: vectors by id, and the search for those nearest to a query.

    D is the number of dimensions, the same for all vectors.
    """

    def __len__(self) -> int:
        """Return how many vectors there are."""

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Find the vectors with the largest inner products.

        Args:
            queries: float32 (Q, D).
            k: how many to find for each query, at least 1.
            allowed: ids to search among; None for all.

        Returns:
            Scores, float32 (Q, k), best first, and ids, int64 (Q, k); padded with id -1 if fewer were found.
        """

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of these ids, float32 (N, D); a store that compresses returns approximate vectors."""


class VectorStore(VectorSearch, Protocol):
    """Vectors by id, and the search for those nearest to a query. Write a store of your own to keep an index elsewhere.

    D is the number of dimensions, the same for all vectors.
    """

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors.

        Args:
            ids: int64 (N,), none of which is in the store.
            vectors: float32 (N, D).
        """

    def remove(self, ids: Ids) -> None:
        """Remove the vectors of these ids; unknown ids are ignored."""

    def commit(self) -> None:
        """Make all additions and removals permanent; until then, other readers of the store see the last commit."""
