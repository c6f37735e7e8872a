"""What is measured of every index: `Peer`, and the peers that are libraries of vectors in memory."""

import importlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.index.data import Data, Filter, K, Rows, Vectors

DEGREE, EF_CONSTRUCTION = 32, 100  # of all graphs, so that they differ by their code alone
POINTS_PER_LIST = 64
EF_SEARCH = (16, 32, 64, 128, 256, 512)
NUM_PROBES = (1, 2, 4, 8, 16, 32, 64, 128)

GOOD = 0.98  # the recall that is asked for


@dataclass(frozen=True)
class Point:
    """A search with one setting.

    Attributes:
        setting: see `Peer.settings`.
        recall: the share of the K nearest that are found, mean over the queries.
        cpu_ms: CPU time of a query.
        queries: how many were made.
    """

    setting: int
    recall: float
    cpu_ms: float
    queries: int


class Peer(ABC):
    """An index. The ids that it gives are the numbers of rows; a process builds it, others open it.

    Attributes:
        packages: the modules that it needs, which may not be installed.
        settings: of a search, from fast and rough to slow and good; (0,) if there is nothing to set.
        lasting: whether an addition is on the disk when `add` returns.
    """

    packages: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[int, ...]] = (0,)
    lasting: ClassVar[bool] = False

    def imports(self) -> None:
        """Import what `open` needs, which its time does not count."""
        for package in self.packages:
            importlib.import_module(package)

    @abstractmethod
    def build(self, data: Data, folder: Path) -> None:
        """Index all vectors, and write what `open` needs into a folder."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open what `build` wrote, until it can be searched."""

    def wait(self) -> None:
        """Wait for what `open` began in the background."""
        return

    def filter_settings(self, sweep: list[Point]) -> list[int]:
        """Choose settings for searches with filters.

        Args:
            sweep: searches without a filter, one point for each of `settings`.

        Returns:
            The first setting whose recall is GOOD, and the last of all.
        """
        good = [point.setting for point in sweep if point.recall >= GOOD]
        return sorted({*good[:1], self.settings[-1]})

    def select(self, data: Data, only: Filter) -> Any:
        """Make of a filter what `search` takes; its time is not counted.

        Raises:
            NotImplementedError: this index cannot filter.
        """
        raise NotImplementedError

    @abstractmethod
    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """Find the K rows nearest to one query (1, D), best first; fewer, or ids of -1, where fewer were found."""

    @abstractmethod
    def add(self, first: int, vectors: Vectors) -> None:
        """Add whole videos, so that a search finds them.

        Args:
            first: the id of the first row.
            vectors: float32 (N, D).
        """

    def remove(self, first: int, count: int) -> None:
        """Remove rows with adjacent ids, so that no search finds them.

        Raises:
            NotImplementedError: this index cannot remove.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""
        return


class Faiss(Peer):
    """Plain FAISS, of one kind."""

    packages = ("faiss",)
    factory: ClassVar[str]

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        import faiss

        lists = round(4 * math.sqrt(data.num_rows))
        index = faiss.index_factory(data.vectors.shape[1], self.factory.format(lists), faiss.METRIC_INNER_PRODUCT)
        vectors = np.ascontiguousarray(data.vectors)
        if "IVF" in self.factory:
            index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, POINTS_PER_LIST
            index.train(vectors)
        elif "HNSW" in self.factory:
            index.hnsw.efConstruction = EF_CONSTRUCTION
        index.add(vectors)
        faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        import faiss

        self._faiss, self._index = faiss, faiss.read_index(str(folder / "index.faiss"))

    def select(self, data: Data, only: Filter) -> Any:
        """See `Peer.select`."""
        return self._faiss.IDSelectorBitmap(np.packbits(data.mask(only), bitorder="little"))

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        ids: Rows = self._index.search(query, K, params=self._parameters(setting, selected))[1][0]
        return ids

    def _parameters(self, setting: int, selected: Any) -> Any:
        return self._faiss.SearchParameters(sel=selected)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        assert first == self._index.ntotal
        self._index.add(vectors)


class FaissFlat(Faiss):
    """FAISS that compares every pair."""

    factory = "Flat"


class FaissLists(Faiss):
    """FAISS with lists."""

    factory, settings = "IVF{},Flat", NUM_PROBES

    def _parameters(self, setting: int, selected: Any) -> Any:
        return self._faiss.SearchParametersIVF(nprobe=setting, sel=selected)

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        self._index.remove_ids(self._faiss.IDSelectorRange(first, first + count))


class FaissBytes(FaissLists):
    """FAISS with lists, a byte for each dimension."""

    factory = "IVF{},SQ8"


class FaissGraph(Faiss):
    """FAISS with a graph, which cannot remove."""

    factory, settings = f"HNSW{DEGREE}", EF_SEARCH

    def _parameters(self, setting: int, selected: Any) -> Any:
        return self._faiss.SearchParametersHNSW(efSearch=setting, sel=selected)


class Hnswlib(Peer):
    """hnswlib. A filter is a function in Python that it calls for every row that it meets."""

    packages, settings = ("hnswlib",), EF_SEARCH

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        import hnswlib

        index = hnswlib.Index("ip", data.vectors.shape[1])
        index.init_index(data.num_rows, EF_CONSTRUCTION, DEGREE)
        index.add_items(data.vectors, num_threads=1)
        index.save_index(str(folder / f"{data.vectors.shape[1]}.hnswlib"))

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        import hnswlib

        (path,) = folder.glob("*.hnswlib")
        self._index = hnswlib.Index("ip", int(path.stem))  # its file does not hold the dimension
        self._index.load_index(str(path))

    def select(self, data: Data, only: Filter) -> Any:
        """See `Peer.select`."""
        return data.mask(only).tolist().__getitem__

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        self._index.set_ef(setting)
        try:
            ids, _ = self._index.knn_query(query, K, num_threads=1, filter=selected)
        except RuntimeError:  # it found fewer than K
            return np.empty(0, np.int64)
        return np.asarray(ids[0], np.int64)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        needed = first + len(vectors)
        if self._index.get_max_elements() < needed:
            self._index.resize_index(needed)
        self._index.add_items(vectors, np.arange(first, needed), num_threads=1)

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        for number in range(first, first + count):
            self._index.mark_deleted(number)


class Usearch(Peer):
    """usearch, whose Python package cannot filter."""

    packages, settings = ("usearch.index",), EF_SEARCH

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        from usearch.index import Index

        shape: dict[str, Any] = {"connectivity": DEGREE, "expansion_add": EF_CONSTRUCTION}
        index = Index(ndim=data.vectors.shape[1], metric="ip", dtype="f32", **shape)
        index.add(np.arange(data.num_rows), np.ascontiguousarray(data.vectors), threads=1)
        index.save(str(folder / "index.usearch"))

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        from usearch.index import Index

        index = Index.restore(str(folder / "index.usearch"))
        assert index is not None
        self._index = index

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        self._index.expansion_search = setting
        return np.asarray(self._index.search(query[0], K, threads=1).keys, np.int64)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        self._index.add(np.arange(first, first + len(vectors)), vectors, threads=1)

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        self._index.remove(np.arange(first, first + count), threads=1)
