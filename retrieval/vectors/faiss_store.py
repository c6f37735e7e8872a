"""A store of vectors that uses FAISS. This is the only file that calls FAISS."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_path, check_type, whole_number
from vmr.errors import IndexFileError, MissingExtraError, VmrError
from vmr.files import write_atomically
from vmr.retrieval.vectors.kinds import (
    EF_SEARCH,
    FACTORIES,
    POINTS_PER_LIST,
    factory_string,
    is_graph,
    num_probes,
)
from vmr.retrieval.vectors.store import Ids, Mask, Vectors

ROWS_AT_ONCE = 8192  # that are decoded from an index


class FaissStore:
    """A `VectorStore` in a FAISS index, in memory; `commit` writes it to a file.

    Args:
        dim: dimensions of the vectors.
        factory: a short name of FACTORIES, or any string that FAISS's index_factory knows. A kind that needs training
            is trained on the vectors of the first `add`, unless `train` was called before.
        path: the file to commit to; None keeps the store in memory only.
        num_threads: how many threads build the index. Only one thread builds the same graph every time; None for all.

    Attributes:
        dim: as given.
        path: as given.
        sha256: of the file that the last `commit` wrote, in hex; "" before.

    Raises:
        MissingExtraError: FAISS is not installed.
        VmrError: an argument has a wrong type or is out of range.
    """

    def __init__(
        self, dim: int, factory: str = "Flat", path: str | Path | None = None, *, num_threads: int | None = 1
    ) -> None:
        self._faiss = require_faiss()
        self.dim, self.path = whole_number("dim", dim), None if path is None else Path(check_path("path", path))
        self.sha256 = ""
        check_type("factory", factory, str)
        self._kind, self._num_threads = factory, num_threads
        self._is_mapped = False
        self._index: Any = None  # until it is trained
        self._largest_id: int | None = -1  # None: not known
        self._known: set[int] | None = None  # all ids, once an id was added that is not larger than all others

    @classmethod
    def open(cls, path: str | Path, *, mapped: bool = False, num_threads: int | None = 1) -> "FaissStore":
        """Open a store that `commit` wrote.

        If the file has no ids, as in the first versions of vmr, the vectors are numbered from 0.

        Args:
            path: the file.
            mapped: leave the vectors in the file, from where a search reads them; nothing can be added or removed.
                FAISS may take a file that is cut short, and then end the process: check the size before.
            num_threads: see `FaissStore`.

        Raises:
            IndexFileError: FAISS cannot read the file.
        """
        faiss = require_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
        except (RuntimeError, MemoryError) as error:  # the latter if a damaged file says that it is huge
            raise IndexFileError(f"{path}: FAISS cannot read this file: {_reason(error)}") from error
        store = cls(int(index.d), path=path, num_threads=num_threads)
        if isinstance(index, faiss.IndexIDMap) or _keeps_ids(index):
            inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index
            store._kind = _name_of(inner)
            store._index, store._is_mapped, store._largest_id = index, mapped, None
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
        return min(EF_SEARCH, len(self)) if is_graph(self._kind) else len(self)

    @property
    def num_lists(self) -> int:
        """How many lists an inverted file has; 0 for any other kind."""
        lists = None if self._index is None else self._faiss.try_extract_index_ivf(self._index)
        return 0 if lists is None else int(lists.nlist)

    @property
    def ids(self) -> Ids:
        """The ids of all vectors, int64 (N,), in the order of FAISS."""
        if self._index is None:
            return np.empty(0, np.int64)
        faiss = self._faiss
        if isinstance(self._index, faiss.IndexIDMap):
            return np.asarray(faiss.vector_to_array(self._index.id_map), np.int64)
        lists = faiss.extract_index_ivf(self._index).invlists
        sizes = [lists.list_size(i) for i in range(lists.nlist)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(i), size) for i, size in enumerate(sizes) if size]
        return np.concatenate([np.empty(0, np.int64), *parts])  # copies: the lists may move

    @property
    def lists(self) -> NDArray[np.int32] | None:
        """The list of each vector, int32 (N,), in the order of `ids`; None if a search cannot be told which to read."""
        found = self._faiss.try_extract_index_ivf(self._index)
        if found is None or not isinstance(self._faiss.downcast_index(found.quantizer), self._faiss.IndexFlat):
            return None
        return np.repeat(np.arange(found.nlist, dtype=np.int32), [found.get_list_size(i) for i in range(found.nlist)])

    @property
    def largest_norm(self) -> float:
        """The length of the longest vector, of a kind that keeps the vectors in their order."""
        inner = self._faiss.downcast_index(self._index.index)
        starts = range(0, len(self), ROWS_AT_ONCE)
        parts = (inner.reconstruct_n(start, min(ROWS_AT_ONCE, len(self) - start)) for start in starts)
        return float(np.sqrt(max((np.einsum("nd,nd->n", rows, rows).max() for rows in parts), default=0.0)))

    def train(self, sample: Vectors) -> None:
        """Train on a sample of the vectors that will be added; nothing is added.

        Args:
            sample: float32 (N, D), N at least 1.

        Raises:
            VmrError: FAISS cannot make an index of this kind of these vectors.
        """
        sample = self._checked(sample)
        with self._told_in_one_line(len(sample)):
            self._train(sample)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """See `VectorStore.add`.

        Raises:
            VmrError: FAISS cannot make an index of this kind of these vectors; or an id is negative, given twice or in
                the store.
        """
        self._check_changeable()
        ids, vectors = _checked_ids(ids), self._checked(vectors)
        if len(ids) != len(vectors) or len(np.unique(ids)) < len(ids) or (ids < 0).any() or not self._are_new(ids):
            raise VmrError(f"{len(vectors)} vectors need as many ids that are different, not negative and not in use")
        if not len(vectors):
            return
        with self._told_in_one_line(len(vectors)):
            if self._index is None:
                self._train(vectors)
            with self._build_threads():
                self._index.add_with_ids(vectors, ids)
        self._largest_id = max(int(ids.max()), self._largest_id or 0)
        if self._known is not None:
            self._known.update(ids.tolist())

    def remove(self, ids: Ids) -> None:
        """See `VectorStore.remove`.

        Raises:
            VmrError: this kind of index, such as a graph, cannot remove vectors.
        """
        self._check_changeable()
        if self._index is not None:
            ids = _checked_ids(ids)
            with self._told_in_one_line(len(self)):
                self._index.remove_ids(ids)
            if self._known is not None:
                self._known.difference_update(ids.tolist())

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: Ids | Mask | None = None,
        *,
        effort: int | None = None,
        lists: Mask | None = None,
    ) -> tuple[Vectors, Ids]:
        """See `VectorStore.search`; the score of id -1 is -inf.

        Args:
            queries: float32 (Q, D).
            k: how many to find for each query.
            allowed: ids, or a mask with a place for each id from 0 on; ids beyond its end are not found.
            effort: lists of an inverted file to read, or rows that a graph search keeps (efSearch); None for a default.
            lists: a mask of the lists that may be read, see `lists`; None for all.

        Raises:
            VmrError: k is below 1, the queries have another width, or FAISS cannot leave out rows of this kind.
        """
        k = whole_number("k", k)
        queries = self._checked(queries)
        if self._index is None:
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        (selector, bits), (list_selector, list_bits) = self._selector(allowed), self._selector(lists)
        with self._told_in_one_line(len(self)):
            parameters = self._parameters(selector, effort, list_selector)
            scores, ids = self._index.search(queries, k, params=parameters)
        del bits, list_bits  # FAISS reads them during the search
        scores[ids < 0] = -np.inf
        return scores, ids

    def vectors(self, ids: Ids) -> Vectors:
        """See `VectorStore.vectors`.

        Raises:
            VmrError: an id is not in the store.
        """
        ids = _checked_ids(ids)
        if not len(ids):
            return np.empty((0, self.dim), np.float32)
        held = self.ids
        missing = ids[~np.isin(ids, held)]
        if len(missing):
            raise VmrError(f"the store has no vector with id {missing[0]}")
        faiss, lists = self._faiss, self._faiss.try_extract_index_ivf(self._index)
        if isinstance(self._index, faiss.IndexIDMap):
            if lists is not None:
                lists.make_direct_map()
            order = np.argsort(held)
            places = order[np.searchsorted(held, ids, sorter=order)]
            return np.asarray(self._index.index.reconstruct_batch(places), np.float32)
        lists.set_direct_map_type(faiss.DirectMap.Hashtable)
        vectors: Vectors = self._index.reconstruct_batch(ids)
        lists.set_direct_map_type(faiss.DirectMap.NoMap)  # with the table, FAISS cannot remove many ids at once
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

    def _check_changeable(self) -> None:
        if self._is_mapped:
            raise VmrError(f"{self.path} is open for searching only")

    def _are_new(self, ids: Ids) -> bool:
        """Whether none of the ids is in the store; takes time for those that are given, not for those that are held."""
        if self._largest_id is None:
            self._largest_id = int(self.ids.max(initial=-1))
        if self._known is None and ids.min(initial=self._largest_id + 1) > self._largest_id:
            return True
        if self._known is None:
            self._known = set(self.ids.tolist())
        return self._known.isdisjoint(ids.tolist())

    def _train(self, vectors: Vectors) -> None:
        faiss = self._faiss
        self._kind = factory_string(self._kind, len(vectors))
        index = faiss.index_factory(self.dim, self._kind, faiss.METRIC_INNER_PRODUCT)
        lists = faiss.try_extract_index_ivf(index)
        if lists is not None and lists.nlist > len(vectors):
            raise VmrError(f"{self._kind}: {lists.nlist} lists need as many vectors, but there are {len(vectors)}")
        if lists is not None and faiss.get_num_gpus():  # only FAISS for graphics cards counts any
            lists.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(lists.d))
        with self._build_threads():
            index.train(vectors)
        if lists is not None:
            lists.clustering_index = None
            lists.nprobe = num_probes(lists.nlist)
        elif is_graph(self._kind):
            faiss.ParameterSpace().set_index_parameter(index, "efSearch", EF_SEARCH)
        self._inner = index  # FAISS does not keep the index alive that an IDMap wraps
        self._index = index if _keeps_ids(index) else faiss.IndexIDMap(index)

    def _selector(self, allowed: Ids | Mask | None) -> tuple[Any, object]:
        """Return what leaves out all other ids, and the memory that it reads; None for all ids."""
        if allowed is None:
            return None, None
        if np.asarray(allowed).dtype == bool:
            bits = np.packbits(allowed, bitorder="little")
            return self._faiss.IDSelectorBitmap(bits), bits
        return self._faiss.IDSelectorBatch(_checked_ids(np.asarray(allowed))), None

    def _parameters(self, selector: Any, effort: int | None, list_selector: Any) -> Any:
        """Parameters of one search, which replace those of the index."""
        faiss = self._faiss
        lists = faiss.try_extract_index_ivf(self._index)
        if lists is not None:
            coarse = None if list_selector is None else faiss.SearchParameters(sel=list_selector)
            return faiss.SearchParametersIVF(sel=selector, nprobe=effort or lists.nprobe, quantizer_params=coarse)
        if is_graph(self._kind):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=effort or EF_SEARCH)
        return None if selector is None else faiss.SearchParameters(sel=selector)

    @contextmanager
    def _build_threads(self) -> Iterator[None]:
        """Build in as many threads as were asked for. Searches use all threads."""
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(self._num_threads or before)
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(before)

    @contextmanager
    def _told_in_one_line(self, num_vectors: int) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise VmrError(
                f"{self._kind}: FAISS cannot do this with an index of {num_vectors} vectors of {self.dim} dimensions "
                f"({_reason(error)}); short names are {', '.join(FACTORIES)}"
            ) from error


def _checked_ids(ids: NDArray[Any]) -> Ids:
    """Return contiguous int64; raise VmrError unless the ids are a row of integers."""
    found = np.asarray(ids)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise VmrError(f"ids of type {found.dtype} and shape {found.shape}, but integers (N,) are needed")
    return np.ascontiguousarray(found, np.int64)


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


def _keeps_ids(index: Any) -> bool:
    """Whether an index keeps ids by itself; any other is wrapped into one that does."""
    faiss = require_faiss()
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return isinstance(index, faiss.IndexIVF)


def _name_of(index: Any) -> str:
    """Return the kind of an index that was read: "Flat", or the name of its class."""
    faiss = require_faiss()
    return "Flat" if isinstance(index, faiss.IndexFlat) else type(index).__name__


def _reason(error: RuntimeError | MemoryError) -> str:
    """Return FAISS's error message without its source file and line."""
    return re.split(r"Error: |\.cpp:\d+: ", " ".join(str(error).split()))[-1]


def require_faiss() -> Any:
    """Import FAISS. Raises MissingExtraError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "index") from error
    return faiss
