"""The index as all requests share it."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import FrameSpec
from vmr.errors import VmrError
from vmr.models.encoder import Encoder
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.info import IndexInfo, describe
from vmr.retrieval.legacy import open_reader
from vmr.retrieval.results import SearchResult
from vmr.retrieval.searching.search import Wanted
from vmr.retrieval.searching.searcher import Asked
from vmr.retrieval.searching.spaces import space_for
from vmr.retrieval.service.lanes.lane import Hand, Lane
from vmr.retrieval.service.lanes.reopened import Encoders, Reopened
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.texts import embed_texts

T = TypeVar("T")

_AT_ONCE = 16  # searches in one transaction
_FEW = 120  # results of a search that takes no longer than most
_NUM_READERS = 2
_WAITING = {"search": 256, "select": 64, "model": 32, "read": 256}
"""How many requests may wait for each thread. `search` answers most searches; `select` those with a condition, and
those for many results; `model` those that are re-ranked, and what is embedded; each `read` what needs no vectors."""


class ServedIndex:
    """An open index whose methods can be awaited: work that takes time is done in its threads.

    An index that is replaced, or built again, is opened again.

    Args:
        folder: the folder of the index.
        encoder: name or path of the model for queries; None for that of the index.

    Raises:
        IndexFileError: the index cannot be opened.
    """

    def __init__(self, folder: Path, encoder: str | None = None) -> None:
        self.folder, self._encoder = folder, encoder
        self._encoders = Encoders()
        self._open = {
            "search": Reopened(folder, lambda: self._opened(holds_rows=True)),
            "select": Reopened(folder, self._opened),
            "model": Reopened(folder, self._opened),
        }
        self._open["search"].current()
        self._readers = [Reopened(folder, lambda: open_reader(folder)) for _ in range(_NUM_READERS)]
        self._searching = Lane("search", self._answers, at_once=_AT_ONCE, most_waiting=_WAITING["search"])
        self._others: dict[str, Lane[Callable[[], Any], Any]] = {
            name: Lane(name, _called, at_once=1, most_waiting=_WAITING[name]) for name in ("select", "model")
        }
        self._reading: list[Lane[Callable[[], Any], Any]] = [
            Lane("read", _called, at_once=1, most_waiting=_WAITING["read"]) for _ in self._readers
        ]

    async def warm(self) -> None:
        """Load the encoder and search once, so that the first search is as fast as others."""
        await self.with_encoder(lambda encoder: None)
        # A sentence takes less time in one thread, and the other cores have other work.
        _set_threads(1)
        await self.search("a video", k=1)

    async def search(
        self,
        query: str | NDArray[np.float32] | int,
        k: int = 5,
        *,
        where: str | None = None,
        per_video: int | None = None,
        rerank: int | None = None,
        min_match: float | None = None,
        keep_duplicates: bool = False,
        before: int | None = None,
    ) -> SearchResult:
        """Find moments, see `VideoIndex.search`: a text, a vector (D,), or the id of a moment for more like it.

        Raises:
            VmrError: as for `VideoIndex.search`.
            BusyError: too many others wait.
        """
        options: dict[str, Any] = {
            "where": where,
            "per_video": per_video,
            "rerank": rerank,
            "min_match": min_match,
            "keep_duplicates": keep_duplicates,
            "before": before,
        }
        if rerank is not None or where is not None or k > _FEW:
            name = "select" if rerank is None else "model"
            return await self._with(name, lambda index: index.search(query, k, **options))
        wanted = Wanted.checked(k, overlapping=False, **options)
        found: SearchResult = await self._searching.ask(Asked(query, wanted, time.perf_counter()))
        return found

    async def score_curve(
        self, video_id: int, query: str | NDArray[np.float32] | int, *, with_match: bool = False
    ) -> NDArray[np.float64]:
        """Score a video over time, see `VideoIndex.score_curve`."""
        return await self._with("select", lambda index: index.score_curve(video_id, query, with_match=with_match))

    async def read(self, function: Callable[[Snapshot], T]) -> T:
        """Call a function with what the index holds now, in one transaction."""

        def read(reader: IndexReader) -> T:
            with reader.snapshot() as snapshot:
                return function(snapshot)

        place = min(range(_NUM_READERS), key=lambda place: self._reading[place].num_busy)
        done: T = await self._reading[place].ask(lambda: self._readers[place].use(read))
        return done

    async def info(self) -> IndexInfo:
        """Say what the index holds, and how that was made."""
        return await self.read(lambda snapshot: describe(snapshot, self.space_of(snapshot), self.folder))

    async def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts: (n, D), unit length."""
        return await self.with_encoder(lambda encoder: embed_texts(texts, encoder))

    async def with_encoder(self, work: Callable[[Encoder], T]) -> T:
        """Do something with the encoder of the space, in the thread for this."""
        return await self._with("model", lambda index: work(index.encoder))

    @property
    def load(self) -> dict[str, tuple[int, int]]:
        """The name of a thread, one for all that read -> how much it was asked, and at how many times it answered."""
        lanes: dict[str, list[Lane[Any, Any]]] = {
            "search": [self._searching],
            **{name: [lane] for name, lane in self._others.items()},
            "read": list(self._reading),
        }
        return {
            name: (sum(lane.num_questions for lane in some), sum(lane.num_batches for lane in some))
            for name, some in lanes.items()
        }

    async def space(self) -> Space:
        """Return the vector space that is searched."""
        return await self.read(self.space_of)

    def space_of(self, snapshot: Snapshot) -> Space:
        """Return the vector space that is searched, of what the index holds now."""
        return space_for(self.folder, snapshot.spaces(), self._encoder, None, self._encoders.load)[0]

    async def frames(self) -> FrameSpec:
        """Say which frames of a video the encoder takes, as for the videos of the index."""

        def read(index: VideoIndex) -> FrameSpec:
            kept = index.space.frames
            options = {name: kept[name] for name in ("keyframes", "skip_still") if name in kept}
            return frame_spec(index.encoder, **options)

        return await self._with("model", read)

    async def embed_video(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed the frames of a video, uint8 (T, 3, S, S): (D,), unit length."""

        def embed(encoder: Encoder) -> NDArray[np.float32]:
            import torch

            vectors = encoder.encode_video(torch.from_numpy(frames)[None])
            return np.asarray(vectors[0].float().cpu().numpy(), np.float32)

        return await self.with_encoder(embed)

    def close(self) -> None:
        """Wait for the work that runs, and close the index."""
        self._searching.close()
        for lane in (*self._others.values(), *self._reading):
            lane.close()
        for opened in self._open.values():
            opened.forget()
        for reader in self._readers:
            reader.forget()

    def _opened(self, holds_rows: bool = False) -> VideoIndex:
        reader = open_reader(self.folder)
        return VideoIndex(self.folder, reader, self._encoder, load=self._encoders.load, holds_rows=holds_rows)

    async def _with(self, name: str, work: Callable[[VideoIndex], T]) -> T:
        """Do something with the open index of a thread, in this thread."""

        def checked(index: VideoIndex) -> T:
            index.searcher.check_space()
            return work(index)

        done: T = await self._others[name].ask(lambda: self._open[name].use(checked))
        return done

    def _answers(self, asked: Sequence[Asked], hand: Hand[SearchResult]) -> None:
        """Answer searches in one transaction."""
        left = dict(enumerate(asked))

        def answer(index: VideoIndex) -> None:
            places = list(left)
            for number, found in index.searcher.answers([left[place] for place in places]):
                one = left.pop(places[number])
                if isinstance(found, VmrError):
                    hand(places[number], found)
                else:
                    hand(places[number], found.result(self.folder, index.space, one.wanted, one.started))

        self._open["search"].use(answer)


def _called(work: Sequence[Callable[[], Any]], hand: Hand[Any]) -> None:
    for place, call in enumerate(work):
        hand(place, call())


def _set_threads(count: int) -> None:
    """Let torch use so many threads, in threads that have not used it yet."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
