"""Building an index: find the videos, embed them window by window, write the folder."""

import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from os.path import commonpath
from pathlib import Path

import numpy as np

from vmr.checks import check_path, check_paths
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.data.discovery.find import FoundVideos, find_videos
from vmr.errors import IndexFileError, VmrError
from vmr.files import LOCK_FILE, locked_folder, sha256_of
from vmr.models.catalogue import load_model, shows_progress
from vmr.models.encoder import Encoder, check_encoder
from vmr.progress import spinner
from vmr.retrieval.embed import Embedding, embed_videos
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.manifest import FILE_NAME as MANIFEST_FILE
from vmr.retrieval.manifest import Failure, Manifest, Row, VideoRemark
from vmr.retrieval.segments import FixedWindows, window_segmenter
from vmr.retrieval.store import FaissStore, require_faiss
from vmr.version import __version__

# The files that a build writes, and those that it leaves behind when it is killed.
OWN_FILES = re.compile(r"\.lock|manifest\.json|vectors-\w+\.faiss|\.(manifest|vectors)\b.*\.tmp")


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
        VmrError: there is no video, or none can be read; or an argument has a wrong type or is out of range.
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
        store = FaissStore(model.embed_dim, path=out / f"vectors-{uuid.uuid4().hex}.faiss")
        frames = frame_spec(model)
        embedding = embed_videos(paths, model, frames, segmenter, decode=decode, progress=progress)
        if not embedding.videos:
            first = embedding.failures[0]
            raise VmrError(f"none of {len(paths)} videos can be read, first: {first.path}: {first.reason}")
        manifest = _write(
            store, root, found, embedding, model, frames=frames, segmenter=segmenter, reader=decode.reader
        )
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
            yield
        except BaseException:
            if is_new:
                shutil.rmtree(out, ignore_errors=True)
            raise


def _check_content(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds other files than those of an index, and an index that may not be replaced."""
    if any(not OWN_FILES.fullmatch(file.name) for file in out.iterdir()):
        raise IndexFileError(f"{out} holds other files: name a new folder for the index")
    if (out / MANIFEST_FILE).exists() and not overwrite:
        raise IndexFileError(
            f"{out} holds an index already: replace it with --overwrite (overwrite=True), or name another folder"
        )


def _write(
    store: FaissStore,
    root: Path,
    found: FoundVideos,
    embedding: Embedding,
    model: Encoder,
    *,
    frames: FrameSpec,
    segmenter: FixedWindows | None,
    reader: str,
) -> Manifest:
    """Write the vectors under a new name, then the manifest that names them, and remove the old file of vectors."""
    assert store.path is not None
    out = store.path.parent
    vectors = np.concatenate([video.vectors for video in embedding.videos])
    store.add(np.arange(len(vectors)), vectors)
    store.commit()
    manifest = Manifest(
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
        vectors_file=store.path.name,
        vectors_sha256=sha256_of(store.path),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        vmr_version=__version__,
        other_files=found.other_files,
    )
    manifest.save(out)
    for file in out.iterdir():
        if file.name not in (MANIFEST_FILE, LOCK_FILE, store.path.name):
            file.unlink()
    return manifest


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
