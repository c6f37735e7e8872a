"""The index: vectors in FAISS, a manifest beside them, built once and searched by sentences.

On disk an index is a folder of two files: `manifest.json` (see vmr.retrieval.manifest) and the FAISS file it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.files import find_videos, sha256_of, write_atomically
from vmr.errors import IndexFileError, MissingExtraError, VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import Encoder
from vmr.retrieval.embed import Embedding, embed_texts, embed_videos, frame_spec
from vmr.retrieval.manifest import Failure, Manifest, Row
from vmr.retrieval.progress import spinner
from vmr.version import __version__


@dataclass(frozen=True)
class Hit:
    """One moment that answers a query. score: cosine similarity in [-1, 1]; times in seconds from the video's start."""

    score: float
    video: str
    start_s: float
    end_s: float


def build_index(
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    encoder: str | Encoder = "offline",
    *,
    window_s: float | None = 8.0,
    stride_s: float | None = None,
    reader: str = "pyav",
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    overwrite: bool = False,
    progress: bool = False,
) -> "VideoIndex":
    """Embeds videos window by window and writes an index folder.

    videos: a folder, searched with its subfolders, or a list of files. window_s, stride_s: length and distance of the
    windows in seconds (stride_s None: half a window); window_s None makes each video one row. Unreadable videos are
    left out and listed in the manifest with the reason. Raises VmrError where there is no video at all or none can be
    read, IndexFileError where `out` holds something already (an index only unless `overwrite`).
    """
    out = Path(out)
    _check_target(out, overwrite)
    faiss = _faiss()
    paths = [Path(path).absolute() for path in (find_videos(videos) if isinstance(videos, str | Path) else videos)]
    if not paths:
        raise VmrError("no videos given: name a folder or a list of files")
    with spinner(progress, "loading the encoder"):
        model = load_model(encoder) if isinstance(encoder, str) else encoder
    frames = frame_spec(model, window_s=window_s, stride_s=stride_s, reader=reader)
    embedding = embed_videos(paths, model, frames, num_workers=num_workers, timeout_s=timeout_s, progress=progress)
    if not embedding.videos:
        first = embedding.failures[0]
        raise VmrError(f"none of {len(paths)} videos can be read, first: {first.path}: {first.reason}")

    root = Path(videos).absolute() if isinstance(videos, str | Path) else Path(commonpath([p.parent for p in paths]))
    vectors = np.concatenate([video.vectors for video in embedding.videos])
    flat = faiss.IndexFlatIP(model.embed_dim)
    flat.add(vectors)
    vectors_file, checksum = _write_vectors(faiss, flat, out)
    manifest = Manifest(
        encoder=model.name,
        fingerprint=model.fingerprint,
        embed_dim=model.embed_dim,
        num_frames=frames.num_frames,
        window_s=frames.window_s,
        stride_s=frames.stride_s,
        reader=frames.reader,
        root=str(root),
        rows=_rows(embedding, root),
        failures=tuple(Failure(_relative(each.path, root), each.reason) for each in embedding.failures),
        vectors_file=vectors_file,
        vectors_sha256=checksum,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        vmr_version=__version__,
    )
    manifest.save(out)
    for stale in out.glob("vectors-*.faiss"):
        if stale.name != vectors_file:
            stale.unlink()
    return VideoIndex(out, manifest, flat, model)


