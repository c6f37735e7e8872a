"""Putting vectors that were made elsewhere into an index."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.hashes import hash_file, remembered_hashes
from vmr.models.catalogue import load_encoder
from vmr.progress import progress_bar
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.legacy import UNKNOWN, is_old_index, require_database
from vmr.retrieval.segments import window_segmenter
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space, Vectors
from vmr.retrieval.storage.rows import DType, decode_block, encode_block
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.folder import OWN_FILES
from vmr.retrieval.updating.listing import absolute
from vmr.retrieval.upkeep.import_options import ImportOptions
from vmr.retrieval.upkeep.imported_rows import ImportedVideo, checked_vectors, videos_of
from vmr.retrieval.upkeep.vector_files import About, read_vector_file
from vmr.retrieval.vectors.generations import bring_up_to_date

_ROWS_OF_A_COMMIT = 4096
_SAME_S = 1e-3  # times that differ by less are equal


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        num_videos: videos of the file.
        num_windows: rows of the file.
        num_known: videos that the index held already, with the same vectors.
        space: name of the vector space that holds the vectors.
    """

    num_videos: int
    num_windows: int
    num_known: int
    space: str


def import_vectors(folder: Path, file: Path, options: ImportOptions, *, progress: bool = False) -> Imported:
    """Put the rows of a file into an index, which is made if there is none.

    Everything is checked before anything is written. Then some thousand rows are committed at a time; after a kill,
    the same import goes on.

    Args:
        folder: the folder of the index.
        file: a Parquet or npz file, see `vmr.retrieval.upkeep.vector_files`.
        options: what the file does not say.
        progress: show a progress bar.

    Raises:
        VmrError: a row is wrong, or contradicts the index; or the index cannot be written.
        IndexFileError: the index is of schema 1, damaged, or being written by another process; or `folder` holds other
            files.
        MissingExtraError: pyarrow is not installed.
    """
    is_new = not folder.exists() or (folder.is_dir() and _is_unfinished(folder))
    if not is_new:
        require_database(folder)
    rows = read_vector_file(file)
    root = Path(absolute(options.root or "."))
    vectors = checked_vectors(file, rows.vectors, normalize=options.normalize)
    videos = videos_of(file, rows, root)
    has_root = options.root is not None or any(not video.startswith("/") for video in rows.videos)
    space = _described(file, vectors.shape[1], rows.about, options)
    if is_new:
        _require_model(file, space)
    with IndexWriter(folder, _settings(rows.about, options) if is_new else None) as writer:
        with writer.reader.snapshot() as snapshot:
            space = _of_index(folder, file, snapshot, space, options.dtype)
            todo = [video for video in videos if not _is_known(file, snapshot, space, video, vectors)]
            roots = _roots(snapshot, [video.file for video in todo], [str(root)] if has_root else [])
        if not space.id:
            with writer.commit() as changes:
                space = replace(space, id=changes.add_space(space))
        _put(writer, space, todo, vectors, roots=roots, progress=progress)
        bring_up_to_date(writer, space.id)
    return Imported(len(videos), len(rows.videos), len(videos) - len(todo), space.name)


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what a killed process left that was making an index."""
    is_own = all(OWN_FILES.fullmatch(file.name) for file in folder.iterdir())
    return is_own and not is_finished(folder) and not is_old_index(folder)


def _settings(about: About | None, options: ImportOptions) -> IndexSettings:
    if options.window is None and about is not None and options.stride is None:
        return IndexSettings(about.window_s, about.stride_s)
    windows = window_segmenter(options.window, options.stride)
    return IndexSettings(None, None) if windows is None else IndexSettings(windows.window_s, windows.stride_s)


def _described(file: Path, dim: int, about: About | None, options: ImportOptions) -> Space:
    """The space that the options and the file describe; without an encoder where neither names one."""
    encoder, fingerprint, frames = options.encoder or "", options.fingerprint or "", _unknown_frames()
    if about is not None and encoder in ("", about.encoder):
        encoder, frames = about.encoder, about.frames
        if fingerprint not in ("", about.fingerprint):
            raise VmrError(f"{file}: was made by {encoder} ({about.fingerprint}), not ({fingerprint})")
        fingerprint = about.fingerprint
    elif encoder and not fingerprint:
        model = load_encoder(encoder)
        encoder, fingerprint = model.name, model.fingerprint
        frames = asdict(frame_spec(model)) | {"reader": DecodeOptions.reader}
        if model.embed_dim != dim:
            raise VmrError(f"{file}: its vectors have {dim} dimensions, those of {encoder} have {model.embed_dim}")
    if about is not None and fingerprint != about.fingerprint:
        raise VmrError(f"{file}: was made by {about.encoder} ({about.fingerprint}), not by {encoder} ({fingerprint})")
    dtype = options.dtype or (about.dtype if about is not None else "float16")
    return Space(0, options.space or encoder, encoder, fingerprint, dim, dtype, frames)


def _unknown_frames() -> dict[str, Any]:
    return {"num_frames": 0, "reader": DecodeOptions.reader}


def _of_index(folder: Path, file: Path, snapshot: Snapshot, wanted: Space, dtype: DType | None) -> Space:
    """The space of the index that the vectors belong to, or the wanted one if it is new."""
    for known in snapshot.spaces():
        if known.name != wanted.name:
            continue
        if known.dim != wanted.dim:
            raise VmrError(f"{file}: its vectors have {wanted.dim} dimensions, those of {known.name} have {known.dim}")
        if wanted.fingerprint not in ("", known.fingerprint):
            raise VmrError(
                f"{file}: its vectors are of {wanted.encoder} ({wanted.fingerprint}), those of the vector space "
                f"{known.name} of {known.encoder} ({known.fingerprint}): name another space with --space"
            )
        if dtype not in (None, known.dtype):
            raise VmrError(f"{folder} stores the vectors of {known.name} as {known.dtype}, not as {dtype}")
        return known
    _require_model(file, wanted)
    return wanted


def _require_model(file: Path, space: Space) -> None:
    if not space.encoder or not space.fingerprint:
        raise VmrError(
            f"{file} does not say which model made its vectors: give --encoder NAME, and --fingerprint if vmr cannot "
            "load the model"
        )


def _is_known(file: Path, snapshot: Snapshot, space: Space, video: ImportedVideo, vectors: Vectors) -> bool:
    """Whether the index holds the rows of a video. Raises VmrError if it holds others."""
    old = snapshot.video_at(video.file)
    if old is None:
        return False
    windows = list(snapshot.windows([old.id]))
    held = np.array([(window.start_s, window.end_s) for window in windows])
    place = f"{file}: {video.place}: the index holds {video.file} with other"
    remedy = "remove it first with vmr-index remove, or name another {}"
    if held.shape != (len(video.spans), 2) or (abs(held - np.array(video.spans)) > _SAME_S).any():
        raise VmrError(f"{place} windows: {remedy.format('index')}")
    if not space.id:
        return False
    for block in snapshot.blocks_of(space.id, [old.first_window]):
        held = block.vectors[[window.id - old.first_window for window in windows]]
        if held.tobytes() != _as_stored(vectors[video.rows], space).tobytes():
            raise VmrError(f"{place} vectors in {space.name}: {remedy.format('space with --space')}")
        return True
    return False


def _as_stored(vectors: Vectors, space: Space) -> Vectors:
    data, crc = encode_block(vectors, space.dtype)
    return decode_block(data, space.dim, space.dtype, len(vectors), crc)


def _roots(snapshot: Snapshot, files: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """File -> the root that it is put below: one of the index, a wanted one, or the folder that the rest shares."""
    roots: dict[str, str] = {}
    known = [*snapshot.roots().values(), *wanted]
    for file in files:
        above = [root for root in known if file.startswith(f"{root.rstrip('/')}/")]
        if above:
            roots[file] = above[0]
    rest = [file for file in files if file not in roots]
    if rest:
        shared = commonpath([str(Path(file).parent) for file in rest])
        roots |= dict.fromkeys(rest, shared)
    return roots


def _put(
    writer: IndexWriter,
    space: Space,
    videos: Sequence[ImportedVideo],
    vectors: Vectors,
    *,
    roots: Mapping[str, str],
    progress: bool,
) -> None:
    done = 0
    with remembered_hashes() as database, progress_bar(progress) as bar:
        task = bar.add_task("importing", total=len(videos))
        for some in _portions(videos):
            known = [_state_and_content(video.file, database) for video in some]
            try:
                with writer.commit() as changes:
                    for video, each in zip(some, known, strict=True):
                        _put_one(changes, space.id, video, roots[video.file], vectors[video.rows], each)
            except VmrError as error:
                raise VmrError(f"{error}; imported {done} of {len(videos)} videos: import again to go on") from error
            done += len(some)
            bar.update(task, completed=done)


def _portions(videos: Sequence[ImportedVideo]) -> Iterator[list[ImportedVideo]]:
    some: list[ImportedVideo] = []
    num_rows = 0
    for video in videos:
        some.append(video)
        num_rows += len(video.spans)
        if num_rows >= _ROWS_OF_A_COMMIT:
            yield some
            some, num_rows = [], 0
    if some:
        yield some


def _put_one(
    changes: Changes, space_id: int, video: ImportedVideo, root: str, vectors: Vectors, known: tuple[FileState, bytes]
) -> None:
    old = changes.snapshot.video_at(video.file)
    if old is not None:  # with the same windows
        in_order = np.empty_like(vectors)
        for window, vector in zip(changes.snapshot.windows([old.id]), vectors, strict=True):
            in_order[window.id - old.first_window] = vector
        changes.add_vectors(old.id, space_id, in_order)
        return
    path = video.file[len(root.rstrip("/")) + 1 :]
    end_s = max(end for _, end in video.spans)
    state, content_hash = known
    changes.put_video(NewVideo(root, path, content_hash, state, end_s, (), video.spans, {space_id: vectors}))


def _state_and_content(file: str, database: sqlite3.Connection) -> tuple[FileState, bytes]:
    """Of a file as it is now, so that the next build does not embed it again; unknown if it is not there."""
    state, content, after = FileState.of(file), hash_file(file, database), FileState.of(file)
    if state is None or content is None or after is None or not after.is_same(state):
        return UNKNOWN, b""
    return state, bytes.fromhex(content.sha256)
