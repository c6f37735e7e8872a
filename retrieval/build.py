"""Building an index: find the videos, embed them window by window, write the folder."""

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from os.path import commonpath
from pathlib import Path

import numpy as np

from vmr.checks import check_path, check_paths
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.data.discovery.find import FoundVideos, find_videos
from vmr.errors import IndexFileError, VmrError
from vmr.files import remove_unnamed
from vmr.locks import LOCK_FILE, locked_folder
from vmr.models.catalogue import load_model, shows_progress
from vmr.models.encoder import Encoder, check_encoder
from vmr.progress import spinner
from vmr.retrieval.embed import Embedding, embed_videos
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.manifest import FILE_NAME as MANIFEST_FILE
from vmr.retrieval.manifest import Manifest, Row
from vmr.retrieval.results import Failure, VideoRemark
from vmr.retrieval.segments import FixedWindows, window_segmenter
from vmr.retrieval.vectors.faiss_store import FaissStore, require_faiss
from vmr.retrieval.vectors.store import Vectors
from vmr.version import __version__

# The files that a build removes unless the manifest names them; and all files of an index folder.
OLD_FILES = re.compile(r"vectors-[0-9a-f]{32}\.faiss|\.(manifest\.json|vectors-[0-9a-f]{32}\.faiss)\.\w+\.tmp")
OWN_FILES = re.compile(rf"\.lock|manifest\.json|{OLD_FILES.pattern}")


def build_index(
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    encoder: str | Path | Encoder = "offline",
    *,
    window_s: float | None = 8.0,
    stride_s: float | None = None,
    decode: DecodeOptions = DecodeOptions(),
    overwrite: bool = False,
    progress: bool = False,
) -> VideoIndex:
    """Embed videos window by window and write an index folder.

    Videos that cannot be read are left out, and listed in the manifest with the reason. Files of a folder that are no
    videos are counted there, by kind.

    Args:
        videos: a folder, searched with its subfolders, or a list of files.
        out: the folder to write.
        encoder: the model, or its name or path.
        window_s: seconds that one row of the index covers; None makes each video one row.
        stride_s: seconds from the start of one window to the start of the next; None for half a window.
        decode: how videos are decoded.
        overwrite: replace an index that `out` already holds.
        progress: show a progress bar.

    Returns:
        The index, open for searching.

    Raises:
        VmrError: there is no video, none can be read, a file cannot be written, or an argument has a wrong type or is
            out of range. An index that `out` held stays.
        IndexFileError: `out` holds an index (without `overwrite`) or other files, or is being written by another
            process.
    """
    require_faiss()  # wrong values are found before any work
    out = Path(check_path("out", out))
    if not isinstance(encoder, str | Path):
        check_encoder(encoder)
    segmenter = window_segmenter(window_s, stride_s)
    found = find_videos(videos, decode) if isinstance(videos, str | Path) else FoundVideos(check_paths(videos))
    paths = [path.absolute() for path in found]
    if not paths:
        raise VmrError("no videos given: name a folder or a list of files")
    root = Path(videos).absolute() if isinstance(videos, str | Path) else Path(commonpath([p.parent for p in paths]))
    with _reserved(out, overwrite):
        is_quiet = isinstance(encoder, str | Path) and not shows_progress(encoder)
        with spinner(progress and is_quiet, "loading the encoder"):
            model = load_model(encoder) if isinstance(encoder, str | Path) else encoder
        frames = frame_spec(model)
        embedding = embed_videos(paths, model, frames, segmenter, decode=decode, progress=progress)
        if not embedding.videos:
            first = embedding.failures[0]
            raise VmrError(f"none of {len(paths)} videos can be read, first: {first.path}: {first.reason}")
        manifest = _describe(root, found, embedding, model, frames=frames, segmenter=segmenter, reader=decode.reader)
        manifest, store = _write(out, manifest, np.concatenate([video.vectors for video in embedding.videos]))
        return VideoIndex(out, manifest, store, model)


@contextmanager
def _reserved(out: Path, overwrite: bool) -> Iterator[None]:
    """Lock `out` for this build, and check before any work that it may be written."""
    if out.exists() and not out.is_dir():
        raise IndexFileError(f"{out} is a file: name a folder for the index")
    is_new = not out.exists()
    if not is_new:
        _check_content(out, overwrite)
    busy = IndexFileError(f"{out} is being written by another process: wait for it, or name another folder")
    with locked_folder(out, busy):
        try:
            _check_content(out, overwrite)  # again, because another build may have ended before the lock was held
            yield
        except BaseException:
            if is_new and [file.name for file in out.iterdir()] == [LOCK_FILE]:
                with suppress(OSError):
                    (out / LOCK_FILE).unlink()
                    out.rmdir()
            raise


def _check_content(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds other files than those of an index, and an index that may not be replaced."""
    if any(not OWN_FILES.fullmatch(file.name) for file in out.iterdir()):
        raise IndexFileError(f"{out} holds other files: name a new folder for the index")
    if (out / MANIFEST_FILE).exists() and not overwrite:
        raise IndexFileError(
            f"{out} holds an index already: replace it with --overwrite (overwrite=True), or name another folder"
        )


def _describe(
    root: Path,
    found: FoundVideos,
    embedding: Embedding,
    model: Encoder,
    *,
    frames: FrameSpec,
    segmenter: FixedWindows | None,
    reader: str,
) -> Manifest:
    """Return the manifest without the file of vectors."""
    return Manifest(
        encoder=model.name,
        fingerprint=model.fingerprint,
        embed_dim=model.embed_dim,
        num_frames=frames.num_frames,
        window_s=None if segmenter is None else segmenter.window_s,
        stride_s=None if segmenter is None else segmenter.stride_s,
        reader=reader,
        root=str(root),
        rows=_rows(embedding, root),
        failures=tuple(
            Failure(_relative(each.path, root), each.reason) for each in (*found.failures, *embedding.failures)
        ),
        remarks=_remarks(embedding, root),
        vectors_file="",
        vectors_sha256="",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        vmr_version=__version__,
        other_files=found.other_files,
    )


def _write(out: Path, manifest: Manifest, vectors: Vectors) -> tuple[Manifest, FaissStore]:
    """Write the vectors under a new name, then the manifest that names them, and remove the old files.

    If one of them cannot be written, the old manifest and its vectors stay, and the new vectors are removed.
    """
    path = out / f"vectors-{uuid.uuid4().hex}.faiss"
    store = FaissStore(manifest.embed_dim, path=path)
    store.add(np.arange(len(vectors)), vectors)
    try:
        store.commit()
        manifest = replace(manifest, vectors_file=path.name, vectors_sha256=store.sha256)
        manifest.save(out)
    finally:
        remove_unnamed(out, OLD_FILES, named_in=out / MANIFEST_FILE)
    return manifest, store


def _rows(embedding: Embedding, root: Path) -> tuple[Row, ...]:
    spans = [(video.path, start_s, end_s) for video in embedding.videos for start_s, end_s in video.spans]
    return tuple(
        Row(i, _relative(path, root), float(start_s), float(end_s)) for i, (path, start_s, end_s) in enumerate(spans)
    )


def _remarks(embedding: Embedding, root: Path) -> tuple[VideoRemark, ...]:
    return tuple(
        VideoRemark(_relative(video.path, root), remark.kind, remark.text)
        for video in embedding.videos
        for remark in video.remarks
    )


def _relative(path: str, root: Path) -> str:
    return Path(path).absolute().relative_to(root).as_posix()
