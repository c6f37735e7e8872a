"""Files that are no videos for certain, by their names and first bytes. FFmpeg decides about all the others.

The list saves time: FFmpeg needs milliseconds for a file, and this module microseconds. It also knows formats that
FFmpeg takes for videos of one frame, such as the pictures of a telephone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vmr.data.media import IMAGE_SUFFIXES, special_kind

# Browsers and other programs give these suffixes to files that they have not finished writing.
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".tmp", ".!ut", ".!qb")

_HEAD = 4096  # bytes
_TEXT_LIKE_VIDEO = b"YUV4MPEG2 "  # the text at the beginning of a .y4m file
_STARTS = (
    b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"8BPS",  # pictures
    b"ID3", b"fLaC", b"MThd",  # sound
    b"%PDF-", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",  # documents and archives
    b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0", b"PAR1", b"ARROW1", b"IxF", b"IxM2",  # data
    b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\0asm",  # programs
    b"\0\x05\x16\x07",  # the attributes of a file, which macOS keeps beside it
)  # fmt: skip
_JPEG = b"\xff\xd8\xff"  # also the beginning of a raw stream of such pictures
_RIFF_KINDS = (b"WEBP", b"WAVE")
_MP4_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"crx ", b"M4A ", b"M4B ")  # pictures and sound
_TAR = (257, b"ustar")

_MAX_SUFFIX = 12  # characters; what follows the last dot of "1. Our holidays in spring" is no suffix
_NAMED_KINDS = 8


def kind_of_other(path: Path) -> str | None:
    """Return the kind of a file that is certainly no video.

    Args:
        path: a file, or anything else that a folder lists as one.

    Returns:
        Its suffix in lower case, "no suffix", or what it is if it is no regular file, such as "fifo". None if only
        FFmpeg can tell whether it is a video.

    Raises:
        OSError: it cannot be read.
    """
    if special := special_kind(path):
        return special
    if path.suffix.lower() in _UNFINISHED:
        return suffix_kind(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    is_other = path.suffix.lower() in IMAGE_SUFFIXES if head.startswith(_JPEG) else _is_other(head)
    return suffix_kind(path) if is_other else None


def suffix_kind(path: Path) -> str:
    """Return the suffix of a file in lower case, or "no suffix"."""
    suffix = path.suffix.lower()
    return suffix if re.fullmatch(rf"\.[\w!~-]{{1,{_MAX_SUFFIX}}}", suffix, re.ASCII) else "no suffix"


def describe_others(other_files: Mapping[str, int]) -> str:
    """Say in words how many files are no videos, such as "7 other files skipped: .txt 5, .jpg 2"; "" for none.

    Args:
        other_files: kind -> how many, the most frequent kind first.
    """
    total = sum(other_files.values())
    if not total:
        return ""
    named = list(other_files.items())[:_NAMED_KINDS]
    rest = total - sum(count for _, count in named)
    parts = [*(f"{kind} {count}" for kind, count in named), *([f"of other kinds {rest}"] if rest else [])]
    return f"{total} other {'file' if total == 1 else 'files'} skipped: {', '.join(parts)}"


def _is_other(head: bytes) -> bool:
    return (
        head.startswith(_STARTS)
        or (head[:4] == b"RIFF" and head[8:12] in _RIFF_KINDS)
        or (head[4:8] == b"ftyp" and head[8:12] in _MP4_BRANDS)
        or head.startswith(_TAR[1], _TAR[0])
        or _is_text(head)
    )


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are UTF-8 text without control characters. An empty file counts as text."""
    if head.startswith(_TEXT_LIKE_VIDEO):
        return False
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 3:  # the last character may be cut off
            return False
        text = head[: error.start].decode("utf-8")
    return not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text)
