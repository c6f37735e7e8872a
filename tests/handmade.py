"""An index of vectors that were chosen by hand, and what the service answers about it, without a network."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import torch

from tests.indexes import SETTINGS, TwoDimensional, put_rows, space
from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.options import Limits, ServiceOptions
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.schemas import SearchRequest, SearchResponse
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Text
from vmr.retrieval.storage.writer import IndexWriter

DIM = 3


class Three(TwoDimensional):
    """A text of three numbers is a vector; any other, such as a sentence of a calibration, has one all the same."""

    embed_dim = DIM

    def encode_text(self, texts):
        numbers = [text.split() if text[0].isdigit() else [crc32((text + n).encode()) for n in "xyz"] for text in texts]
        return torch.tensor([[float(number) % 1.01 for number in three] for three in numbers])


class Handmade:
    """An index that is searched page by page, and written in between.

    Its windows are 8 s long and begin every 4 s.
    """

    def __init__(self, folder: Path, **limits: int) -> None:
        self.folder = folder
        self._random = np.random.default_rng(1)
        media = Media(folder.parent / "cache", Limits(), Processes(1, 1.0))  # none of the processes starts
        options = ServiceOptions(folder, limits=Limits(**limits))
        self._service = SimpleNamespace(options=options, media=media)
        self.write(lambda changes: changes.add_space(space(dim=DIM)))

    def write(self, change: Callable[[Changes], Any]) -> None:
        """Commit a change."""
        with IndexWriter(self.folder, SETTINGS) as writer, writer.commit() as changes:
            change(changes)

    def put(self, name: str, vectors: Sequence[Sequence[float]] | np.ndarray, texts: Sequence[Text] = ()) -> None:
        """Add a video, or replace it."""
        rows = [(name, 4.0 * number, 4.0 * number + 8) for number in range(len(vectors))]
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        def change(changes: Changes) -> None:
            put_rows(changes, 1, rows, units)
            changes.set_texts(changes.snapshot.video_at(f"/videos/{name}").id, texts)

        self.write(change)

    def put_any(self, name: str, windows: int, *, near: Sequence[float] | None = None, text: str | None = None) -> None:
        """Add a video of random vectors, or of some near another, whose windows may have a text each."""
        vectors = self._random.normal(size=(windows, DIM))
        spans = [(4.0 * number, 4.0 * number + 4) for number in range(windows)]
        texts = [] if text is None else [Text(*span, "subtitle", f"{text} {span[0]:.0f}s") for span in spans]
        self.put(name, vectors if near is None else vectors * 0.01 + near, texts)

    def remove(self, name: str) -> None:
        """Remove a video, if it is there."""

        def change(changes: Changes) -> None:
            video = changes.snapshot.video_at(f"/videos/{name}")
            if video is not None:
                changes.remove_video(video.id)

        self.write(change)

    def window_ids(self) -> set[int]:
        """The windows of the index."""
        with IndexReader(self.folder) as reader, reader.snapshot() as snapshot:
            return {window.id for window in snapshot.windows()}

    @contextmanager
    def served(self, encoder: Any = None) -> Iterator[None]:
        """A context in which pages can be asked for."""
        index = ServedIndex(self.folder, encoder or Three())
        self._service.index = index
        try:
            yield
        finally:
            index.close()

    def call(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call a function of the service."""
        return asyncio.run(function(self._service, *values))

    def page(self, query: str | None, vector: np.ndarray | None = None, **fields: Any) -> SearchResponse:
        """A page of a search."""
        return self.call(answer, SearchRequest(query=query, **fields), vector)

    def pages(self, query: str, between: Callable[[], None] = lambda: None, **fields: Any) -> list[SearchResponse]:
        """All pages of a search; something happens between them."""
        pages = [self.page(query, **fields)]
        while pages[-1].next_cursor is not None:
            between()
            assert len(pages) < 200, "the pages have no end"
            pages.append(self.page(query, cursor=pages[-1].next_cursor, **fields))
        return pages
