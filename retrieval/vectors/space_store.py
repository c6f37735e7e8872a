"""The searching side of one space of an index: its FAISS file, newer rows in memory, and what was removed since."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from vmr.checks import whole_number
from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.records import Generation, Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.delta import Delta
from vmr.retrieval.vectors.generation_file import GenerationFile, Selection
from vmr.retrieval.vectors.held_rows import HeldRows
from vmr.retrieval.vectors.kinds import Thoroughness
from vmr.retrieval.vectors.ranking import Ranked, best, certain_best, inner_products, merged, rounding_margin
from vmr.retrieval.vectors.store import Ids, Mask, Vectors

EXACT_ROWS = 1000
"""If a filter leaves no more rows of a file than this, all of them are scored: reading them is faster than FAISS."""

_ROWS_AT_ONCE = 4096  # that are read from the database

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class SpaceStore:
    """A space of an index, open for searching; a `VectorSearch` whose ids are those of windows.

    Every score is computed from the stored vector, and always in the same way: equal vectors have equal scores, whether
    FAISS or this class found them. If all kinds that take part are exact, so are the results, bit for bit.

    `refresh` comes first in every transaction, and the other methods are called in that transaction.

    Args:
        folder: the folder of the index.
        space: which space.
        exact_rows: see EXACT_ROWS.
        held: brought up to date with the store; stored vectors are taken from there.
    """

    def __init__(
        self, folder: Path, space: Space, *, exact_rows: int = EXACT_ROWS, held: HeldRows | None = None
    ) -> None:
        self._rows, self._is_held = held, False
        self._folder, self._space, self._exact_rows = folder, space, exact_rows
        self._snapshot: Snapshot | None = None
        self._version: int | None = None  # of the last snapshot that was taken in; None: everything must be loaded
        self._file: GenerationFile | None = None
        self._unusable: set[int] = set()  # numbers of FAISS files that are missing or damaged
        self._delta = Delta(space.dim)
        self._is_removed = np.empty(0, bool)  # since the file was written, by window
        self._has_removed = False
        self._last_block = self._last_removed = -1
        self._prepared: list[tuple[Ids | Mask | None, _Allowed]] = []  # the last two, while nothing changes

    def refresh(self, snapshot: Snapshot, *, is_last_try: bool = True) -> bool:
        """Take in what has changed since the last call; costs nothing if nothing has.

        Args:
            snapshot: of the transaction in which the space will be searched.
            is_last_try: if the FAISS file cannot be read, search the space without it. With False, the method returns
                False then: the writer may just have replaced the file, and the next snapshot names the new one.

        Returns:
            Whether the space can be searched in this transaction.

        Raises:
            IndexFileError: the space is no longer there, or a block of vectors is damaged.
        """
        self._snapshot = snapshot
        if self._file is not None and self._file.is_damaged:
            self._do_without(self._file.generation, f"{self._file.path} is damaged: its content has changed")
        if snapshot.version == self._version:
            return True
        self._is_held = False
        self._space = self.space_now(snapshot)
        newest = next((each for each in snapshot.generations(self._space.id) if each.id not in self._unusable), None)
        is_pruned = snapshot.meta("removed_from") > self._last_removed + 1
        is_new = self._version is None or is_pruned or newest != (self._file and self._file.generation)
        if is_new and not self._load(newest, is_last_try):
            return False
        self._take_changes()
        self._is_held = self._rows is not None and self._rows.refresh(snapshot)
        self._version = snapshot.version
        return True

    def space_now(self, snapshot: Snapshot) -> Space:
        """Return the space as it is now.

        Raises:
            IndexFileError: the index was built again, and does not have it.
        """
        wanted = self._space
        for space in snapshot.spaces():
            if (space.id, space.fingerprint, space.dim, space.dtype) == (
                wanted.id, wanted.fingerprint, wanted.dim, wanted.dtype,
            ):  # fmt: skip
                return space
        raise IndexFileError(f"{self._folder}: the index was built again in another way: open it again")

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: Ids | Mask | None = None,
        *,
        thoroughness: Thoroughness | None = None,
    ) -> tuple[Vectors, Ids]:
        """See `VectorSearch.search`; equal scores come in the order of the ids, and the score of id -1 is -inf.

        Args:
            queries: float32 (Q, D).
            k: how many to find for each query.
            allowed: ids of windows, or a mask with a place for each id from 0 on. An array that is marked as read-only
                must not change: searches that follow each other with the same one prepare it once.
            thoroughness: of approximate kinds; None for what was measured for the space, or the default.

        Raises:
            VmrError: k is below 1, or the queries have another width.
            IndexFileError: a block of vectors is damaged.
        """
        k = whole_number("k", k)
        if np.ndim(queries) != 2 or queries.shape[1] != self._space.dim:
            raise VmrError(f"queries of shape {np.shape(queries)}, but the space takes (Q, {self._space.dim})")
        queries = np.ascontiguousarray(queries, np.float32)
        found = self._with_or_without_file(lambda: self._search(queries, k, allowed, thoroughness))
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for i, (some_scores, some_ids) in enumerate(found):
            scores[i, : len(some_ids)], ids[i, : len(some_ids)] = some_scores, some_ids
        return scores, ids

    def vectors(self, ids: Ids) -> Vectors:
        """See `VectorSearch.vectors`: the stored vectors.

        Raises:
            VmrError: a window has no vector in this space.
            IndexFileError: a block of vectors is damaged.
        """
        rows, is_there = self._now.vectors(self._space.id, np.asarray(ids, np.int64))
        if not is_there.all():
            raise VmrError(f"the space has no vector of window {np.asarray(ids)[~is_there][0]}")
        return rows

    def __len__(self) -> int:
        """Return how many vectors there are."""
        return len(self._delta) + self._with_or_without_file(lambda: self._num_selected(self._allowed(None).selection))

    @property
    def is_exact(self) -> bool:
        """Whether a search passes over nothing."""
        return self._file is None or self._file.is_exact

    @property
    def held(self) -> HeldRows | None:
        """The rows in memory; None if they are not there."""
        return self._rows if self._is_held else None

    @property
    def dim(self) -> int:
        """The dimensions of the vectors."""
        return self._space.dim

    @property
    def generation(self) -> Generation | None:
        """The FAISS file that is searched; None if all rows are in memory."""
        return None if self._file is None else self._file.generation

    @property
    def num_lists(self) -> int:
        """How many lists the FAISS file has; 0 for a kind without lists."""
        return 0 if self._file is None else self._file.num_lists

    def close(self) -> None:
        """Stop what runs in the background."""
        if self._file is not None:
            self._file.close()

    # Taking in changes

    @property
    def _now(self) -> Snapshot:
        assert self._snapshot is not None, "refresh comes first"
        return self._snapshot

    def _load(self, generation: Generation | None, is_last_try: bool = True) -> bool:
        """Forget all rows, and open a FAISS file, or none; tell whether that was done."""
        self.close()
        self._file, self._version, self._prepared = None, None, []
        if generation is not None:
            try:
                if generation.upto_removed + 1 < self._now.meta("removed_from"):
                    raise IndexFileError(f"{self._folder / generation.file} is older than the list of removed videos")
                self._file = GenerationFile(self._folder, generation, self._space.dim, self._space.dtype)
            except IndexFileError as error:
                if not is_last_try:
                    return False
                self._do_without(generation, str(error))
        self._delta = Delta(self._space.dim)
        self._is_removed, self._has_removed = np.empty(0, bool), False
        if self._file is None:
            self._last_block, self._last_removed = -1, self._now.meta("next_removed") - 1
        else:
            self._last_block, self._last_removed = self._file.generation.upto_block, self._file.generation.upto_removed
        return True

    def _take_changes(self) -> None:
        """Add the blocks, and remove the windows, that were not known yet."""
        self._prepared = [(allowed, prepared) for allowed, prepared in self._prepared if allowed is None]
        self._delta.reserve(self._now.num_windows(self._space.id, self._last_block))
        for block in self._now.blocks(self._space.id, self._last_block):
            self._delta.add(block.first_window, block.vectors)
            self._last_block = block.id
        lines = self._now.removed(self._last_removed)
        if lines:
            is_removed = np.zeros(self._num_ids, bool)
            is_removed[: len(self._is_removed)] = self._is_removed
            for line in lines:
                is_removed[line.first_window : line.first_window + line.n] = True
            self._delta.remove(is_removed)
            self._prepared = []
            self._is_removed, self._has_removed, self._last_removed = is_removed, True, lines[-1].seq

    def _do_without(self, generation: Generation, reason: str) -> None:
        """Say once that a FAISS file is of no use; the next `_load` takes all rows into memory."""
        self._unusable.add(generation.id)
        self._version = None
        _logger.warning("%s: vmr searches without this file, which is slower; vmr-index compact makes it again", reason)

    def _with_or_without_file(self, search: Callable[[], _T]) -> _T:
        """Search; if the FAISS file turns out to be damaged, search again with all rows in memory."""
        try:
            return search()
        except _UnusableError as error:
            assert self._file is not None
            version = self._version
            self._do_without(self._file.generation, str(error))
            self._load(None)
            self._take_changes()
            self._version = version
            return search()

    # Searching

    @property
    def _num_ids(self) -> int:
        """One more than the largest id of a window."""
        return int(self._now.meta("next_window"))

    def _mask(self, allowed: Ids | Mask) -> Mask:
        """Return a mask with a place for each window."""
        mask = np.zeros(self._num_ids, bool)
        given = np.asarray(allowed)
        if given.dtype == bool:
            mask[: len(given)] = given[: len(mask)]
        else:
            ids = given.astype(np.int64)
            mask[ids[(ids >= 0) & (ids < len(mask))]] = True
        return mask

    def _allowed(self, allowed: Ids | Mask | None) -> "_Allowed":
        """Prepare a search among some windows, or among all."""
        for known, prepared in self._prepared:
            if known is allowed:
                return prepared
        mask = None if allowed is None else self._mask(allowed)
        selection = None
        if self._file is not None and (mask is not None or self._has_removed):
            is_wanted = np.ones(self._num_ids, bool) if mask is None else mask.copy()
            is_wanted[: len(self._is_removed)] &= ~self._is_removed
            try:
                selection = self._file.select(is_wanted)
            except IndexFileError as error:
                raise _UnusableError(str(error)) from error
        prepared = _Allowed(mask, selection)
        if allowed is None or not allowed.flags.writeable:
            self._prepared = [*self._prepared[-1:], (allowed, prepared)]
        return prepared

    def _search(
        self, queries: Vectors, k: int, allowed: Ids | Mask | None, thoroughness: Thoroughness | None
    ) -> list[Ranked]:
        mask, selection = self._allowed(allowed)
        parts = [[found] for found in self._delta.search(queries, k, mask)]
        for one, found in zip(parts, self._search_file(queries, k, selection, thoroughness), strict=False):
            one.append(found)
        return [merged(one, k) for one in parts]

    def _search_file(
        self, queries: Vectors, k: int, selection: Selection | None, thoroughness: Thoroughness | None
    ) -> Iterator[Ranked]:
        """Yield the k best rows of the FAISS file for each query; nothing if there is no file."""
        file = self._file
        if file is None:
            return
        thorough = thoroughness or Thoroughness.of(file.generation.kind, self._space.search)
        if self._num_selected(selection) <= max(self._exact_rows, thorough.num_candidates(k)):
            yield from self._scan(queries, k, self._ids(file, selection))
            return
        if not file.is_exact:
            yield from self._approximate(file, queries, k, selection, thorough)
            return
        for query in queries:
            margin = rounding_margin(query, file.largest_norm)
            find = lambda n, query=query: self._found(file, query[None], n, selection, None)[0]  # noqa: E731
            yield certain_best(query, k, find, self._file_rows, margin)

    def _approximate(
        self, file: GenerationFile, queries: Vectors, k: int, selection: Selection | None, thorough: Thoroughness
    ) -> Iterator[Ranked]:
        """Score the candidates of an approximate kind again."""
        num_candidates = thorough.num_candidates(k)
        effort = file.effort(thorough, num_candidates, selection)
        found = self._found(file, queries, num_candidates, selection, effort)
        for query, (_, candidates) in zip(queries, found, strict=True):
            ids = candidates
            if len(ids) < k and effort is not None:  # the rows that a filter selects may all lie far from the query
                ((_, ids),) = self._found(file, query[None], num_candidates, selection, file.full_effort)
            if len(ids) < k:  # a graph need not be connected
                yield next(self._scan(query[None], k, self._ids(file, selection)))
            else:
                yield best(inner_products(self._file_rows(ids), query), ids, k)

    def _found(
        self, file: GenerationFile, queries: Vectors, n: int, selection: Selection | None, effort: int | None
    ) -> list[Ranked]:
        try:
            return file.find(queries, n, selection, effort)
        except IndexFileError as error:
            raise _UnusableError(str(error)) from error

    def _scan(self, queries: Vectors, k: int, ids: Ids) -> Iterator[Ranked]:
        """Score all rows of some ids, which are in the FAISS file; yield the k best for each query."""
        parts: list[Ranked] = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            some = ids[start : start + _ROWS_AT_ONCE]
            rows = self._file_rows(some)
            parts = [
                merged([one, best(inner_products(rows, query), some, k)], k)
                for one, query in zip(parts, queries, strict=True)
            ]
        yield from parts

    def _ids(self, file: GenerationFile, selection: Selection | None) -> Ids:
        return file.ids if selection is None else np.flatnonzero(selection.ids)

    def _num_selected(self, selection: Selection | None) -> int:
        if self._file is None:
            return 0
        return self._file.generation.count if selection is None else selection.count

    def _stored(self, ids: Ids) -> tuple[Vectors, Mask]:
        return self._now.vectors(self._space.id, ids) if self.held is None else self.held.vectors(ids)

    def _file_rows(self, ids: Ids) -> Vectors:
        """Return the stored vectors of ids that the FAISS file has named."""
        rows, is_there = self._stored(ids)
        if not is_there.all():
            raise _UnusableError(f"{self._folder / self._file.generation.file} is damaged: it names unknown windows")  # type: ignore[union-attr]
        return rows


class _Allowed(NamedTuple):
    """What a search may find.

    Attributes:
        mask: of all windows; None for all of them.
        selection: of the FAISS file; None for all its rows, or if there is no file.
    """

    mask: Mask | None
    selection: Selection | None


class _UnusableError(Exception):
    """The FAISS file cannot be used."""
