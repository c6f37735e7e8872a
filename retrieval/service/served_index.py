"""The index as all requests share it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import FrameSpec
from vmr.models.encoder import Encoder
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex, open_index
from vmr.retrieval.info import IndexInfo
from vmr.retrieval.results import SearchResult
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot

T = TypeVar("T")


class ServedIndex:
    """An open index whose methods can be awaited: work that takes time is done in its threads.

    Args:
        folder: the folder of the index.
        encoder: name or path of the model for queries; None for that of the index.

    Raises:
        IndexFileError: the index cannot be opened.
    """

    def __init__(self, folder: Path, encoder: str | None = None) -> None:
        self.folder = folder
        self._index: VideoIndex = open_index(folder, encoder)
        self._reader = IndexReader(folder)
        self._searching = ThreadPoolExecutor(1, "search")
        self._reading = ThreadPoolExecutor(1, "read")

    async def warm(self) -> None:
        """Load the encoder and search once, so that the first search is as fast as others."""
        await self.search("a video", k=1)

    async def search(self, query: str | NDArray[np.float32] | int, k: int = 5, **options: Any) -> SearchResult:
        """Find moments, see `VideoIndex.search`: a text, a vector (D,), or the id of a moment for more like it."""
        return await self._run(self._searching, lambda: self._index.search(query, k, **options))

    async def score_curve(
        self, video_id: int, query: str | NDArray[np.float32] | int, *, with_match: bool = False
    ) -> NDArray[np.float64]:
        """Score a video over time, see `VideoIndex.score_curve`."""
        return await self._run(self._searching, lambda: self._index.score_curve(video_id, query, with_match=with_match))

    async def read(self, function: Callable[[Snapshot], T]) -> T:
        """Call a function with what the index holds now, in one transaction."""

        def call() -> T:
            with self._reader.snapshot() as snapshot:
                return function(snapshot)

        return await self._run(self._reading, call)

    async def info(self) -> IndexInfo:
        """Say what the index holds, and how that was made."""
        return await self._run(self._reading, lambda: self._index.info)

    async def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts: (n, D), unit length."""
        from vmr.retrieval.texts import embed_texts

        return await self._run(self._searching, lambda: embed_texts(texts, self._index.encoder))

    @property
    def space(self) -> Space:
        """The vector space that is searched."""
        return self._index.space

    @property
    def encoder(self) -> Encoder:
        """The encoder of the space, loaded at the first use."""
        return self._index.encoder

    @property
    def frames(self) -> FrameSpec:
        """Which frames of a video the encoder takes, as for the videos of the index."""
        kept = self._index.space.frames
        options = {name: kept[name] for name in ("keyframes", "skip_still") if name in kept}
        return frame_spec(self._index.encoder, **options)

    async def embed_video(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed the frames of a video, uint8 (T, 3, S, S): (D,), unit length."""

        def embed() -> NDArray[np.float32]:
            import torch

            vectors = self._index.encoder.encode_video(torch.from_numpy(frames)[None])
            return np.asarray(vectors[0].float().cpu().numpy(), np.float32)

        return await self._run(self._searching, embed)

    def close(self) -> None:
        """Wait for the work that runs, and close the index."""
        self._searching.shutdown()
        self._reading.shutdown()
        self._index.close()
        self._reader.close()

    @staticmethod
    async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
