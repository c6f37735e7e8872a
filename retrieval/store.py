"""Vectors that can be searched: the interface of a store, and a store that uses FAISS.

This is the only file that calls FAISS. Scores are inner products; higher is better.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_path, check_type, whole_number
from vmr.errors import IndexFileError, MissingExtraError, VmrError
from vmr.files import write_atomically

FACTORIES = {
    "flat": "Flat",
    "sq8": "SQ8",
    "hnsw": "HNSW32,Flat",
    "ivf_flat": "IVF{n},Flat",
    "ivf_sq8": "IVF{n},SQ8",
}
"""Short names of kinds. flat: every score, exact. sq8: one byte per dimension, every score. hnsw: a graph, searched
from neighbour to neighbour. ivf_...: n lists, of which a search reads some, see `num_lists` and `num_probes`."""

EF_SEARCH = 128  # of HNSW: how many rows a search can find; equal to the depth of re-ranking
POINTS_PER_LIST = 39  # with fewer, FAISS warns that the lists are not well trained

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


class VectorStore(Protocol):
    """Vectors by id, and the search for those nearest to a query. Write a store of your own to keep an index elsewhere.

    D is the number of dimensions, the same for all vectors.
    """

    def __len__(self) -> int:
        """Return how many vectors there are."""

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors.

        Args:
            ids: int64 (N,), none of which is in the store.
            vectors: float32 (N, D).
        """

    def remove(self, ids: Ids) -> None:
        """Remove the vectors of these ids; unknown ids are ignored."""

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

    def commit(self) -> None:
        """Make all additions and removals permanent; until then, other readers of the store see the last commit."""


class FaissStore:
    """A `VectorStore` in a FAISS index, in memory; `commit` writes it to a file.

    Args:
        dim: dimensions of the vectors.
        factory: a short name of FACTORIES, or any string that FAISS's index_factory knows. A kind that needs training
            is trained on the vectors of the first `add`.
        path: the file to commit to; None keeps the store in memory only.

    Attributes:
        dim: as given.
        path: as given.
        sha256: of the file that the last `commit` wrote, in hex; "" before.

    Raises:
        MissingExtraError: FAISS is not installed.
        VmrError: an argument has a wrong type or is out of range.
    """

    def __init__(self, dim: int, factory: str = "Flat", path: str | Path | None = None) -> None:
        self._faiss = require_faiss()
        self.dim, self.path = whole_number("dim", dim), None if path is None else Path(check_path("path", path))
        self.sha256 = ""
        check_type("factory", factory, str)
        self._kind = factory
        self._index: Any = None  # until the first vectors, on which it is trained

    @classmethod
    def open(cls, path: str | Path) -> "FaissStore":
        """Open a store that `commit` wrote.

        If the file has no ids, as in the first versions of vmr, the vectors are numbered from 0.

        Raises:
            IndexFileError: FAISS cannot read the file.
        """
        faiss = require_faiss()
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexFileError(f"{path}: FAISS cannot read this file: {_reason(error)}") from error
        store = cls(int(index.d), path=path)
        if isinstance(index, faiss.IndexIDMap):
            inner = faiss.downcast_index(index.index)
            store._kind = "Flat" if isinstance(inner, faiss.IndexFlat) else type(inner).__name__
            store._index = index
        else:
            rows = index.reconstruct_n(0, index.ntotal)
            store.add(np.arange(len(rows)), rows)
        return store

    def __len__(self) -> int:
        """Return how many vectors there are."""
        return 0 if self._index is None else int(self._index.ntotal)

    @property
    def factory(self) -> str:
        """The kind of index for FAISS's index_factory; a short name is resolved when the first vectors are added."""
        return self._kind

    @property
    def is_exact(self) -> bool:
        """Whether every score is the inner product itself, and no vector is missed."""
        return self._kind.lower() == "flat"

    @property
    def default_k(self) -> int:
        """How many rows a search finds at no extra cost: EF_SEARCH for a graph, all rows for any other kind."""
        return min(EF_SEARCH, len(self)) if "HNSW" in self._kind else len(self)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """See `VectorStore.add`.

        Raises:
            VmrError: FAISS cannot make an index of this kind of these vectors; or an id is negative, given twice or in
                the store.
        """
        ids, vectors = _checked_ids(ids), self._checked(vectors)
        if len(ids) != len(vectors) or len(np.unique(ids)) < len(ids) or (ids < 0).any() or self._holds(ids).any():
            raise VmrError(f"{len(vectors)} vectors need as many ids that are different, not negative and not in use")
        if not len(vectors):
            return
        with self._told_in_one_line(len(vectors)):
            if self._index is None:
                self._train(vectors)
            with self._one_thread():
                self._index.add_with_ids(vectors, ids)

    def remove(self, ids: Ids) -> None:
        """See `VectorStore.remove`.

        Raises:
            VmrError: this kind of index, such as a graph, cannot remove vectors.
        """
        if self._index is not None:
            with self._told_in_one_line(len(self)):
                self._index.remove_ids(_checked_ids(ids))

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """See `VectorStore.search`; the score of id -1 is -inf.

        Raises:
            VmrError: k is below 1, or the queries have another width.
        """
        k = whole_number("k", k)
        queries = self._checked(queries)
        if self._index is None:
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        scores, ids = self._index.search(queries, k, params=None if allowed is None else self._only(allowed))
        scores[ids < 0] = -np.inf
        return scores, ids

    def vectors(self, ids: Ids) -> Vectors:
        """See `VectorStore.vectors`.

        Raises:
            VmrError: an id is not in the store.
        """
        ids = _checked_ids(ids)
        if not self._holds(ids).all():
            raise VmrError(f"the store has no vector with id {ids[~self._holds(ids)][0]}")
        if not len(ids):
            return np.empty((0, self.dim), np.float32)
        lists = self._faiss.try_extract_index_ivf(self._index)
        if lists is not None:
            lists.make_direct_map()
        vectors: Vectors = self._index.reconstruct_batch(ids)
        return vectors

    def commit(self) -> None:
        """See `VectorStore.commit`; does nothing for a store without a path.

        Raises:
            VmrError: there are no vectors, or the file cannot be written. Then the last commit is still there.
        """
        if self.path is not None:
            if self._index is None:
                raise VmrError(f"{self.path}: there are no vectors to write")
            self.sha256 = write_atomically(self.path, self._write)

    def _write(self, file: BinaryIO) -> None:
        """Write the index piece by piece: a whole copy of it would double the memory."""
        self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(file.write))

    def _checked(self, vectors: Vectors) -> Vectors:
        """Return contiguous float32; raise VmrError unless the vectors are (N, dim)."""
        if np.ndim(vectors) != 2 or vectors.shape[1] != self.dim:
            raise VmrError(f"vectors of shape {np.shape(vectors)}, but the store takes (N, {self.dim})")
        return np.ascontiguousarray(vectors, np.float32)

    def _holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the ids are in the store."""
        known = [] if self._index is None else self._faiss.vector_to_array(self._index.id_map)
        return np.isin(ids, known)

    def _train(self, vectors: Vectors) -> None:
        faiss = self._faiss
        self._kind = factory_string(self._kind, len(vectors))
        index = faiss.index_factory(self.dim, self._kind, faiss.METRIC_INNER_PRODUCT)
        lists = faiss.try_extract_index_ivf(index)
        if lists is not None and lists.nlist > len(vectors):
            raise VmrError(f"{self._kind}: {lists.nlist} lists need as many vectors, but there are {len(vectors)}")
        with self._one_thread():
            index.train(vectors)
        if lists is not None:
            lists.nprobe = num_probes(lists.nlist)
        elif "HNSW" in self._kind:
            faiss.ParameterSpace().set_index_parameter(index, "efSearch", EF_SEARCH)
        self._inner = index  # FAISS does not keep the index alive that an IDMap wraps
        self._index = faiss.IndexIDMap2(index)

    def _only(self, allowed: Ids) -> Any:
        """Search parameters that leave out all other ids. They replace the parameters of the index."""
        faiss, selector = self._faiss, self._faiss.IDSelectorBatch(_checked_ids(allowed))
        lists = faiss.try_extract_index_ivf(self._index)
        if lists is not None:
            return faiss.SearchParametersIVF(sel=selector, nprobe=lists.nprobe)
        if "HNSW" in self._kind:
            return faiss.SearchParametersHNSW(sel=selector, efSearch=EF_SEARCH)
        return faiss.SearchParameters(sel=selector)

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Build in one thread: a graph depends on the order in which its points come. Searches use all threads."""
        num_threads = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(num_threads)

    @contextmanager
    def _told_in_one_line(self, num_vectors: int) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise VmrError(
                f"{self._kind}: FAISS cannot do this with an index of {num_vectors} vectors of {self.dim} dimensions "
                f"({_reason(error)}); short names are {', '.join(FACTORIES)}"
            ) from error


