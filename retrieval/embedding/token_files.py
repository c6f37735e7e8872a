"""The tokens of videos that an index keeps for re-ranking: a file for each video and encoder, in the folder `tokens`.

They can be made again from the videos, so that any of them may be deleted at any time. A file that is damaged, or that
belongs to other windows than the index has, counts as absent.

A file begins with 16 bytes: `vmrT` and three unsigned integers, the version (2), N and C. A table follows: the number
of windows of the video, and the number of bytes of the tokens of each (unsigned integers), and a digest (16 bytes). A
record for each window comes next, in the order of the index: its start and end in seconds (two float64), a digest, and
the tokens as `vmr.retrieval.embedding.packing` writes them. A digest is BLAKE2b over the first 16 bytes of the file and
what belongs to it: the numbers of the table, or the two times and the tokens. All numbers are little-endian.

A file of version 1 is read too. It has no table, and all tokens as they are.

Shapes: N tokens of a window, C their width.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vmr.files import OutputFile, scratch_file, write_atomically, write_errors
from vmr.retrieval.embedding.packing import Tokens, pack, unpack

TOKENS = "tokens"
"""The name of the folder in that of an index."""

OWN_TOKENS = re.compile(r"[0-9a-f]{32}\.tokens")
"""The names of the files in it."""

_TEMPORARY = re.compile(rf"\.{OWN_TOKENS.pattern}\.\w+\.tmp")
_OWN = re.compile(f"{OWN_TOKENS.pattern}|{_TEMPORARY.pattern}")
_HEADER, _SPAN, _NUMBER = struct.Struct("<4sIII"), struct.Struct("<dd"), struct.Struct("<I")
_MAGIC, _VERSION = b"vmrT", 2
_DIGEST_BYTES, _FLOAT_BYTES = 16, 4
_RECORD_BYTES = _SPAN.size + _DIGEST_BYTES  # without the tokens

Span = tuple[float, float]


class TokenSpool:
    """The tokens of the windows of one video while they are made, in a file without a name that vanishes with it.

    Args:
        folder: where the file lies.

    Raises:
        VmrError: the file cannot be written. The same holds for `append`.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._path = folder / TOKENS
        self._file = self._stack.enter_context(scratch_file(self._path))
        self._out = OutputFile(self._file.fileno(), self._path)
        self._shape = (0, 0)
        self._ends = [0]  # where in the file each window ends; one begins where the one before ends
        self._order: Sequence[int] | None = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._ends) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """N and C."""
        return self._shape

    def append(self, tokens: Tokens) -> None:
        """Add the tokens of the next windows, (b, N, C); N and C are the same for all windows."""
        self._shape = (tokens.shape[1], tokens.shape[2])
        for window in tokens:
            self._ends.append(self._ends[-1] + self._out.write(pack(window)))

    def reorder(self, order: Sequence[int]) -> None:
        """Give the windows other numbers: window n is from now on the one that was appended as number order[n]."""
        self._order = order

    def read(self, window: int) -> Tokens:
        """Return the tokens of a window, (N, C), given its number from 0."""
        return unpack(self.read_packed(window), self._shape)

    def read_packed(self, window: int) -> bytes:
        """Return the tokens of a window as `vmr.retrieval.embedding.packing` writes them."""
        start, size = self._place(window)
        with write_errors(self._path):
            found = os.pread(self._file.fileno(), size, start)
            if len(found) < size:
                raise OSError(f"it has lost tokens of window {window}")
        return found

    def num_bytes(self, window: int) -> int:
        """Return the length of `read_packed`."""
        return self._place(window)[1]

    def _place(self, window: int) -> tuple[int, int]:
        window = window if self._order is None else self._order[window]
        return self._ends[window], self._ends[window + 1] - self._ends[window]

    def close(self) -> None:
        """Remove the file."""
        self._stack.close()


