"""Searches of one space of an index, several of them in one transaction."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.models.encoder import Encoder, TextVectors
from vmr.retrieval.calibration.calibrate import calibrate
from vmr.retrieval.calibration.calibration import Calibration
from vmr.retrieval.results import Hit, SearchResult, Seen
from vmr.retrieval.searching.candidates import Rows
from vmr.retrieval.searching.distinct import Kept
from vmr.retrieval.searching.filters import Filters
from vmr.retrieval.searching.matching import Calibrations, Meaning
from vmr.retrieval.searching.moments import Windows
from vmr.retrieval.searching.query import Query, is_sentence, query_of_moment, read_query
from vmr.retrieval.searching.search import Wanted, find_moments, first_windows, hits_of, score_curve
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import IndexSettings, Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.texts import embed_texts
from vmr.retrieval.vectors.held_rows import HeldRows
from vmr.retrieval.vectors.space_store import SpaceStore
from vmr.retrieval.vectors.store import Ids, Mask, Vectors, VectorSearch

_TRIES = 3  # to read a FAISS file that the writer may replace at any moment
_TEXTS = 4096  # whose vectors are remembered
_CUT = 20_000  # videos whose windows are remembered
_AT_ONCE = 16  # queries of a call of FAISS: from 20 on it chooses lists with other roundings


@dataclass(frozen=True, eq=False)
class Asked:
    """A search that was asked for.

    Attributes:
        query: a text, a vector (D,), a hit or the id of a moment.
        wanted: what to return.
        started: when it was asked, by `time.perf_counter`.
    """

    query: Any
    wanted: Wanted
    started: float = 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search has found.

    Attributes:
        query: what was searched.
        found: the moments, best first; more than were asked for if they are to be re-ranked.
        meaning: what their scores mean.
        settings: of the index.
        seen: what of the index, without its videos.
    """

    query: Query
    found: list[Kept]
    meaning: Meaning
    settings: IndexSettings
    seen: Seen

    def hits(self, space: Space) -> list[Hit]:
        """Describe all moments."""
        return hits_of(self.found, space, self.meaning.matches)

    def result(
        self,
        folder: Path,
        space: Space,
        wanted: Wanted,
        started: float,
        hits: Sequence[Hit] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> SearchResult:
        """Return what a search gives.

        Args:
            folder: of the index.
            space: that was searched.
            wanted: what to return.
            started: when the search began, by `time.perf_counter`.
            hits: in another order than that of `found`; None for all of `found`.
            remarks: what else there is to say.
        """
        best = tuple((self.hits(space) if hits is None else hits)[: wanted.k])
        took_ms = 1000 * (time.perf_counter() - started)
        told = self.meaning.nothing_close
        seen = replace(self.seen, videos={one.moment.video.id: one.moment.video for one in self.found})
        return SearchResult(best, self.query.text, str(folder), took_ms, told, remarks, seen)


class Searcher:
    """Searches one space. One thread at a time may use it.

    Args:
        reader: of the index.
        space: which space.
        encoder: returns the encoder of queries; called when there is a text.
        store: search the vectors in this store, and not in the files of the index.
        holds_rows: keep the rows in memory, if there are not too many, for a process that answers many searches.

    Attributes:
        files: the files of the space.
        store: what is searched: these files, or another store.
        held: the rows in memory; None if they are not kept there.
    """

    def __init__(
        self,
        reader: IndexReader,
        space: Space,
        encoder: Callable[[], Encoder],
        store: VectorSearch | None = None,
        *,
        holds_rows: bool = False,
    ) -> None:
        self._reader, self._space, self._encoder = reader, space, encoder
        self._filters, self._calibrations = Filters(), Calibrations()
        self.held = HeldRows(space) if holds_rows else None
        self.files = SpaceStore(reader.folder, space, held=self.held)
        self.store: VectorSearch = self.files if store is None else store
        self._cut: dict[int, Windows] = {}  # windows of the last videos, which never change
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()  # of the last texts

    @contextmanager
    def searchable(self) -> Iterator[Snapshot]:
        """A transaction in which the files that are searched have taken in what was committed last."""
        for tries_left in reversed(range(_TRIES)):
            with self._reader.snapshot() as snapshot:
                if self.files.refresh(snapshot, is_last_try=not tries_left):
                    yield snapshot
                    return

    def check_space(self) -> None:
        """Check that the index still has the space.

        Raises:
            IndexFileError: it was built again in another way, or cannot be read.
        """
        with self._reader.snapshot() as snapshot:
            self.files.space_now(snapshot)

    def score_curve(self, video_id: int, query: Any, with_match: bool) -> NDArray[np.float64]:
        """Score a video over time, see `VideoIndex.score_curve`."""
        asked = self._read(query)
        with self.searchable() as snapshot:
            known = self._known(asked, snapshot)
            rows = self._rows(snapshot, known, None, {})
            curve = score_curve(rows, video_id)
            if not with_match:
                return curve
            matches = self._meaning(rows, known, curve[:, 2].tolist()).matches
        return np.column_stack([curve, np.full(len(curve), np.nan) if matches is None else matches])

    def answer(self, query: Any, wanted: Wanted) -> Answer:
        """Answer one search.

        Raises:
            VmrError: it is none, or the index cannot be read.
        """
        ((_, answer),) = self.answers([Asked(query, wanted)])
        if isinstance(answer, VmrError):
            raise answer
        return answer

    def answers(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer | VmrError]]:
        """Answer several searches in one transaction: each as if it were alone.

        Yields:
            The place of a search, and its answer or why there is none.

        Raises:
            IndexFileError: the index cannot be read.
        """
        if self.held is None:
            self._vectors.clear()  # only what answers many searches remembers texts
        with suppress(VmrError):  # one that cannot be embedded is told below
            self._embed([one.query for one in asked if is_sentence(one.query)])
        read: dict[int, Query | Hit | int] = {}
        for place, one in enumerate(asked):
            try:
                read[place] = self._read(one.query)
            except VmrError as error:
                yield place, error
        with self.searchable() as snapshot:
            ready: list[tuple[int, Query, Mask | None]] = []
            for place, query in read.items():
                try:
                    known = self._known(query, snapshot)
                    ready.append((place, known, self._mask(asked[place].wanted, snapshot)))
                except VmrError as error:
                    yield place, error
            first = self._find_first([(query, asked[place].wanted, mask) for place, query, mask in ready])
            settings, seen = snapshot.settings, Seen.of(snapshot)
            for (place, query, mask), found in zip(ready, first, strict=True):
                try:
                    rows = self._rows(snapshot, query, mask, found)
                    yield place, Answer(query, *self._answer(rows, query, asked[place].wanted), settings, seen)
                except VmrError as error:
                    yield place, error

    # Queries

    def _read(self, query: Any) -> Query | Hit | int:
        return read_query(query, self._vector_of, self._space.dim)

    def _known(self, query: Query | Hit | int, snapshot: Snapshot) -> Query:
        return query if isinstance(query, Query) else query_of_moment(query, snapshot, self._space, self.files.held)

    def _vector_of(self, text: str) -> Vectors:
        self._embed([text])
        self._vectors.move_to_end(text)
        return self._vectors[text]

    def _embed(self, texts: Sequence[str]) -> None:
        """Embed texts whose vectors are not remembered."""
        lacking = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        if not lacking:
            return
        encoder = self._encoder()
        # Only a `TextVectors` promises the same bits whatever other texts there are.
        together = [lacking] if isinstance(encoder, TextVectors) else [[text] for text in lacking]
        for some in together:
            self._vectors.update(zip(some, embed_texts(some, encoder), strict=True))
        while len(self._vectors) > max(_TEXTS, len(texts)):
            self._vectors.popitem(last=False)

    def _mask(self, wanted: Wanted, snapshot: Snapshot) -> Mask | None:
        return self._filters.mask(wanted.where, wanted.before, snapshot)

    # Searching

    def _find_first(
        self, searches: Sequence[tuple[Query, Wanted, Mask | None]]
    ) -> list[dict[int, tuple[Vectors, Ids]]]:
        """What each search asks the store first: those that ask for the same are one call."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, (_, wanted, mask) in enumerate(searches):
            groups.setdefault((first_windows(wanted), id(mask)), []).append(place)
        found: list[dict[int, tuple[Vectors, Ids]]] = [{} for _ in searches]
        for (n, _), places in groups.items():
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                queries = np.stack([searches[place][0].vector for place in some])
                scores, ids = self._search(queries, searches[some[0]][2], n)
                for row, place in enumerate(some):
                    found[place][n] = scores[row], ids[row]
        return found

    def _rows(self, snapshot: Snapshot, query: Query, mask: Mask | None, found: dict[int, tuple[Vectors, Ids]]) -> Rows:
        """The rows that a search may find.

        Args:
            snapshot: of the transaction.
            query: what is searched.
            mask: of the windows that may be found; None for all.
            found: what is known already: number of windows -> scores and ids.
        """

        def find(n: int) -> tuple[Vectors, Ids]:
            if n in found:
                return found.pop(n)
            scores, ids = self._search(query.vector[None], mask, n)
            return scores[0], ids[0]

        while len(self._cut) > _CUT:
            del self._cut[next(iter(self._cut))]
        total = len(self.store) if mask is None else int(np.count_nonzero(mask))
        return Rows(snapshot, self._space, query.vector, find, total, self.files.held, self._cut)

    def _search(self, queries: Vectors, mask: Mask | None, n: int) -> tuple[Vectors, Ids]:
        """Scores and ids of the n windows nearest to vectors (Q, D)."""
        if self.store is self.files:
            return self.files.search(queries, n, mask)
        return self.store.search(queries, n, None if mask is None else np.flatnonzero(mask))

    def _answer(self, rows: Rows, query: Query, wanted: Wanted) -> tuple[list[Kept], Meaning]:
        """The moments nearest to a query, and what their scores mean."""
        found = find_moments(rows, wanted, query.seed)
        calibration = (
            self._calibrations.current(rows.snapshot, self._space, self._calibrated) if query.is_text else None
        )
        meaning = Meaning.of([one.moment.score for one in found], query, calibration)
        return found if wanted.min_match is None else found[: meaning.num_from(wanted.min_match)], meaning

    def _meaning(self, rows: Rows, query: Query, scores: Sequence[float]) -> Meaning:
        calibration = (
            self._calibrations.current(rows.snapshot, self._space, self._calibrated) if query.is_text else None
        )
        return Meaning.of(scores, query, calibration)

    def close(self) -> None:
        """Stop what runs in the background."""
        self.files.close()

    def _calibrated(self, rows: int) -> Calibration | None:
        return calibrate(self._encoder(), lambda queries, k: self.store.search(queries, k)[0], rows)