def _checked_ids(ids: Ids) -> Ids:
    """Return contiguous int64; raise VmrError unless the ids are a row of integers."""
    found = np.asarray(ids)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise VmrError(f"ids of type {found.dtype} and shape {found.shape}, but integers (N,) are needed")
    return np.ascontiguousarray(found, np.int64)


def factory_string(kind: str, num_rows: int) -> str:
    """Return the index_factory string of a short name in FACTORIES, for `num_rows` rows; any other string unchanged."""
    return FACTORIES.get(kind.lower(), kind).replace("{n}", str(num_lists(num_rows)))


def check_kind(kind: str, dim: int) -> None:
    """Check that FAISS knows a kind of index.

    Args:
        kind: as for `FaissStore`.
        dim: dimensions of the vectors.

    Raises:
        VmrError: it does not.
        MissingExtraError: FAISS is not installed.
    """
    faiss = require_faiss()
    check_type("a kind of index", kind, str)
    try:
        faiss.index_factory(dim, factory_string(kind, POINTS_PER_LIST), faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        known = ", ".join(FACTORIES)
        raise VmrError(f"{kind}: FAISS makes no such index ({_reason(error)}); short names are {known}") from error


def num_lists(num_rows: int) -> int:
    """Return the number of lists of an inverted file.

    It is 4 sqrt(num_rows), FAISS's own advice, but no more than can be trained on the rows.
    """
    return max(1, min(round(4 * math.sqrt(num_rows)), num_rows // POINTS_PER_LIST))


def num_probes(num_lists: int) -> int:
    """Return how many lists a search reads: the square root, so that reading costs about as much as finding."""
    return max(1, round(math.sqrt(num_lists)))


def _reason(error: RuntimeError) -> str:
    """Return FAISS's error message without its source file and line."""
    return re.split(r"Error: |\.cpp:\d+: ", " ".join(str(error).split()))[-1]


def require_faiss() -> Any:
    """Import FAISS. Raises MissingExtraError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "index") from error
    return faiss
