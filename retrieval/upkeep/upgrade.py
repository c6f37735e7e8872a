"""Converting an index of schema 1 into a database, in its folder and without embedding a video."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vmr.errors import IndexFileError
from vmr.hashes import hash_file, remembered_hashes
from vmr.progress import progress_bar
from vmr.retrieval.legacy import OLD_FILES, filling, is_old_index, read_old_index, settings_of
from vmr.retrieval.manifest import FILE_NAME, Manifest
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.storage.rows import DType
from vmr.retrieval.storage.writer import IndexWriter

_TO_REMOVE = re.compile(rf"{OLD_FILES}|\.({OLD_FILES})\.\w+\.tmp")


@dataclass(frozen=True)
class Upgraded:
    """What was converted.

    Attributes:
        num_videos: videos of the index.
        num_windows: windows of the index.
        num_unknown: videos whose files are not there, or were changed after the index had been made: the next build
            embeds them again if it finds them.
    """

    num_videos: int
    num_windows: int
    num_unknown: int


def upgrade_index(folder: Path, dtype: DType = "float32", *, progress: bool = False) -> Upgraded | None:
    """Convert an index of schema 1 in its folder.

    The whole content is one commit of the new database, after which the old files are removed: killed at any moment,
    the folder holds an index with the same content. The files of the videos are hashed, so that the next build knows
    them.

    Args:
        folder: the folder of the index.
        dtype: how vectors are stored; "float32" keeps them to the bit.
        progress: show a progress bar.

    Returns:
        What was converted; None if the index is not of schema 1.

    Raises:
        IndexFileError: there is no index, it is damaged, or another process is writing it.
        VmrError: it cannot be written. The old index is still there.
    """
    if not is_old_index(folder):
        if not is_finished(folder):
            raise IndexFileError(f"{folder}: no such index")
        if any(_TO_REMOVE.fullmatch(file.name) for file in folder.iterdir()):
            with IndexWriter(folder):  # the upgrade was killed before it had removed them
                remove_old_files(folder)
        return None
    manifest, _ = read_old_index(folder)
    known = _known_files(manifest, progress)

    def fill(changes: Changes) -> None:
        now, vectors = read_old_index(folder)
        if now != manifest:
            raise IndexFileError(f"{folder} was replaced while it was being upgraded: upgrade it again")
        filling(manifest, vectors, known, dtype)(changes)

    with IndexWriter(folder, settings_of(manifest), fill):
        remove_old_files(folder)
    num_videos = len(manifest.videos)
    return Upgraded(num_videos, len(manifest.rows), num_videos - len(known))


def _known_files(manifest: Manifest, progress: bool) -> dict[str, tuple[FileState, bytes]]:
    """State and content of the videos that have not been changed since the index was made."""
    known: dict[str, tuple[FileState, bytes]] = {}
    try:
        created_ns = int(datetime.fromisoformat(manifest.created).timestamp()) * 1_000_000_000
    except ValueError:
        return known
    with remembered_hashes() as database, progress_bar(progress) as bar:
        for video in bar.track(manifest.videos, description="hashing"):
            path = Path(manifest.root, video)
            state = FileState.of(path)
            if state is None or state.mtime_ns > created_ns:
                continue
            content, after = hash_file(path, database), FileState.of(path)
            if content is not None and after is not None and after.is_same(state):
                known[video] = (state, bytes.fromhex(content.sha256))
    return known


def remove_old_files(folder: Path) -> None:
    """Remove the files of schema 1, the manifest first: without it nobody looks for the others."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name != FILE_NAME):
        if _TO_REMOVE.fullmatch(file.name):
            with suppress(OSError):  # it is in nobody's way
                file.unlink()
