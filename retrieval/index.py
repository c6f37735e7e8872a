"""An open index, which is searched by sentences.

On disk an index is a folder with two files: `manifest.json` (see vmr.retrieval.manifest), and the file of vectors that
    it
names (see vmr.retrieval.store). `vmr.retrieval.build` writes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_path, whole_number
from vmr.errors import IndexFileError, VmrError
from vmr.files import is_unicode, sha256_of
from vmr.models.catalogue import load_model
from vmr.models.encoder import Encoder, check_encoder
from vmr.retrieval.manifest import Manifest, Row
from vmr.retrieval.results import Failure, VideoRemark
from vmr.retrieval.texts import embed_texts
from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.store import VectorStore


@dataclass(frozen=True)
class Hit:
    """One moment that answers a query.

    Attributes:
        score: cosine similarity, in [-1, 1].
        video: path of the video.
        start_s: where the moment starts, in seconds from the video's start.
        end_s: where it ends.
    """

    score: float
    video: str
    start_s: float
    end_s: float


def open_index(folder: str | Path, encoder: str | Path | Encoder | None = None) -> "VideoIndex":
    """Open an index for searching.

    Args:
        folder: the folder that `build_index` wrote.
        encoder: the model for queries, or its name or path; any but the one that built the index is refused. None for
            that one, which is loaded at the first search.

    Raises:
        IndexFileError: the folder is absent, half-written or damaged, or another encoder built the index.
        VmrError: `folder` is no path, or `encoder` is neither an encoder nor the name or path of one.
    """
    folder = Path(check_path("folder", folder))
    manifest = Manifest.load(folder)
    while True:
        try:
            return VideoIndex(folder, manifest, _open_store(folder, manifest), encoder)
        except IndexFileError:
            newer = Manifest.load(folder)
            if newer == manifest:
                raise
            manifest = newer  # the index was replaced while it was being read


class VideoIndex:
    """An open index. Made by `VideoIndex.build` (or `vmr.build_index`) and `VideoIndex.open` (or `vmr.open_index`).

    Attributes:
        folder: the folder of the index.
        manifest: the description of the index.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, store: VectorStore, encoder: str | Path | Encoder | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._store = store
        self._encoder: Encoder | None = None
        if isinstance(encoder, str | Path):
            encoder = None if str(encoder) == manifest.encoder else load_model(encoder)
        if encoder is not None:
            self.check_encoder(encoder)
            self._encoder = encoder

    @staticmethod
    def build(videos: str | Path | Sequence[str | Path], out: str | Path, **options: Any) -> "VideoIndex":
        """Build an index; see `vmr.build_index` for the options."""
        from vmr.retrieval.build import build_index

        return build_index(videos, out, **options)

    @staticmethod
    def open(folder: str | Path, encoder: str | Path | Encoder | None = None) -> "VideoIndex":
        """Open an index; see `vmr.open_index`."""
        return open_index(folder, encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder for queries, loaded at the first use. Raises IndexFileError if it did not build the index."""
        if self._encoder is None:
            encoder = load_model(self.manifest.encoder)
            self.check_encoder(encoder)
            self._encoder = encoder
        return self._encoder

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of all rows, (R, D), in the order of the manifest."""
        return self._store.vectors(np.arange(len(self)))

    @property
    def videos(self) -> tuple[str, ...]:
        """The paths of the videos that it holds, in the order of the manifest."""
        return tuple(str(Path(self.manifest.root, video)) for video in self.manifest.videos)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The videos that were left out, and why."""
        return self.manifest.failures

    @property
    def other_files(self) -> dict[str, int]:
        """How many files of the folder are no videos, by kind, see `vmr.FoundVideos`."""
        return dict(self.manifest.other_files)

    @property
    def remarks(self) -> tuple[VideoRemark, ...]:
        """What was noticed about the videos that it holds: damage, and times that were mended."""
        return self.manifest.remarks

    def search(self, query: str, k: int = 5, *, overlapping: bool = False) -> list[Hit]:
        """Find the moments nearest to a sentence.

        Args:
            query: what the video should show.
            k: how many moments to return at most; there are fewer if the index holds fewer.
            overlapping: keep windows that overlap a better hit of the same video; by default they count as the same
                moment and are left out.

        Returns:
            Hits, best first.

        Raises:
            VmrError: the query is empty, or k is below 1.
        """
        if not isinstance(query, str) or not query.strip() or not is_unicode(query):
            raise VmrError("the query is empty or not valid text: describe what the video shows")
        k = whole_number("k", k)
        return self._search_vector(embed_texts([query], self.encoder), k, overlapping)

    def _search_vector(self, vector: NDArray[np.float32], k: int, overlapping: bool) -> list[Hit]:
        wanted = k + 1
        while True:
            scores, ids = self._store.search(vector, min(wanted, len(self)))
            hits = self._hits(scores[0], ids[0], overlapping)
            # Overlapping windows were dropped, and more rows may tie with the last hit, so ask for more rows
            # until the k-th hit is better than some row that was found.
            if wanted >= len(self) or (len(hits) >= k and hits[k - 1].score > scores.min()):
                return hits[:k]
            wanted *= 2

    def _hits(self, scores: NDArray[np.float32], ids: NDArray[np.int64], overlapping: bool) -> list[Hit]:
        """The rows found as hits, best first; rows that tie come in the index's order."""
        hits: list[Hit] = []
        taken: dict[str, list[Row]] = {}
        for position in np.lexsort((ids, -scores)):
            row = self.manifest.rows[ids[position]]
            earlier = taken.setdefault(row.video, [])
            if not overlapping and any(row.start_s < one.end_s and one.start_s < row.end_s for one in earlier):
                continue
            earlier.append(row)
            video = str(Path(self.manifest.root, row.video))
            hits.append(Hit(float(scores[position]), video, row.start_s, row.end_s))
        return hits

    def check_encoder(self, encoder: Encoder) -> None:
        """Check that an encoder built this index, so that its queries can be compared with the vectors.

        Args:
            encoder: the encoder.

        Raises:
            IndexFileError: another encoder built the index.
            ModelError: it is no encoder.
        """
        check_encoder(encoder)
        own = (self.manifest.fingerprint, self.manifest.embed_dim)
        if (encoder.fingerprint, encoder.embed_dim) != own:
            raise IndexFileError(
                f"{self.folder} was made by {self.manifest.encoder} ({self.manifest.fingerprint}), not by "
                f"{encoder.name} ({encoder.fingerprint}): search with the former or build the index again"
            )

    def __len__(self) -> int:
        """Return the number of rows; each window is one row."""
        return len(self.manifest.rows)


def _open_store(folder: Path, manifest: Manifest) -> FaissStore:
    path = folder / manifest.vectors_file
    remedy = "build the index again with vmr-index build"
    if not path.is_file() or sha256_of(path) != manifest.vectors_sha256:
        state = "damaged" if path.is_file() else "missing"
        raise IndexFileError(f"{path} is {state}: {remedy}")
    try:
        store = FaissStore.open(path)
    except IndexFileError as error:  # removed since the line above
        raise IndexFileError(f"{error}: {remedy}") from error
    if (len(store), store.dim) != (len(manifest.rows), manifest.embed_dim):
        raise IndexFileError(
            f"{path} holds {len(store)} vectors of {store.dim} dimensions, its manifest says {len(manifest.rows)} of "
            f"{manifest.embed_dim}: {remedy}"
        )
    return store
