"""The seal of an index: the number of its last commit, in a file of 12 bytes beside the database.

SQLite forgets commits without a word if its write-ahead log is damaged, cut or left behind when a folder is copied.
The seal is then ahead of the database. It holds the number, 8 bytes little-endian, and the CRC-32 of these bytes. It is
written after the commit and not flushed: after a power cut it may be behind, which does no harm, but never ahead.
"""

import errno
import os
import struct
import zlib
from pathlib import Path

from vmr.errors import IndexFileError
from vmr.files import write_errors

SEAL = "seal"
_NUMBER = struct.Struct("<Q")


class Seal:
    """The seal of an index that is being written.

    Args:
        folder: the folder of the index.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SEAL
        with write_errors(self._path):
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)

    def write(self, commit: int) -> None:
        """Put in the number of a commit. Raises VmrError if the system does not take it."""
        content = sealed(commit)
        with write_errors(self._path):
            if os.pwrite(self._descriptor, content, 0) < len(content):
                os.ftruncate(self._descriptor, 0)  # an empty seal says nothing; a part of one says that it is damaged
                raise OSError(errno.EIO, "the system took only a part of it")

    def close(self) -> None:
        """Close the file. Raises VmrError if the system says that it lost something."""
        with write_errors(self._path):
            os.close(self._descriptor)


def sealed(commit: int) -> bytes:
    """Return the content of the seal of a commit."""
    number = _NUMBER.pack(commit)
    return number + zlib.crc32(number).to_bytes(4, "little")


def read_seal(folder: Path) -> int | None:
    """Return the number in the seal; None if there is none, or an empty one, as after a power cut.

    Raises:
        IndexFileError: the seal is damaged.
    """
    try:
        content = (folder / SEAL).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IndexFileError(f"{folder / SEAL}: cannot be read: {error.strerror}") from error
    if not content.strip(b"\0"):
        return None
    if len(content) != 12 or zlib.crc32(content[:8]) != int.from_bytes(content[8:], "little"):
        raise IndexFileError(
            f"{folder / SEAL} is damaged: see with vmr-index verify whether the rest is right, and remove it if it is"
        )
    return int(_NUMBER.unpack(content[:8])[0])


def check_seal(folder: Path, number: int | None, commit: int) -> None:
    """Check that no commit is missing.

    Args:
        folder: the folder of the index.
        number: what the seal said before the database was read.
        commit: the last commit of the database.

    Raises:
        IndexFileError: commits are missing.
    """
    if number is not None and number > commit:
        raise IndexFileError(
            f"{folder}: commits {commit + 1} to {number} are gone, because the write-ahead log (index.db-wal) is "
            "damaged or was not copied: copy the index again with vmr-index copy, or remove the file seal and run the "
            "build again"
        )
