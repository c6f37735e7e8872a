"""An opened file, or bytes, as they are sent: which part a request asks for, and its bytes in pieces."""

from __future__ import annotations

import io
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

_PIECE_BYTES = 256 * 2**10
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Opened:
    """A file that is open for reading.

    Attributes:
        file: the file, unbuffered; it is closed when nobody holds it any more, or before.
        size: bytes.
        mtime_s: time of its last change, in seconds.
        etag: differs from that of every other content, with its quotes.
        media_type: of its content.
    """

    file: io.FileIO
    size: int
    mtime_s: float
    etag: str
    media_type: str

    @classmethod
    def of(cls, descriptor: int, stamp: str, media_type: str) -> Opened:
        """Describe a file that is open.

        Args:
            descriptor: of the file; it is closed with the result.
            stamp: text without quotes that differs from that of every other content.
            media_type: of its content.
        """
        status = os.fstat(descriptor)
        return cls(io.FileIO(descriptor), status.st_size, status.st_mtime, f'"{stamp}"', media_type)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `stop`, and close the file."""
        try:
            while start < stop:
                piece = await run_in_threadpool(os.pread, self.file.fileno(), min(_PIECE_BYTES, stop - start), start)
                if not piece:  # it became shorter; the server notices that bytes are missing
                    return
                start += len(piece)
                yield piece
        finally:
            self.close()


class RangeError(Exception):
    """No byte of the file is in the range."""


def wanted_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header.

    One range is served. Several ranges, other units and text that is no range are passed over, as RFC 9110 allows, and
    the whole file is sent: no player asks for several, and many of them cost no more than one.

    Args:
        text: the header; None if there is none.
        size: bytes of the file.

    Returns:
        First byte, and the byte after the last; None for the whole file.

    Raises:
        RangeError: no byte of the file is in the range.
    """
    match = None if text is None else _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last bytes
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise RangeError
    return start, stop
