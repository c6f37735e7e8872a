"""Moving the folders that the videos of an index lie in."""

from dataclasses import dataclass
from pathlib import Path

from vmr.errors import VmrError
from vmr.retrieval.legacy import require_database
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.listing import absolute


@dataclass(frozen=True)
class MovedRoot:
    """A folder that was moved.

    Attributes:
        num_videos: videos of the folder.
        num_found: those whose files are there.
    """

    num_videos: int
    num_found: int


def move_root(folder: Path, old: Path, new: Path, *, force: bool = False) -> MovedRoot:
    """Tell an index that a folder of videos was moved. No video is read.

    Args:
        folder: the folder of the index.
        old: the folder as the index knows it.
        new: where it is now.
        force: also if no video is there, for a disk that is not mounted now.

    Raises:
        VmrError: the index does not know `old`, or knows `new` already; there is no folder `new`, or no video of the
            index is in it.
        IndexFileError: there is no index, it is damaged, or another process is writing it.
    """
    require_database(folder)
    before, after = absolute(old), absolute(new)
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.move_root(before, after)
        videos = [video for video in changes.snapshot.videos() if video.root == after]
        lost = [video.file for video in videos if FileState.of(video.file) is None]
        if not force and not new.is_dir():
            raise VmrError(f"{new}: no such folder: mount it, or use --force")
        if not force and videos and len(lost) == len(videos):
            raise VmrError(
                f"none of the {len(videos)} videos of {old} is in {new}, such as {lost[0]}: name another folder, "
                "or use --force"
            )
    return MovedRoot(len(videos), len(videos) - len(lost))