def open_index(folder: str | Path, encoder: str | Encoder | None = None) -> "VideoIndex":
    """Opens an index for searching.

    encoder: default, the one that the index was made with, loaded at the first search. Raises IndexFileError for a
    folder that is absent, half-written or damaged.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    path = folder / manifest.vectors_file
    if not path.is_file() or sha256_of(path) != manifest.vectors_sha256:
        state = "damaged" if path.is_file() else "missing"
        raise IndexFileError(f"{path} is {state}: build the index again with vmr-index build")
    flat = _faiss().read_index(str(path))
    if flat.ntotal != len(manifest.rows):
        raise IndexFileError(f"{path} holds {flat.ntotal} vectors, its manifest {len(manifest.rows)}: build it again")
    return VideoIndex(folder, manifest, flat, encoder)


class VideoIndex:
    """An open index. Made by `build_index` and `open_index`."""

    def __init__(self, folder: Path, manifest: Manifest, flat: Any, encoder: str | Encoder | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._flat = flat
        self._encoder = encoder if isinstance(encoder, Encoder) else None
        self._encoder_name = encoder if isinstance(encoder, str) else manifest.encoder
        if self._encoder is not None:
            self._check_fingerprint(self._encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder for queries, loaded when first needed. Raises IndexFileError where it is not the index's own."""
        if self._encoder is None:
            encoder = load_model(self._encoder_name)
            self._check_fingerprint(encoder)
            self._encoder = encoder
        return self._encoder

    def search(self, query: str, k: int = 5, *, overlapping: bool = False) -> list[Hit]:
        """The k moments nearest to a sentence, best first; fewer where the index holds fewer.

        A window that overlaps a better hit of the same video is the same moment again and is left out, unless
        `overlapping`. Raises VmrError for an empty query or k < 1.
        """
        if not query.strip():
            raise VmrError("the query is empty: describe what the video shows")
        if k < 1:
            raise VmrError(f"k is {k}: ask for at least 1 result")
        return self._search_vector(embed_texts([query], self.encoder), k, overlapping)

    def _search_vector(self, vector: NDArray[np.float32], k: int, overlapping: bool) -> list[Hit]:
        wanted = k
        while True:  # overlapping windows are dropped after the search, so ask for more until k moments are left
            wanted = min(wanted, len(self.manifest.rows))
            scores, ids = self._flat.search(vector, wanted)
            hits = self._hits(scores[0], ids[0], overlapping)
            if len(hits) >= k or wanted == len(self.manifest.rows):
                return hits[:k]
            wanted *= 2

    def _hits(self, scores: NDArray[np.float32], ids: NDArray[np.int64], overlapping: bool) -> list[Hit]:
        hits: list[Hit] = []
        taken: dict[str, list[Row]] = {}
        for score, row_id in zip(scores, ids, strict=True):
            row = self.manifest.rows[row_id]
            earlier = taken.setdefault(row.video, [])
            if not overlapping and any(row.start_s < one.end_s and one.start_s < row.end_s for one in earlier):
                continue
            earlier.append(row)
            hits.append(Hit(float(score), str(Path(self.manifest.root, row.video)), row.start_s, row.end_s))
        return hits

    def _check_fingerprint(self, encoder: Encoder) -> None:
        if encoder.fingerprint != self.manifest.fingerprint:
            raise IndexFileError(
                f"{self.folder} was made by {self.manifest.encoder} ({self.manifest.fingerprint}), not by "
                f"{encoder.name} ({encoder.fingerprint}): search with the former or build the index again"
            )

    def __len__(self) -> int:
        """The number of rows, one a window."""
        return len(self.manifest.rows)


def _check_target(out: Path, overwrite: bool) -> None:
    """Refuses to write where something else lies, before any work is done."""
    if out.exists() and not out.is_dir():
        raise IndexFileError(f"{out} is a file: name a folder for the index")
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        Manifest.load(out)
        is_index = True
    except IndexFileError:
        is_index = False
    half_written = all(
        file.name.startswith((".vectors-", "vectors-", ".manifest.json", "manifest.json")) for file in out.iterdir()
    )
    if not is_index and not half_written:
        raise IndexFileError(f"{out} holds other files: name a new folder for the index")
    if is_index and not overwrite:
        raise IndexFileError(f"{out} holds an index already: replace it with --overwrite, or name another folder")


def _write_vectors(faiss: Any, flat: Any, out: Path) -> tuple[str, str]:
    """Puts the vectors under a new name, so that a reader of the index being replaced keeps its own file."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"vectors-{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}.faiss"
    write_atomically(out / name, lambda path: faiss.write_index(flat, str(path)))
    return name, sha256_of(out / name)


def _rows(embedding: Embedding, root: Path) -> tuple[Row, ...]:
    spans = [(video.path, start_s, end_s) for video in embedding.videos for start_s, end_s in video.spans]
    return tuple(Row(i, _relative(path, root), start_s, end_s) for i, (path, start_s, end_s) in enumerate(spans))


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "index") from error
    return faiss
