"""Writing the vectors of an index into a file for other programs."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from vmr.errors import IndexFileError
from vmr.files import require_writable, write_atomically
from vmr.retrieval.legacy import open_reader
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.where import Where
from vmr.retrieval.upkeep.vector_files import About, Rows, require_arrow, write_csv, write_npz, write_parquet

Kind = Literal["parquet", "npz", "csv"]

_ROWS_AT_ONCE = 8192


def export_vectors(
    folder: Path,
    to: Path,
    kind: Kind,
    *,
    space: str | None = None,
    where: Where | None = None,
    with_vectors: bool = True,
) -> int:
    """Write the windows of an index and their vectors into a file, in the order of the index.

    Args:
        folder: the folder of the index.
        to: the file to write.
        kind: its format.
        space: the vector space; None if the index has only one.
        where: which videos; None for all.
        with_vectors: False leaves the vectors out of a CSV file.

    Returns:
        How many windows were written.

    Raises:
        IndexFileError: there is no index, it is damaged, or it has no such space.
        VmrError: the file cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    if kind == "parquet":
        require_arrow()
    require_writable(to)
    with open_reader(folder) as reader, reader.snapshot() as snapshot:
        chosen = space_named(folder, snapshot.spaces(), space)
        settings = snapshot.settings
        frames = dict(chosen.frames)
        about = About(
            chosen.encoder, chosen.fingerprint, chosen.dim, chosen.dtype, frames, settings.window_s, settings.stride_s
        )
        count = 0

        def counted() -> Rows:
            nonlocal count
            for windows, vectors in _rows(snapshot, chosen, None if where is None else snapshot.video_ids(where)):
                count += len(windows)
                yield windows, vectors

        def write(out: BinaryIO) -> None:
            if kind == "csv":
                write_csv(out, counted(), about if with_vectors else None)
            else:
                {"parquet": write_parquet, "npz": write_npz}[kind](out, counted(), about)

        write_atomically(to, write)
    return count


def space_named(folder: Path, spaces: list[Space], name: str | None) -> Space:
    """Return the space of a name, or the only one.

    Raises:
        IndexFileError: there is none, or there are several and no name.
    """
    names = ", ".join(one.name for one in spaces)
    if name is None and len(spaces) > 1:
        raise IndexFileError(f"{folder} has several vector spaces: name one with --space: {names}")
    for one in spaces:
        if name in (None, one.name):
            return one
    raise IndexFileError(f"{folder} has no vector space {name}: it has {names or 'none'}")


def _rows(snapshot: Snapshot, space: Space, video_ids: Iterable[int] | None) -> Rows:
    """The windows that have a vector, some thousand at a time."""
    windows, vectors = [], []
    for _, group in groupby(snapshot.windows(video_ids), key=lambda window: window.file):
        of_video = list(group)
        first = min(window.id for window in of_video)
        for block in snapshot.blocks_of(space.id, [first]):
            windows += of_video
            vectors.append(block.vectors[[window.id - first for window in of_video]])
        if len(windows) >= _ROWS_AT_ONCE:
            yield windows, np.concatenate(vectors)
            windows, vectors = [], []
    if windows:
        yield windows, np.concatenate(vectors)
