"""Indexes of schema 1, a manifest in JSON beside a file of FAISS: they are read into a database in memory."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from vmr.data.remark import Remark
from vmr.errors import IndexFileError
from vmr.files import sha256_of
from vmr.retrieval.manifest import FILE_NAME, Manifest, Row
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FailedFile, FileState, IndexSettings, NewVideo, Space, Vectors
from vmr.retrieval.storage.rows import DType
from vmr.retrieval.storage.schema import DATABASE
from vmr.retrieval.storage.writer import index_in_memory
from vmr.retrieval.vectors.faiss_store import FaissStore

UNKNOWN = FileState(size=0, mtime_ns=0, inode=0, seen_ns=0)
"""The state of a file that an old index says nothing about: no file has it."""

OLD_FILES = r"manifest\.json|vectors-[0-9a-f]{32}\.faiss"
"""The names of the files of schema 1."""

_REMEDY = "build the index again with vmr-index build"

Known = Mapping[str, tuple[FileState, bytes]]
"""Path of a video, as in the manifest -> state of its file, and SHA-256 of its content."""


def is_old_index(folder: Path) -> bool:
    """Whether a folder holds an index of schema 1, which has not been upgraded, or not to the end.

    Raises:
        IndexFileError: it cannot be told, because there is a database that cannot be read.
    """
    return (folder / FILE_NAME).is_file() and not is_finished(folder)


def require_database(folder: Path) -> None:
    """Check that a folder holds an index that can be changed.

    Raises:
        IndexFileError: it holds none, or one of schema 1.
    """
    if is_old_index(folder):
        raise IndexFileError(f"{folder} is of an earlier version of vmr: run vmr-index upgrade {folder} first")
    if not is_finished(folder):
        raise IndexFileError(f"{folder}: no such index: make one with vmr-index build DIR --out {folder}")


def open_reader(folder: Path) -> IndexReader:
    """Open an index of any schema for reading.

    Raises:
        IndexFileError: the folder is absent, half-written or damaged.
    """
    if not folder.is_dir():
        raise IndexFileError(f"{folder}: no such index: make one with vmr-index build DIR --out {folder}")
    if is_old_index(folder):
        try:
            return open_old_index(folder)
        except IndexFileError:
            if is_old_index(folder):
                raise
    if not (folder / DATABASE).is_file():
        raise IndexFileError(f"{folder} is not a finished index (no {DATABASE}): build it again with vmr-index build")
    return IndexReader(folder)


def open_old_index(folder: Path) -> IndexReader:
    """Read an index of schema 1 as it is; nothing is written.

    States and contents of files are not known, see `UNKNOWN`. The vectors are those of the file, to the bit.

    Args:
        folder: the folder of the index.

    Returns:
        A reader of a database in memory.

    Raises:
        IndexFileError: there is none, or it is damaged.
    """
    manifest, vectors = read_old_index(folder)
    return index_in_memory(folder, settings_of(manifest), filling(manifest, vectors))


def read_old_index(folder: Path) -> tuple[Manifest, Vectors]:
    """Read and check the manifest and the vectors, float32 (R, D), of an index of schema 1.

    Raises:
        IndexFileError: there is none, or it is damaged.
    """
    manifest = Manifest.load(folder)
    while True:
        try:
            _check_values(manifest, folder / FILE_NAME)
            return manifest, _vectors(folder, manifest)
        except IndexFileError:
            newer = Manifest.load(folder)
            if newer == manifest:
                raise
            manifest = newer  # the index was replaced while it was being read


def settings_of(manifest: Manifest) -> IndexSettings:
    """How the videos of an index of schema 1 were cut into windows."""
    return IndexSettings(manifest.window_s, manifest.stride_s)


def filling(
    manifest: Manifest, vectors: Vectors, known: Known | None = None, dtype: DType = "float32"
) -> Callable[[Changes], None]:
    """Return a function that puts the content of an index of schema 1 into an empty database.

    Args:
        manifest: the description of the old index.
        vectors: float32 (R, D), one for each row of the manifest.
        known: what is known of files now; nothing is known of any other.
        dtype: how the vectors are stored.
    """

    def fill(changes: Changes) -> None:
        changes.set_about(manifest.created, manifest.vmr_version)
        changes.set_other_files(manifest.root, manifest.other_files)
        space = changes.add_space(_space(manifest, dtype))
        for failure in manifest.failures:
            changes.put_failure(FailedFile(manifest.root, failure.video, None, failure.reason))
        for video in _videos(manifest, vectors, space, known or {}):
            changes.put_video(video)

    return fill


def _check_values(manifest: Manifest, path: Path) -> None:
    """Check what a database cannot hold: names that are none of a file, times that are no numbers."""
    videos = (row.video for row in manifest.rows)
    try:
        manifest.encoder.encode()
        for name in (manifest.root, *videos, *(failure.video for failure in manifest.failures)):
            os.fsencode(name)
    except UnicodeEncodeError as error:
        raise IndexFileError(f"{path} is damaged ({error.object!r:.60} is no valid name): {_REMEDY}") from error
    for row in manifest.rows:
        if not (math.isfinite(row.start_s) and math.isfinite(row.end_s)):
            raise IndexFileError(f"{path} is damaged (row {row.id} has times that are no numbers): {_REMEDY}")


def _videos(manifest: Manifest, vectors: Vectors, space: int, known: Known) -> Iterator[NewVideo]:
    remarks: dict[str, list[Remark]] = {}
    for remark in manifest.remarks:
        remarks.setdefault(remark.video, []).append(Remark(remark.kind, remark.text))
    for name, rows in _by_video(manifest.rows):
        state, content_hash = known.get(name, (UNKNOWN, b""))
        yield NewVideo(
            root=manifest.root,
            path=name,
            content_hash=content_hash,
            state=state,
            duration_s=max(row.end_s for row in rows),
            remarks=tuple(remarks.get(name, ())),
            spans=tuple((row.start_s, row.end_s) for row in rows),
            vectors={space: vectors[[row.id for row in rows]]},
        )


def _by_video(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    in_order = sorted(rows, key=lambda row: (row.video, row.start_s, row.end_s))
    for name, group in groupby(in_order, key=lambda row: row.video):
        yield name, list(group)


def _space(manifest: Manifest, dtype: DType) -> Space:
    return Space(
        id=0,
        name=manifest.encoder,
        encoder=manifest.encoder,
        fingerprint=manifest.fingerprint,
        dim=manifest.embed_dim,
        dtype=dtype,
        frames={"num_frames": manifest.num_frames, "reader": manifest.reader},
    )


def _vectors(folder: Path, manifest: Manifest) -> Vectors:
    path = folder / manifest.vectors_file
    if not path.is_file() or sha256_of(path) != manifest.vectors_sha256:
        state = "damaged" if path.is_file() else "missing"
        raise IndexFileError(f"{path} is {state}: {_REMEDY}")
    try:
        store = FaissStore.open(path)
    except IndexFileError as error:  # removed since the line above
        raise IndexFileError(f"{error}: {_REMEDY}") from error
    if (len(store), store.dim) != (len(manifest.rows), manifest.embed_dim):
        raise IndexFileError(
            f"{path} holds {len(store)} vectors of {store.dim} dimensions, its manifest says {len(manifest.rows)} of "
            f"{manifest.embed_dim}: {_REMEDY}"
        )
    vectors = store.vectors(np.arange(len(store)))
    if not np.isfinite(vectors).all():
        raise IndexFileError(f"{path} holds numbers that are not finite: {_REMEDY}")
    return vectors
