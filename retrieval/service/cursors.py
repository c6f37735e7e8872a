"""Where a list goes on: what `next_cursor` holds.

A cursor belongs to one request: a digest of its fields stands at the beginning. What follows is taken from it without
trust: it names nothing that the same client could not ask for, and it cannot make a search deeper than the limit.
"""

import base64
import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.files import is_unicode
from vmr.retrieval.service.schemas import LARGEST_ID

_DIGEST_BYTES = 8
_OTHER = "cursor is none of this request: take next_cursor of the page before, and change nothing else but k"


@dataclass(frozen=True)
class SearchCursor:
    """How far a search was shown.

    Later pages hold what was in the index when the first page was made and still is, without what was shown. So what a
    writer adds or removes meanwhile neither repeats a hit nor hides one, whatever its new place in the list is.

    Attributes:
        index: which index was searched, see `index_number`.
        before: only moments with a lower id belong to the pages, see `VideoIndex.search`.
        shown: ids of the moments that were shown.
        vector: of an upload that is searched by, (D,); None for a query or a moment.
    """

    index: int
    before: int
    shown: frozenset[int]
    vector: NDArray[np.float32] | None = None

    def text(self, fields: Mapping[str, Any]) -> str:
        """Return the cursor for a request with these fields."""
        vector = b"" if self.vector is None else self.vector.astype("<f2").tobytes()
        ids = sorted(self.shown)
        steps = [b - a for a, b in pairwise([0, *ids])]
        return _packed(fields, _varints([self.index, self.before, len(vector), len(ids), *steps]) + vector)

    @classmethod
    def read(cls, text: str, fields: Mapping[str, Any]) -> "SearchCursor":
        """Read the cursor of a request.

        Args:
            text: the cursor.
            fields: those of the request.

        Raises:
            VmrError: it is none, or one of another request.
        """
        rest = _unpacked(text, fields)
        (index, before, num_bytes, num_ids), rest = _read_varints(rest, 4)
        if num_ids > len(rest):
            raise VmrError(_OTHER)
        steps, rest = _read_varints(rest, num_ids)
        if len(rest) != num_bytes or num_bytes % 2:
            raise VmrError(_OTHER)
        vector = np.frombuffer(rest, "<f2").astype(np.float32) if rest else None
        return cls(index, before, frozenset(accumulate(steps)), vector)


def index_number(created: str) -> int:
    """Return a number for an index, given when it was made: another one in its place has the same ids for others."""
    return zlib.crc32(created.encode())


@dataclass(frozen=True)
class ListCursor:
    """The last row of a page of an ordered list.

    Attributes:
        key: the values that the list is ordered by.
    """

    key: tuple[str | int | float, ...]

    def text(self, fields: Mapping[str, Any]) -> str:
        """Return the cursor for a request with these fields."""
        return _packed(fields, json.dumps(self.key).encode())

    @classmethod
    def read(cls, text: str, fields: Mapping[str, Any], *kinds: type) -> "ListCursor":
        """Read the cursor of a request.

        Args:
            text: the cursor.
            fields: those of the request.
            *kinds: the types of the values.

        Raises:
            VmrError: it is none, or one of another request.
        """
        try:
            key = json.loads(_unpacked(text, fields))
        except (ValueError, RecursionError):
            raise VmrError(_OTHER) from None
        if not isinstance(key, list) or list(map(type, key)) != list(kinds):
            raise VmrError(_OTHER)
        if not all(map(_may_be_compared, key)):
            raise VmrError(_OTHER)
        return cls(tuple(key))


def _may_be_compared(value: str | int | float) -> bool:
    """Whether a database takes it, and puts it in an order."""
    if isinstance(value, str):
        return is_unicode(value)
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= LARGEST_ID


def _packed(fields: Mapping[str, Any], content: bytes) -> str:
    return base64.urlsafe_b64encode(_digest(fields) + content).decode().rstrip("=")


def _unpacked(text: str, fields: Mapping[str, Any]) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise VmrError(_OTHER) from None
    if data[:_DIGEST_BYTES] != _digest(fields):
        raise VmrError(_OTHER)
    return data[_DIGEST_BYTES:]


def _digest(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def _varints(numbers: Iterable[int]) -> bytes:
    """Numbers of at least 0, each in as few bytes as it needs: seven bits a byte, the lowest first."""
    data = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            data.append(rest & 0x7F | 0x80)
            rest >>= 7
        data.append(rest)
    return bytes(data)


def _read_varints(data: bytes, count: int) -> tuple[list[int], bytes]:
    """Read some numbers; return them, and what follows."""
    numbers: list[int] = []
    start = 0
    while len(numbers) < count:
        end = start
        while end < len(data) and data[end] > 0x7F:
            end += 1
        number = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[start : end + 1]))
        if end == len(data) or number > LARGEST_ID:
            raise VmrError(_OTHER)
        numbers.append(number)
        start = end + 1
    return numbers, data[start:]
