"""Which files are videos or pictures, and finding all videos below a folder."""

from pathlib import Path
from typing import Literal

from vmr.checks import check_path
from vmr.errors import VmrError
from vmr.files import walk_files

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".mpg", ".wmv", ".m4v", ".flv", ".ts")

Media = Literal["video", "image"]
"""The media of a data set: clips of several frames, or still pictures."""

SUFFIXES: dict[Media, tuple[str, ...]] = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}
"""The suffixes of each kind of media, the most usual first."""


def find_videos(folder: str | Path) -> list[Path]:
    """List every video file in a folder and below, sorted by path.

    A video is a file with one of VIDEO_SUFFIXES in any case; no file is opened. Hidden files and folders are skipped,
    linked folders are followed.

    Args:
        folder: the folder to search.

    Returns:
        Paths that start with `folder` as it was given.

    Raises:
        VmrError: `folder` is not a readable folder, or there is no video in it.
    """
    check_path("folder", folder)
    videos = sorted(path for path in walk_files(folder) if is_video(path))
    if not videos:
        raise VmrError(f"{folder}: no video files in this folder or below it (looked for {' '.join(VIDEO_SUFFIXES)})")
    return videos


def is_video(path: Path) -> bool:
    """Tell by the suffix whether `path` is a video file."""
    return path.suffix.lower() in VIDEO_SUFFIXES
