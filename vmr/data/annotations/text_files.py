r"""Text files read a line or a piece at a time, with errors that name the file.

Only "\n" ends a line. Python's `str.splitlines` also ends lines at U+2028, U+0085, "\x0b", "\x1c" and others, and its
text files end them at a single "\r". All of these may be inside a caption or a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vmr.errors import AnnotationError


def read_lines(file: Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file with their ends, which are "\n" or "\r\n".

    Args:
        file: it may start with a byte order mark, as some published files do.

    Raises:
        AnnotationError: the file cannot be read, or is not UTF-8 text.
    """
    return _read(file, lambda stream: stream.readline())


def read_pieces(file: Path, size: int) -> Iterator[str]:
    """Yield the text of a UTF-8 file in pieces of `size` characters; otherwise like `read_lines`."""
    return _read(file, lambda stream: stream.read(size))


def _read(file: Path, next_part: Callable[[IO[str]], str]) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as stream:
            while part := next_part(stream):
                yield part
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise AnnotationError(f"{file}: cannot read this annotation file: {error.strerror}") from None
