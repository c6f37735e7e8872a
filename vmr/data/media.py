"""Which suffixes videos and pictures have, and what a path is if it is no file."""

import os
import stat
from pathlib import Path
from typing import Literal

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# Not .264 and .265, which raw streams may have: the ids of LSMDC's clips end in a time, such as ...-00.00.34.264.
VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".mpg", ".wmv", ".m4v", ".flv", ".ts", ".mpeg", ".m2ts", ".mts",
    ".m2t", ".3gp", ".3gpp", ".3g2", ".vob", ".ogv", ".ogm", ".mxf", ".asf", ".rm", ".rmvb", ".dv", ".y4m", ".divx",
    ".f4v", ".qt", ".mpe", ".m1v", ".m2v", ".mjpeg", ".mjpg", ".h264", ".h265", ".hevc", ".ivf", ".nut", ".wtv",
)  # fmt: skip

Media = Literal["video", "image"]
"""The media of a data set: clips of several frames, or still pictures."""

SUFFIXES: dict[Media, tuple[str, ...]] = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}
"""The suffixes of each kind of media, the most usual first. Files have them in any case, such as .MP4."""

_SPECIAL = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def special_kind(path: str | os.PathLike[str]) -> str | None:
    """Tell, without opening it, what a path is if it is no regular file.

    Opening a fifo or a device may wait forever.

    Args:
        path: the path; links are followed.

    Returns:
        "folder", "fifo", "socket" or "device"; None for a regular file, and for a path that cannot be examined.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return _SPECIAL.get(stat.S_IFMT(mode))


def has_video_suffix(path: Path) -> bool:
    """Tell whether the name of a file is that of a video. `vmr.find_videos` also finds videos with other names."""
    return path.suffix.lower() in VIDEO_SUFFIXES
