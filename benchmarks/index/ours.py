"""The index of vmr as a program uses it, without the encoder: vectors go in, and windows come out."""

from pathlib import Path
from threading import enumerate as threads
from typing import Any

import numpy as np

from benchmarks.index.data import COLUMNS, WINDOWS, Data, Filter, K, Rows, Vectors
from benchmarks.index.peer import Peer, Point
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thoroughness
from vmr.retrieval.vectors.space_store import SpaceStore

WINDOW_S, STRIDE_S = 8.0, 4.0
VIDEOS_AT_ONCE = 256  # in a commit
ROOT = "/videos"


def name_of(number: int) -> str:
    """Give the path of a video below ROOT."""
    return f"{number:08d}.mp4"


def new_video(number: int, space_id: int, vectors: Vectors) -> NewVideo:
    """Make a video of WINDOWS windows.

    Args:
        number: makes its path.
        space_id: of its vectors.
        vectors: float32 (WINDOWS, D).

    Returns:
        A video whose file does not exist.
    """
    spans = tuple((i * STRIDE_S, i * STRIDE_S + WINDOW_S) for i in range(len(vectors)))
    state, content = FileState(1, number, number, 2**60), number.to_bytes(32, "big")
    vectors_of = {space_id: np.ascontiguousarray(vectors)}
    return NewVideo(ROOT, name_of(number), content, state, spans[-1][1], (), spans, vectors_of)


def fill(folder: Path, data: Data) -> None:
    """Make an index of all vectors, without FAISS files.

    Args:
        folder: of the index.
        data: the vectors, and the places, which become metadata.
    """
    num_videos, dim = data.num_rows // WINDOWS, data.vectors.shape[1]
    places = {name: data.places(name).tolist() for name in COLUMNS}
    space = Space(0, "benchmark", "none", "none", dim, "float16", {})
    with IndexWriter(folder, IndexSettings(WINDOW_S, STRIDE_S)) as writer:
        with writer.commit() as changes:
            space_id = changes.add_space(space)
        for start in range(0, num_videos, VIDEOS_AT_ONCE):
            with writer.commit() as changes:
                for number in range(start, min(start + VIDEOS_AT_ONCE, num_videos)):
                    rows = data.vectors[number * WINDOWS : (number + 1) * WINDOWS]
                    video_id = changes.put_video(new_video(number, space_id, rows))
                    changes.set_metadata(video_id, {name: places[name][number] for name in COLUMNS})


class Vmr(Peer):
    """Every search is one transaction, which sees what other processes have committed.

    A setting is the effort of the search, see `Thoroughness`; 0 is what an index does by itself.
    """

    packages, lasting = ("faiss",), True
    settings = (0, 1, 2, 4, 16, 32, 64)
    _writer: IndexWriter | None = None
    _num_built, _first_new = 2**62, 0  # windows with larger ids were added by `add`, the first of them with this id

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        fill(folder, data)
        with IndexWriter(folder) as writer:
            with writer.reader.snapshot() as snapshot:
                (space,) = snapshot.spaces()
            bring_up_to_date(writer, space.id)

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        self._folder, self._reader = folder, IndexReader(folder)
        with self._reader.snapshot() as snapshot:
            (self._space,) = snapshot.spaces()
            self._store = SpaceStore(folder, self._space)
            self._store.refresh(snapshot)

    def wait(self) -> None:
        """See `Peer.wait`: a thread checks the FAISS file."""
        for thread in threads():
            if thread.name == "vmr-check-index":
                thread.join()

    def select(self, data: Data, only: Filter) -> Any:
        """See `Peer.select`."""
        mask = np.concatenate([[False], data.mask(only)])  # ids of windows begin with 1
        mask.flags.writeable = False  # it is prepared once
        return mask

    def filter_settings(self, sweep: list[Point]) -> list[int]:
        """See `Peer.filter_settings`: the index chooses the effort by the share that a filter selects."""
        return [0]

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        thoroughness = Thoroughness(setting, 2) if setting else None
        with self._reader.snapshot() as snapshot:
            self._store.refresh(snapshot)
            ids: Rows = self._store.search(query, K, selected, thoroughness=thoroughness)[1][0]
        return np.where(ids > self._num_built, ids - self._first_new + self._num_built, ids - 1)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        if self._writer is None:
            self._writer = IndexWriter(self._folder)
            self._writer.__enter__()
            with self._writer.reader.snapshot() as snapshot:
                self._num_built, self._first_new = first, snapshot.meta("next_window")
        with self._writer.commit() as changes:
            for start in range(0, len(vectors), WINDOWS):
                number = (first + start) // WINDOWS
                changes.put_video(new_video(number, self._space.id, vectors[start : start + WINDOWS]))

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        assert self._writer is not None
        assert count == WINDOWS
        with self._writer.reader.snapshot() as snapshot:
            video = snapshot.video_at(f"{ROOT}/{name_of(first // WINDOWS)}")
        assert video is not None
        with self._writer.commit() as changes:
            changes.remove_video(video.id)

    def close(self) -> None:
        """See `Peer.close`."""
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
        self._store.close()
        self._reader.close()
