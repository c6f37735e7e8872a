"""An open index, which is searched by sentences.

On disk an index is a folder with a database (see vmr.retrieval.storage) and files of FAISS that are made from it (see
vmr.retrieval.vectors). It may be written while it is searched: every search sees what was committed last.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_path, whole_number
from vmr.models.catalogue import load_encoder
from vmr.models.encoder import Encoder, Matcher, check_encoder
from vmr.retrieval.info import IndexInfo, describe
from vmr.retrieval.legacy import open_reader
from vmr.retrieval.results import Failure, Hit, SearchResult, VideoRemark
from vmr.retrieval.searching.candidates import lost_window
from vmr.retrieval.searching.search import Wanted
from vmr.retrieval.searching.searcher import Searcher
from vmr.retrieval.searching.spaces import made_by_another, space_for
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import IndexSettings, Window
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.store import VectorSearch

if TYPE_CHECKING:
    from vmr.retrieval.searching.reranked import Moment, Reranked
    from vmr.retrieval.updating.done import Update


def open_index(
    folder: str | Path,
    encoder: str | Path | Encoder | None = None,
    *,
    space: str | None = None,
    store: VectorSearch | None = None,
) -> "VideoIndex":
    """Open an index for searching.

    Args:
        folder: the folder that `build_index` wrote.
        encoder: the model for queries, or its name or path; any but one that built the index is refused. None for the
            one of the space, which is loaded at the first search.
        space: the vector space to search, if the index has several; None for that of the encoder, or the first.
        store: search the vectors in this store, whose ids are those of `VideoIndex.windows`, and not in the files of
            the index.

    Raises:
        IndexFileError: the folder is absent, half-written or damaged, has no such space, or another encoder built it.
        VmrError: `folder` is no path, or `encoder` is neither an encoder nor the name or path of one.
    """
    folder = Path(check_path("folder", folder))
    return VideoIndex(folder, open_reader(folder), encoder, space=space, store=store)


class VideoIndex:
    """An open index. Made by `VideoIndex.build` (or `vmr.build_index`) and `VideoIndex.open` (or `vmr.open_index`).

    Args:
        folder: the folder of the index.
        reader: reads its database.
        encoder: as for `vmr.open_index`.
        space: as for `vmr.open_index`.
        store: as for `vmr.open_index`.
        load: loads a model, given its name or path; None for `vmr.load_model`.
        holds_rows: keep the rows in memory, for a process that answers many searches.

    Attributes:
        folder: the folder of the index.
        space: the vector space that is searched.
        searcher: searches it; one thread at a time may use it.
    """

    def __init__(
        self,
        folder: Path,
        reader: IndexReader,
        encoder: str | Path | Encoder | None = None,
        *,
        space: str | None = None,
        store: VectorSearch | None = None,
        load: Callable[[str | Path], Encoder] | None = None,
        holds_rows: bool = False,
    ) -> None:
        self.folder = folder
        self._reader, self._load = reader, load or load_encoder
        self._encoder: Encoder | None = None
        with reader.snapshot() as snapshot:
            spaces = snapshot.spaces()
        self.space, encoder = space_for(folder, spaces, encoder, space, self._load)
        self.searcher = Searcher(reader, self.space, lambda: self.encoder, store, holds_rows=holds_rows)
        if encoder is not None:
            self.check_encoder(encoder)
            self._encoder = encoder

    @staticmethod
    def build(videos: str | Path | Sequence[str | Path], out: str | Path, **options: Any) -> "VideoIndex":
        """Build an index, or bring it up to date; see `vmr.build_index` for the options."""
        from vmr.retrieval.build import build_index

        return build_index(videos, out, **options)

    @staticmethod
    def open(
        folder: str | Path, encoder: str | Path | Encoder | None = None, *, space: str | None = None
    ) -> "VideoIndex":
        """Open an index; see `vmr.open_index`."""
        return open_index(folder, encoder, space=space)

    def add(self, paths: Sequence[str | Path], **options: Any) -> "Update":
        """Add videos, or embed them again if they have changed; see `vmr.retrieval.updating.update.add_videos`."""
        from vmr.retrieval.updating.update import add_videos

        return add_videos(self.folder, paths, **options)

    def remove(self, patterns: Sequence[str | Path]) -> "Update":
        """Remove videos from the index, not from the disk; see `vmr.retrieval.updating.update.remove_videos`."""
        from vmr.retrieval.updating.update import remove_videos

        return remove_videos(self.folder, patterns)

    @property
    def encoder(self) -> Encoder:
        """The encoder for queries, loaded at the first use. Raises IndexFileError if it did not build the index."""
        if self._encoder is None:
            encoder = self._load(self.space.encoder)
            self.check_encoder(encoder)
            self._encoder = encoder
        return self._encoder

    @property
    def info(self) -> IndexInfo:
        """What the index holds, and how that was made."""
        with self._reader.snapshot() as snapshot:
            return describe(snapshot, self.space, self.folder)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The rows of the index, in its order: by path and start."""
        with self._reader.snapshot() as snapshot:
            return tuple(self._windows(snapshot))

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of all rows as they are stored, (R, D), in the order of `windows`."""
        with self._reader.snapshot() as snapshot:
            windows = list(self._windows(snapshot))
            place = {window.id: place for place, window in enumerate(windows)}
            vectors = np.empty((len(windows), self.space.dim), np.float32)
            for block in snapshot.blocks(self.space.id):
                for number, vector in enumerate(block.vectors, start=block.first_window):
                    if number not in place:
                        raise lost_window(number)
                    vectors[place[number]] = vector
            return vectors

    @property
    def videos(self) -> tuple[str, ...]:
        """The paths of the videos that it holds, in its order."""
        return tuple(dict.fromkeys(window.file for window in self.windows))

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders of the videos, as absolute paths."""
        with self._reader.snapshot() as snapshot:
            return tuple(sorted(snapshot.roots().values()))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The videos that were left out, by their paths, and why."""
        with self._reader.snapshot() as snapshot:
            return tuple(Failure(failure.file, failure.reason) for failure in snapshot.failures())

    @property
    def other_files(self) -> dict[str, int]:
        """How many files of the folders are no videos, by kind, see `vmr.FoundVideos`."""
        with self._reader.snapshot() as snapshot:
            return snapshot.other_files()

    @property
    def remarks(self) -> tuple[VideoRemark, ...]:
        """What was noticed about the videos that it holds, by their paths: damage, and times that were mended."""
        with self._reader.snapshot() as snapshot:
            return tuple(
                VideoRemark(video.file, remark.kind, remark.text)
                for video in snapshot.videos()
                for remark in video.remarks
            )

    def search(
        self,
        query: str | NDArray[np.float32] | Hit | int,
        k: int = 5,
        *,
        where: str | None = None,
        per_video: int | None = None,
        rerank: int | None = None,
        min_match: float | None = None,
        keep_duplicates: bool = False,
        overlapping: bool = False,
        before: int | None = None,
    ) -> SearchResult:
        """Find the moments nearest to a sentence, or to something else.

        Windows of a video that lie beside each other and answer the query alike are one moment. A moment that shows
        the same as a better one of another video is listed in its `duplicates`.

        Args:
            query: what the video should show; or a vector (D,) of the space; or a moment or its id, for others like it.
            k: how many moments to return at most; there are fewer if the index holds fewer.
            where: search only videos that a condition selects, such as `folder = "cam07" and duration > 5 min`.
            per_video: return at most so many moments of a video.
            rerank: let the encoder compare the sentence with this many of the best moments token by token, and put
                those that it prefers first; 20 to 100 is sensible. Moments that cannot be compared, because their
                videos are gone or have changed, come after these.
            min_match: leave out moments with a lower `match`, in [0, 1].
            keep_duplicates: return moments that show the same as a better one as well.
            overlapping: return single windows, which may overlap, in place of moments.
            before: search only moments with a lower id, see `SearchResult.seen`.

        Returns:
            The hits, best first; those that tie come in the order of the index.

        Raises:
            VmrError: the query is empty, no vector of the space, or no moment of the index; an option is out of range
                or `where` is no condition; or the encoder cannot re-rank; the message says which.
        """
        started = time.perf_counter()
        wanted = Wanted.checked(
            k,
            where=where,
            per_video=per_video,
            rerank=rerank,
            min_match=min_match,
            keep_duplicates=keep_duplicates,
            overlapping=overlapping,
            before=before,
        )
        matcher = None if rerank is None else _check_rerank(self.encoder, query)
        answer = self.searcher.answer(query, wanted)
        if matcher is None:
            return answer.result(self.folder, self.space, wanted, started)
        hits = answer.hits(self.space)
        moments = [one.moment for one in answer.found[:rerank]]
        hits, remarks = self._reranked(answer.settings, matcher, answer.query.text, moments).in_order(hits)
        return answer.result(self.folder, self.space, wanted, started, hits, remarks)

    def _reranked(
        self, settings: IndexSettings, matcher: Matcher, text: str, moments: "Sequence[Moment]"
    ) -> "Reranked":
        from vmr.retrieval.searching.reranked import rerank_moments

        return rerank_moments(self.folder, settings, self.space, matcher, text, moments)

    def score_curve(
        self, video_id: int, query: str | NDArray[np.float32] | Hit | int, *, with_match: bool = False
    ) -> NDArray[np.float64]:
        """Score a video over time.

        Args:
            video_id: the number of the video, as in `Hit.video_id`.
            query: as for `search`.
            with_match: say also how well each window matches, as in `Hit.match`.

        Returns:
            Start and end in seconds, and score, of each window in the order of time, float64 (n, 3), or (n, 4) with
            the match, NaN where that is not known; without the row of the whole video if it has others.

        Raises:
            VmrError: the query is none, or the index holds no such video, or no vectors of it.
        """
        return self.searcher.score_curve(whole_number("video_id", video_id), query, with_match)

    def search_vectors(
        self, queries: NDArray[np.float32], k: int, windows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows nearest to vectors, as they are served.

        Args:
            queries: float32 (Q, D), from the encoder of the space.
            k: how many to find for each query.
            windows: ids of the windows to search among; None for all.

        Returns:
            Scores, float32 (Q, k), best first, and ids of windows, int64 (Q, k); padded with id -1 if fewer were found.
        """
        with self.searcher.searchable():
            return self.searcher.store.search(queries, k, windows)

    @property
    def is_exact(self) -> bool:
        """Whether a search passes over nothing, as with all kinds of FAISS files but those with lists or graphs."""
        with self.searcher.searchable():
            return self.searcher.files.is_exact

    def _windows(self, snapshot: Snapshot) -> Iterable[Window]:
        return snapshot.windows(space_id=self.space.id)

    def check_encoder(self, encoder: Encoder) -> None:
        """Check that an encoder made the vectors of this space, so that its queries can be compared with them.

        Args:
            encoder: the encoder.

        Raises:
            IndexFileError: another encoder made them.
            ModelError: it is no encoder.
        """
        check_encoder(encoder)
        if (encoder.fingerprint, encoder.embed_dim) != (self.space.fingerprint, self.space.dim):
            raise made_by_another(self.folder, [self.space], encoder)

    def close(self) -> None:
        """Close the files of the index. An index that is not closed is closed when it is no longer used."""
        self.searcher.close()
        self._reader.close()

    def __len__(self) -> int:
        """Return the number of rows; each window is one row."""
        with self._reader.snapshot() as snapshot:
            return snapshot.num_windows(self.space.id)


def _check_rerank(encoder: Encoder, query: object) -> Matcher:
    """Check that moments can be re-ranked. Imports the readers of videos, without which a search starts sooner."""
    from vmr.retrieval.searching.reranked import check_rerank

    return check_rerank(encoder, isinstance(query, str))
