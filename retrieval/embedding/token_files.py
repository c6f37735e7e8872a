"""The tokens of videos that an index keeps for re-ranking: a file for each video and encoder, in the folder `tokens`.

They can be made again from the videos, so that any of them may be deleted at any time. A file that is damaged, or that
belongs to other windows than the index has, counts as absent.

A file begins with 16 bytes: `vmrT` and three unsigned integers, the version (1), N and C. A record for each window of
the video follows, in the order of the index: its start and end in seconds (two float64), the digest (16 bytes), and N
times C float32. The digest is BLAKE2b over the first 16 bytes of the file, the two times and the tokens. All numbers
are little-endian.

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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vmr.files import OutputFile, scratch_file, write_atomically, write_errors

TOKENS = "tokens"
"""The name of the folder in that of an index."""

OWN_TOKENS = re.compile(r"[0-9a-f]{32}\.tokens")
"""The names of the files in it."""

_TEMPORARY = re.compile(rf"\.{OWN_TOKENS.pattern}\.\w+\.tmp")
_OWN = re.compile(f"{OWN_TOKENS.pattern}|{_TEMPORARY.pattern}")
_HEADER, _SPAN = struct.Struct("<4sIII"), struct.Struct("<dd")
_MAGIC, _VERSION = b"vmrT", 1
_DIGEST_BYTES, _FLOAT_BYTES = 16, 4

Tokens = NDArray[np.float32]
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
        self._num_windows = 0
        self._order: Sequence[int] | None = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return self._num_windows

    @property
    def shape(self) -> tuple[int, int]:
        """N and C."""
        return self._shape

    def append(self, tokens: Tokens) -> None:
        """Add the tokens of the next windows, (b, N, C); N and C are the same for all windows."""
        self._shape = (tokens.shape[1], tokens.shape[2])
        self._num_windows += len(tokens)
        self._out.write(np.ascontiguousarray(tokens, "<f4").data)

    def reorder(self, order: Sequence[int]) -> None:
        """Give the windows other numbers: window n is from now on the one that was appended as number order[n]."""
        self._order = order

    def read(self, window: int) -> Tokens:
        """Return the tokens of a window, (N, C), given its number from 0."""
        window = window if self._order is None else self._order[window]
        tokens = np.empty(self._shape, "<f4")
        with write_errors(self._path):
            found = os.preadv(self._file.fileno(), [tokens.data.cast("B")], window * tokens.nbytes)
            if found < tokens.nbytes:
                raise OSError(f"it has lost tokens of window {window}")
        return tokens.astype(np.float32, copy=False)

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
        self._record = _SPAN.size + _DIGEST_BYTES + num_tokens * width * _FLOAT_BYTES
        records, rest = divmod(os.fstat(file.fileno()).st_size - _HEADER.size, self._record)
        self._num_windows = records if (magic, version, rest) == (_MAGIC, _VERSION, 0) and num_tokens * width else 0

    def __len__(self) -> int:
        """Return the number of windows; 0 for a file that is damaged or of another version."""
        return self._num_windows

    def read(self, window: int) -> tuple[Span, Tokens] | None:
        """Return the span of a window and its tokens, (N, C); None if it is not there or damaged.

        Args:
            window: its number among those of the video, from 0.
        """
        if not 0 <= window < self._num_windows:
            return None
        with suppress(OSError):
            self._file.seek(_HEADER.size + window * self._record)
            record = self._file.read(self._record)
            times, digest = record[: _SPAN.size], record[_SPAN.size : _SPAN.size + _DIGEST_BYTES]
            data = memoryview(record)[_SPAN.size + _DIGEST_BYTES :]
            if len(record) == self._record and _digest(self._header, times, data) == digest:
                start_s, end_s = _SPAN.unpack(times)
                tokens = np.frombuffer(data, "<f4").reshape(self._shape)
                return (start_s, end_s), tokens.astype(np.float32)  # a copy, which torch may write to
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

        def write(file: BinaryIO) -> None:
            file.write(header)
            for window, span in enumerate(spans):
                data = np.ascontiguousarray(tokens.read(window), "<f4").data.cast("B")
                times = _SPAN.pack(*span)
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
    """Return how many bytes the tokens of a window take on disk."""
    return _SPAN.size + _DIGEST_BYTES + num_tokens * width * _FLOAT_BYTES


def _digest(header: bytes, times: bytes, data: memoryview) -> bytes:
    digest = hashlib.blake2b(header + times, digest_size=_DIGEST_BYTES)
    digest.update(data)
    return digest.digest()


def _size(path: Path) -> int:
    with suppress(OSError):  # removed since it was listed
        return path.stat().st_size
    return 0
