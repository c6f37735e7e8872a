"""A FAISS file of a space that is searched: mapped into memory, and checked in the background."""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.records import Generation
from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.kinds import Thoroughness, is_exact, is_graph
from vmr.retrieval.vectors.ranking import Ranked
from vmr.retrieval.vectors.store import Ids, Mask, Vectors


@dataclass(frozen=True)
class Selection:
    """The rows of a FAISS file that may be found.

    Attributes:
        ids: a mask with a place for each id.
        count: how many they are.
        lists: which lists of an inverted file hold them; None if all do, if it has none, and if FAISS cannot be told
            which lists to read.
    """

    ids: Mask
    count: int
    lists: Mask | None


SMALL_BYTES = 32 << 20
"""A file so small is read in the time of a few searches. FAISS may follow damaged links without an end."""


class GenerationFile:
    """A FAISS file of a space, open for searching. Its ids are those of windows.

    The file is read once from start to end, which puts it into the system's cache, and finds damage that FAISS would
    not notice: a small file before it is opened, a large one by a thread.

    Args:
        folder: the folder of the index.
        generation: which file.
        dim: dimensions of the vectors.
        dtype: how the space stores its vectors.
        small_bytes: up to this size a file is small.

    Attributes:
        generation: as given.
        is_exact: whether a search finds the best rows, up to rounding.

    Raises:
        IndexFileError: it is missing, of another size, or FAISS cannot read it.
    """

    def __init__(
        self, folder: Path, generation: Generation, dim: int, dtype: str, *, small_bytes: int = SMALL_BYTES
    ) -> None:
        self.generation, self.path = generation, folder / generation.file
        self.is_exact = is_exact(generation.kind, dtype)
        try:
            size = self.path.stat().st_size
            content = self.path.open("rb")
        except OSError as error:
            raise IndexFileError(f"{self.path} cannot be read ({error.strerror})") from error
        self._stop, self._damage = threading.Event(), threading.Event()
        check = (content, generation.sha256, self._stop, self._damage)
        try:
            if size != generation.size:
                raise IndexFileError(f"{self.path} is damaged: {size} bytes instead of {generation.size}")
            if size <= small_bytes:
                _check(*check)
            if self.is_damaged:
                raise IndexFileError(f"{self.path} is damaged: its content has changed")
            self._store = FaissStore.open(self.path, mapped=True)
            if (len(self._store), self._store.dim) != (generation.count, dim):
                raise IndexFileError(f"{self.path} is damaged: it holds other vectors than it should")
        except BaseException:
            content.close()
            raise
        self._num_lists = self._store.num_lists
        self._ids: Ids | None = None  # in the order of FAISS, and the list of each; read when they are needed
        self._lists: NDArray[np.int32] | None = None
        self._largest_norm: float | None = None
        if size > small_bytes:
            threading.Thread(target=_check, args=check, name="vmr-check-index", daemon=True).start()

    @property
    def is_damaged(self) -> bool:
        """Whether the file was found to be not what was written."""
        return self._damage.is_set()

    @property
    def largest_norm(self) -> float:
        """The length of the longest vector, of an exact kind."""
        if self._largest_norm is None:
            self._largest_norm = self._store.largest_norm
        return self._largest_norm

    def select(self, is_wanted: Mask) -> Selection:
        """Return which of some rows the file holds.

        Args:
            is_wanted: a mask with a place for each id.

        Raises:
            IndexFileError: the file holds ids for which there is no place: it is damaged.
        """
        if self._ids is None:
            self._ids, self._lists = self._store.ids, self._store.lists
        ids = self._ids
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= len(is_wanted):
            raise IndexFileError(f"{self.path} is damaged: it holds windows that do not exist")
        is_selected, lists = is_wanted[ids], None
        if self._lists is not None:
            lists = np.zeros(self._num_lists, bool)
            lists[self._lists[is_selected]] = True
        selected = np.zeros(len(is_wanted), bool)
        selected[ids] = is_selected
        return Selection(selected, int(np.count_nonzero(is_selected)), None if lists is None or lists.all() else lists)

    def find(self, queries: Vectors, n: int, selection: Selection | None, effort: int | None) -> list[Ranked]:
        """Return the n best rows that FAISS finds for each query, or fewer, with FAISS's scores.

        Args:
            queries: (Q, D).
            n: how many.
            selection: which ids may be found, at least one; None for all.
            effort: see `effort`.

        Raises:
            IndexFileError: FAISS cannot search this file.
        """
        allowed, lists = (None, None) if selection is None else (selection.ids, selection.lists)
        try:
            found = self._store.search(queries, n, allowed, effort=effort, lists=lists)
        except VmrError as error:
            raise IndexFileError(f"{self.path}: {error}") from error
        return [(scores[ids >= 0], ids[ids >= 0]) for scores, ids in zip(*found, strict=True)]

    def effort(self, thoroughness: Thoroughness, num_candidates: int, selection: Selection | None) -> int | None:
        """Return how many lists to read, or rows to keep, for a search; None for a kind that reads the whole file."""
        count, num_lists = self.generation.count, self._num_lists
        share = 1.0 if selection is None else selection.count / count
        if is_graph(self.generation.kind):
            return thoroughness.ef_search(num_candidates, share, count)
        if not num_lists:
            return None
        held = num_lists
        if selection is not None and selection.lists is not None:
            held = int(np.count_nonzero(selection.lists))
        return thoroughness.num_lists(num_candidates, share, count, num_lists, held)

    @property
    def num_lists(self) -> int:
        """How many lists it has; 0 for a kind without lists."""
        return self._num_lists

    @property
    def full_effort(self) -> int:
        """The effort of a search that passes over nothing."""
        return self.num_lists or self.generation.count

    @property
    def ids(self) -> Ids:
        """All ids, in increasing order."""
        return np.sort(self._store.ids)

    def close(self) -> None:
        """Stop the check."""
        self._stop.set()


def _check(content: BinaryIO, sha256: bytes, stop: threading.Event, damage: threading.Event) -> None:
    """Read a file from start to end, and report if it has another hash."""
    digest = hashlib.sha256()
    with content:
        try:
            while not stop.is_set() and (piece := content.read(1 << 20)):
                digest.update(piece)
        except OSError:
            damage.set()
    if not stop.is_set() and digest.digest() != sha256:
        damage.set()
