"""The index: vectors in FAISS, a manifest beside them, built once and searched by sentences.

On disk an index is a folder of two files: `manifest.json` (see vmr.retrieval.manifest) and the FAISS file it names.
"""

import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from vmr.data.decoding.segments import FrameSpec
from vmr.errors import IndexFileError, MissingExtraError, VmrError
from vmr.files import find_videos, is_unicode, sha256_of, write_atomically
from vmr.models.catalogue import load_model, shows_progress
from vmr.models.encoder import Encoder
from vmr.progress import spinner
from vmr.retrieval.embed import Embedding, embed_texts, embed_videos, frame_spec
from vmr.retrieval.manifest import FILE_NAME as MANIFEST_FILE
from vmr.retrieval.manifest import Failure, Manifest, Row
from vmr.version import __version__

LOCK_FILE = ".lock"
# What a builder writes, and what it leaves when it is killed.
OWN_FILES = re.compile(r"\.lock|manifest\.json|vectors-\w+\.faiss|\.(manifest|vectors)\b.*\.tmp")


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
    _faiss()
    paths = [Path(path).absolute() for path in (find_videos(videos) if isinstance(videos, str | Path) else videos)]
    if not paths:
        raise VmrError("no videos given: name a folder or a list of files")
    root = Path(videos).absolute() if isinstance(videos, str | Path) else Path(commonpath([p.parent for p in paths]))
    with _claimed(out, overwrite):
        is_quiet = isinstance(encoder, str) and not shows_progress(encoder)
        with spinner(progress and is_quiet, "loading the encoder"):
            model = load_model(encoder) if isinstance(encoder, str) else encoder
        frames = frame_spec(model, window_s=window_s, stride_s=stride_s, reader=reader)
        embedding = embed_videos(paths, model, frames, num_workers=num_workers, timeout_s=timeout_s, progress=progress)
        if not embedding.videos:
            first = embedding.failures[0]
            raise VmrError(f"none of {len(paths)} videos can be read, first: {first.path}: {first.reason}")
        return _write(out, root, embedding, model, frames)


def open_index(folder: str | Path, encoder: str | Encoder | None = None) -> "VideoIndex":
    """Opens an index for searching.

    encoder: default, the one that the index was made with, loaded at the first search. Raises IndexFileError for a
    folder that is absent, half-written or damaged.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    while True:
        try:
            return VideoIndex(folder, manifest, _read_vectors(folder, manifest), encoder)
        except IndexFileError:
            newer = Manifest.load(folder)
            if newer == manifest:
                raise
            manifest = newer  # the index was replaced while it was being read


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

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Those of all rows, (R, D), in the order of the manifest."""
        vectors: NDArray[np.float32] = self._flat.reconstruct_n(0, len(self))
        return vectors

    def search(self, query: str, k: int = 5, *, overlapping: bool = False) -> list[Hit]:
        """The k moments nearest to a sentence, best first; fewer where the index holds fewer.

        A window that overlaps a better hit of the same video is the same moment again and is left out, unless
        `overlapping`. Raises VmrError for an empty query or k < 1.
        """
        if not query.strip() or not is_unicode(query):
            raise VmrError("the query is empty or not valid text: describe what the video shows")
        if k < 1:
            raise VmrError(f"k is {k}: ask for at least 1 result")
        return self._search_vector(embed_texts([query], self.encoder), k, overlapping)

    def _search_vector(self, vector: NDArray[np.float32], k: int, overlapping: bool) -> list[Hit]:
        wanted = k + 1
        while True:
            scores, ids = self._flat.search(vector, min(wanted, len(self)))
            hits = self._hits(scores[0], ids[0], overlapping)
            # Overlapping windows have dropped out, and rows that tie with the last hit may lie beyond: ask for more
            # until the k-th hit is better than something that was found.
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

    def _check_fingerprint(self, encoder: Encoder) -> None:
        if encoder.fingerprint != self.manifest.fingerprint:
            raise IndexFileError(
                f"{self.folder} was made by {self.manifest.encoder} ({self.manifest.fingerprint}), not by "
                f"{encoder.name} ({encoder.fingerprint}): search with the former or build the index again"
            )

    def __len__(self) -> int:
        """The number of rows, one a window."""
        return len(self.manifest.rows)


@contextmanager
def _claimed(out: Path, overwrite: bool) -> Iterator[None]:
    """Keeps `out` for one builder, and finds out before any work whether it may be written."""
    if out.exists() and not out.is_dir():
        raise IndexFileError(f"{out} is a file: name a folder for the index")
    is_new = not out.exists()
    if not is_new:
        _check_content(out, overwrite)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise IndexFileError(
            f"{out} is being written by another process: wait for it, or name another folder"
        ) from None
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        lock.release()


def _check_content(out: Path, overwrite: bool) -> None:
    """Refuses a folder of anything but an index or the remains of one, and an index unless it may be replaced."""
    if any(not OWN_FILES.fullmatch(file.name) for file in out.iterdir()):
        raise IndexFileError(f"{out} holds other files: name a new folder for the index")
    if (out / MANIFEST_FILE).exists() and not overwrite:
        raise IndexFileError(
            f"{out} holds an index already: replace it with --overwrite (overwrite=True), or name another folder"
        )


def _write(out: Path, root: Path, embedding: Embedding, model: Encoder, frames: FrameSpec) -> "VideoIndex":
    """Puts vectors under a new name, commits them by the manifest, and clears away what the old manifest named."""
    faiss = _faiss()
    flat = faiss.IndexFlatIP(model.embed_dim)
    flat.add(np.concatenate([video.vectors for video in embedding.videos]))
    vectors_file = f"vectors-{uuid.uuid4().hex}.faiss"
    write_atomically(out / vectors_file, lambda path: faiss.write_index(flat, str(path)))
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
        vectors_sha256=sha256_of(out / vectors_file),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        vmr_version=__version__,
    )
    manifest.save(out)
    for file in out.iterdir():
        if file.name not in (MANIFEST_FILE, LOCK_FILE, vectors_file):
            file.unlink()
    return VideoIndex(out, manifest, flat, model)


def _read_vectors(folder: Path, manifest: Manifest) -> Any:
    path = folder / manifest.vectors_file
    if not path.is_file() or sha256_of(path) != manifest.vectors_sha256:
        state = "damaged" if path.is_file() else "missing"
        raise IndexFileError(f"{path} is {state}: build the index again with vmr-index build")
    try:
        flat = _faiss().read_index(str(path))
    except RuntimeError as error:  # gone since the line above
        raise IndexFileError(f"{path} is missing: build the index again with vmr-index build") from error
    if (flat.ntotal, flat.d) != (len(manifest.rows), manifest.embed_dim):
        raise IndexFileError(
            f"{path} holds {flat.ntotal} vectors of {flat.d} dimensions, its manifest says {len(manifest.rows)} of "
            f"{manifest.embed_dim}: build the index again with vmr-index build"
        )
    return flat


def _rows(embedding: Embedding, root: Path) -> tuple[Row, ...]:
    spans = [(video.path, start_s, end_s) for video in embedding.videos for start_s, end_s in video.spans]
    return tuple(
        Row(i, _relative(path, root), float(start_s), float(end_s)) for i, (path, start_s, end_s) in enumerate(spans)
    )


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "index") from error
    return faiss
