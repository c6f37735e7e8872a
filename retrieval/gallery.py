"""The gallery of a data set. An evaluation searches it with the same vector store that an index uses.

Shapes: Q queries, N items (videos) of the gallery, R rows (vectors; an item may have several windows), D dimensions.
Scores are inner products; vectors of videos are not unit vectors, see `vmr.models.encoder.Encoder`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.errors import IndexFileError, ModelError, VmrError
from vmr.models.encoder import Encoder
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.kinds import EF_SEARCH
from vmr.retrieval.vectors.store import Ids

SCORES_AT_ONCE = 1 << 22  # scores in a block of queries: 12 bytes each while FAISS searches

Scores = NDArray[np.float32]


class Gallery:
    """The items that queries search for, in a vector store. `of_index` makes a gallery from an index built earlier.

    Args:
        vectors: float32 (R, D).
        factory: a short name of `vmr.retrieval.vectors.kinds.FACTORIES`, or any string that FAISS's index_factory
            knows.
        item_of_row: int64 (R,), increasing and without gaps; None if each item has one row.
        served: search the rows in an open index and not in a store of the gallery's own; `factory` is then its kind.

    Attributes:
        factory: the kind of index in FAISS's own words.
        is_exact: whether every score is the inner product itself.
        num_items: N.
        kept: int64, the numbers of the requested items that the gallery holds, in its order; an index may lack some.
        paths_missing: see `of_index`.

    Raises:
        ModelError: a vector is not finite.
        VmrError: there is no vector, or FAISS cannot make an index of this kind from the vectors.
    """

    def __init__(
        self,
        vectors: Scores,
        factory: str = "Flat",
        item_of_row: NDArray[np.int64] | None = None,
        *,
        served: "ServedRows | None" = None,
    ) -> None:
        vectors = _checked(vectors, "gallery")
        if not len(vectors):
            raise VmrError("the gallery is empty: there is nothing to search")
        items = np.arange(len(vectors)) if item_of_row is None else item_of_row
        self.num_items = int(items[-1]) + 1
        self.kept: NDArray[np.int64] = np.arange(self.num_items)
        self.paths_missing: tuple[str, ...] = ()
        self._first_rows = np.flatnonzero(np.diff(items, prepend=-1))  # of each item
        self._place_of_row: NDArray[np.int64] = np.arange(len(vectors))
        self._store: FaissStore | ServedRows
        if served is not None:
            self._store, self.factory, self.is_exact = served, factory, False
            return
        store = FaissStore(vectors.shape[1], factory)
        self.is_exact = store.is_exact
        # Inner products of equal vectors can differ in the last bit, depending on their place in a block, and that
        # would decide ties. So an exact index holds each vector once; an approximate index holds all rows, as in real
        # use.
        rows = vectors
        if self.is_exact:
            rows, self._place_of_row = _distinct(vectors)
        store.add(np.arange(len(rows)), rows)
        self._store, self.factory = store, store.factory

    @classmethod
    def of_index(cls, index: VideoIndex, paths: Sequence[str | Path], encoder: Encoder) -> "Gallery":
        """Make a gallery of videos as an index holds them; the score of a video is that of its best window.

        An index that serves approximate results is searched itself, with its settings. Videos that only the index
        holds are left out.

        Args:
            index: the index.
            paths: the videos. Those that the index lacks are left out and listed in `paths_missing`; `kept` are the
                places of the others in `paths`.
            encoder: the model that embeds the queries.

        Raises:
            IndexFileError: the index was made by another encoder, or holds none of the videos.
        """
        space = index.space
        if encoder.fingerprint != space.fingerprint:
            raise IndexFileError(
                f"{index.folder} was made by {space.encoder} ({space.fingerprint}), not by {encoder.name} "
                f"({encoder.fingerprint}): evaluate the former or build the index again"
            )
        windows = index.windows
        rows_of_video: dict[str, list[int]] = {}
        for row, window in enumerate(windows):
            rows_of_video.setdefault(window.file, []).append(row)
        rows_of_file = {os.path.realpath(file): rows for file, rows in rows_of_video.items()}
        rows = [rows_of_file.get(os.path.realpath(path), []) for path in paths]
        kept = [place for place, some in enumerate(rows) if some]
        if not kept:
            raise IndexFileError(
                f"{index.folder} holds none of the {len(rows)} videos to be searched, but others from "
                f"{' and '.join(index.info.roots)}: build an index of their folder with vmr-index build"
            )
        item_of_row = np.repeat(np.arange(len(kept)), [len(rows[place]) for place in kept])
        chosen = np.concatenate([rows[place] for place in kept])
        served = None if index.is_exact else ServedRows(index, np.array([windows[row].id for row in chosen]))
        gallery = cls(index.vectors[chosen], "Flat" if served is None else index.info.kind, item_of_row, served=served)
        gallery.kept = np.array(kept, dtype=np.int64)
        gallery.paths_missing = tuple(str(path) for path, some in zip(paths, rows, strict=True) if not some)
        return gallery

    def search_all(self, queries: Scores, k: int | None = None) -> Scores:
        """Score all items for each query.

        Args:
            queries: float32 (Q, D).
            k: how many rows to ask the store for; None for as many as the store finds at no extra cost. An exact
                gallery always finds everything.

        Returns:
            Scores (Q, N), of an item's best row; -inf for an item that was not found.

        Raises:
            ModelError: queries are not finite, or of another width.
        """
        queries = _checked(queries, "query")
        if queries.shape[1] != self._store.dim:
            raise ModelError(f"queries of {queries.shape[1]} dimensions, but the gallery has {self._store.dim}")
        num_rows = len(self._store)
        if k is not None and k < 1:
            raise VmrError(f"k is {k}: ask for at least 1 result")
        k = min(num_rows, k or self._store.default_k) if not self.is_exact else num_rows
        distinct, place_of_query = _distinct(queries)
        scores = np.empty((len(distinct), self.num_items), np.float32)
        block = max(1, SCORES_AT_ONCE // len(self._place_of_row))
        for start in range(0, len(distinct), block):
            found, ids = self._store.search(distinct[start : start + block], k)
            of_place = np.full((len(found), num_rows + 1), -np.inf, np.float32)
            np.put_along_axis(of_place, ids % (num_rows + 1), found, axis=1)  # FAISS says -1 for "no more"
            of_place[:, -1] = -np.inf
            of_row = of_place[:, self._place_of_row]  # (block, R)
            scores[start : start + block] = np.maximum.reduceat(of_row, self._first_rows, axis=1)
        return scores[place_of_query]


class ServedRows:
    """Rows of an open index, searched as the index serves them. The ids are the numbers of the rows, from 0.

    Args:
        index: the index.
        windows: the windows that the rows are, int64 (R,).
    """

    def __init__(self, index: VideoIndex, windows: Ids) -> None:
        self._index, self._windows = index, windows
        self._order = np.argsort(windows)
        self.dim = index.space.dim
        self.default_k = min(EF_SEARCH, len(windows))  # asked for all, an index would read all, as it does for nobody

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._windows)

    def search(self, queries: Scores, k: int) -> tuple[Scores, Ids]:
        """Find the rows nearest to queries (Q, D): scores (Q, k), and numbers of rows (Q, k), -1 for none."""
        scores, windows = self._index.search_vectors(queries, k, self._windows)
        places = np.searchsorted(self._windows, windows, sorter=self._order)
        return scores, np.where(windows < 0, -1, self._order[np.minimum(places, len(self) - 1)])


def _checked(vectors: Scores, what: str) -> Scores:
    """Return contiguous float32; raise ModelError, naming the first row, if some are not finite."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise ModelError(
            f"{len(broken)} of {len(vectors)} {what} vectors are not finite, first: number {broken[0]}: check the "
            "model's weights"
        )
    return vectors


def _distinct(vectors: Scores) -> tuple[Scores, NDArray[np.int64]]:
    """Return the distinct rows, and for each given row its place among them."""
    if not len(vectors):
        return vectors, np.empty(0, np.int64)
    distinct, places = np.unique(vectors, axis=0, return_inverse=True)
    return np.ascontiguousarray(distinct), places.reshape(-1)  # only NumPy 2.0 keeps an axis