class TokenFile:
    """The tokens of one video, on disk.

    Args:
        file: opened for reading.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header = file.read(_HEADER.size)
        magic, version, num_tokens, width = _HEADER.unpack(self._header.ljust(_HEADER.size, b"\0"))
        self._shape = (num_tokens, width)
        size = os.fstat(file.fileno()).st_size
        starts: Sequence[int] = ()
        if magic == _MAGIC and version == _VERSION and num_tokens * width:
            starts = self._read_table(size)
        elif magic == _MAGIC and version == 1 and num_tokens * width:
            starts = range(_HEADER.size, size + 1, _RECORD_BYTES + num_tokens * width * _FLOAT_BYTES)
        # where each record starts and the last one ends
        self._starts = starts if starts and starts[-1] == size else (0,)

    def _read_table(self, size: int) -> Sequence[int]:
        """Return where the records start and the last one ends; nothing if the table is damaged."""
        table = self._file.read(_NUMBER.size)
        (num_windows,) = _NUMBER.unpack(table.ljust(_NUMBER.size, b"\0"))
        if num_windows * _NUMBER.size > size:  # also bounds the memory that a damaged number takes
            return ()
        table += self._file.read(num_windows * _NUMBER.size)
        if self._file.read(_DIGEST_BYTES) != _digest(self._header, table):
            return ()
        sizes = np.frombuffer(table, "<u4")[1:].tolist()
        return list(accumulate((_RECORD_BYTES + one for one in sizes), initial=self._file.tell()))

    def __len__(self) -> int:
        """Return the number of windows; 0 for a file that is damaged or of another version."""
        return len(self._starts) - 1

    def read(self, window: int) -> tuple[Span, Tokens] | None:
        """Return the span of a window and its tokens, (N, C); None if it is not there or damaged.

        Args:
            window: its number among those of the video, from 0.
        """
        if not 0 <= window < len(self):
            return None
        with suppress(OSError, ValueError):
            start, end = self._starts[window : window + 2]
            self._file.seek(start)
            record = self._file.read(end - start)
            times, digest = record[: _SPAN.size], record[_SPAN.size : _RECORD_BYTES]
            data = memoryview(record)[_RECORD_BYTES:]
            if len(record) == end - start and _digest(self._header, times, data) == digest:
                start_s, end_s = _SPAN.unpack(times)
                return (start_s, end_s), unpack(data, self._shape)
        return None


class TokenFolder:
    """The tokens that an index keeps.

    Args:
        index: the folder of the index.

    Attributes:
        folder: the folder of the tokens, which exists if the index keeps them.
    """

    def __init__(self, index: Path) -> None:
        self.folder = index / TOKENS

    def put(self, name: str, spans: Sequence[Span], tokens: TokenSpool) -> None:
        """Keep the tokens of a video; they are on disk when this returns.

        Args:
            name: as `file_name` gives it.
            spans: start and end of each window, in seconds.
            tokens: of these windows.

        Raises:
            VmrError: they cannot be written. What was there before is still there.
        """
        header = _HEADER.pack(_MAGIC, _VERSION, *tokens.shape)

        sizes = [tokens.num_bytes(window) for window in range(len(spans))]
        table = np.array([len(sizes), *sizes], "<u4").tobytes()

        def write(file: BinaryIO) -> None:
            file.write(header + table + _digest(header, table))
            for window, span in enumerate(spans):
                data, times = tokens.read_packed(window), _SPAN.pack(*span)
                file.write(times + _digest(header, times, data))
                file.write(data)

        write_atomically(self.folder / name, write)

    def read(self, name: str, window: int) -> tuple[Span, Tokens] | None:
        """Return the span of a window and its tokens, (N, C); None if they are not kept or damaged.

        Args:
            name: as `file_name` gives it.
            window: number of the window among those of its video, from 0.
        """
        with suppress(OSError), (self.folder / name).open("rb") as file:
            return TokenFile(file).read(window)
        return None

    def holds(self, name: str, num_windows: int) -> bool:
        """Whether a file has the size of the tokens of so many windows."""
        with suppress(OSError), (self.folder / name).open("rb") as file:
            return len(TokenFile(file)) == num_windows
        return False

    def is_sound(self, name: str, num_windows: int) -> bool:
        """Whether a file holds the tokens of so many windows, all as they were written."""
        with suppress(OSError), (self.folder / name).open("rb") as file:
            tokens = TokenFile(file)
            return len(tokens) == num_windows and all(tokens.read(window) is not None for window in range(num_windows))
        return False

    def names(self) -> set[str]:
        """Return the names of the files."""
        return {path.name for path in self._listed() if OWN_TOKENS.fullmatch(path.name)}

    def holds_others(self) -> bool:
        """Whether something lies in the folder that no index has written."""
        return any(not _OWN.fullmatch(path.name) for path in self._listed())

    def num_bytes(self) -> int:
        """Return the size of all files."""
        return sum(_size(self.folder / name) for name in self.names())

    def remove_all_but(self, names: Iterable[str]) -> None:
        """Remove files that are not among `names`, and what a process that was killed has left.

        Only the one process that writes the index may do this.

        Raises:
            VmrError: a file cannot be removed.
        """
        wanted = set(names)
        with write_errors(self.folder):
            for path in self._listed():
                if (OWN_TOKENS.fullmatch(path.name) and path.name not in wanted) or _TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all files, and the folder if nothing else is in it."""
        self.remove_all_but(())
        with suppress(OSError):
            self.folder.rmdir()

    def _listed(self) -> list[Path]:
        with suppress(OSError):  # there is no folder, or it may not be read
            return sorted(self.folder.iterdir())
        return []


def file_name(content_hash: bytes, fingerprint: str, frames: Mapping[str, Any]) -> str:
    """Return the name of the file with the tokens of a video, which stays the same when the video gets another path.

    Args:
        content_hash: SHA-256 of the video.
        fingerprint: of the encoder.
        frames: which frames the encoder was given, and the reader, as a space has them.
    """
    about = json.dumps([content_hash.hex(), fingerprint, dict(frames)], sort_keys=True)
    return f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.tokens"


def bytes_of_window(num_tokens: int, width: int) -> int:
    """Return how many bytes the tokens of a window take on disk; fewer, if some repeat."""
    return _NUMBER.size + _RECORD_BYTES + num_tokens * width * _FLOAT_BYTES


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _size(path: Path) -> int:
    with suppress(OSError):  # removed since it was listed
        return path.stat().st_size
    return 0
