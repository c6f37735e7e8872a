"""Files on disk: which of them are videos, finding them under a folder, and writing results whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vmr.errors import VmrError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".mpg", ".wmv", ".m4v", ".flv", ".ts")


def find_videos(folder: str | Path) -> list[Path]:
    """Return every video file in `folder` and below, sorted by path; each path starts with `folder` as given.

    A video is a file with one of VIDEO_SUFFIXES in any case; nothing is opened. Hidden files and folders are skipped,
    linked folders are followed. Raises VmrError when `folder` is not a readable folder or holds no video.
    """
    videos = sorted(path for path in walk_files(folder) if is_video(path))
    if not videos:
        raise VmrError(f"{folder}: no video files in this folder or below it (looked for {' '.join(VIDEO_SUFFIXES)})")
    return videos


def is_video(path: Path) -> bool:
    """Tell by the suffix whether `path` is a video file."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8; a file name or a JSON string may hold what cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def walk_files(folder: str | Path, max_depth: int | None = None) -> Iterator[Path]:
    """Yield the files under `folder` in a fixed order, going down at most `max_depth` levels of folders (0: none).

    Hidden files and folders are skipped. Linked folders are followed, since data sets are often linked into place, but
    no folder is visited twice. Raises VmrError when `folder` or a folder below it cannot be listed.
    """
    require_folder(folder)
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        depth = len(Path(parent).relative_to(folder).parts)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        too_deep = max_depth is not None and depth >= max_depth
        folders[:] = [] if too_deep else sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def require_folder(folder: str | Path) -> None:
    """Raise VmrError unless `folder` is an existing folder."""
    path = Path(folder)
    if not path.exists():
        raise VmrError(f"{folder}: no such folder")
    if not path.is_dir():
        raise VmrError(f"{folder}: not a folder")


def _refuse(error: OSError) -> None:
    raise VmrError(f"{error.filename}: cannot list this folder: {error.strerror}")


def require_writable(path: str | Path) -> None:
    """Makes the folder of a result to come. Raises VmrError where `path` is a folder, OSError where it is forbidden."""
    path = Path(path)
    if path.is_dir():
        raise VmrError(f"{path}: is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` fill a temporary file beside `path`, flushes it and renames it: all of `path` or nothing new."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp keeps its file to the owner; this one is as any other
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
