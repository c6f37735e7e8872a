"""JSON lists read an item at a time, so that a list of ten million rows is never in memory as a whole.

This is our own code rather than the library ijson, because ijson 3.6 with its C parser (yajl2_c, use_float=True) does
not read everything that json.loads reads: it refuses NaN, integers above 64 bits and floats above the range, and it
silently replaces half a surrogate pair by a question mark, so that a caption would change unnoticed. It would
gain little: on a list of 1.4 million rows (200 MB) it took 1.7 s and 18 MB of memory, this module 2.1 s and 38 MB, and
json.load 1.3 s and 845 MB (Python 3.11.7, AMD EPYC, 2026-11-26).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmr.data.annotations.text_files import read_pieces
from vmr.errors import AnnotationError

_PIECE = 1 << 20  # characters
_LONGEST_ROW = 1 << 24  # characters; a row that is not complete by then is not JSON
_NAMES = {"{": "an object", '"': "a text"}


def json_items(file: Path) -> Iterator[Any]:
    """Yield the items of a JSON list, as json.loads would return them.

    Args:
        file: UTF-8 text, with or without a byte order mark.

    Raises:
        AnnotationError: the file is not a list, is empty, or has a row that is not JSON; the message names the row,
            from 1, and the line. Earlier rows have been yielded.
    """
    text = _JsonText(file)
    first = text.peek()
    if first != "[":
        raise AnnotationError(f"{file}: holds {_NAMES.get(first, 'no JSON')}: expected a list of rows")
    text.skip()
    if text.peek() == "]":
        raise AnnotationError(f"{file}: an empty list: there are no rows in it")
    row = 1
    while True:
        yield text.value(row)
        row += 1
        mark = text.peek()
        if mark not in (",", "]"):
            raise text.error(row, "expected a comma before it, or ]")
        text.skip()
        if mark == "]":
            break
    if text.peek():
        raise text.error(row, "the list has ended before it")


def first_character(file: Path) -> str:
    """Return the first character of a file that is no space; "" if there is none."""
    return _JsonText(file).peek()


class _JsonText:
    """The part of a JSON file that has been read but not yet parsed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._pieces = read_pieces(file, _PIECE)
        self._text = ""
        self._place = 0  # in the text, of the next character to parse
        self._num_lines = 0  # before the text

    def peek(self) -> str:
        """Return the next character that is no space; "" at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_more():
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` returned."""
        self._place += 1

    def value(self, row: int) -> Any:
        """Parse the value that begins here. row: its number, for errors."""
        self.peek()
        while True:
            try:
                value, self._place = self._decoder.raw_decode(self._text, self._place)
                return value
            except (ValueError, RecursionError) as error:
                # Errors of other types: a number of thousands of digits, or brackets nested too deeply.
                syntax = error if isinstance(error, json.JSONDecodeError) else None
                ahead = syntax.pos - self._place if syntax else 0
                if len(self._text) - self._place > _LONGEST_ROW or not self._read_more():
                    self._place += ahead
                    raise self.error(row, syntax.msg if syntax else str(error)) from None

    def error(self, row: int, reason: str) -> AnnotationError:
        """Return the error for a row that is not JSON from here on."""
        line = self._num_lines + self._text.count("\n", 0, self._place) + 1
        return AnnotationError(f"{self._file}: row {row} is not JSON: {reason} (line {line})")

    def _read_more(self) -> bool:
        """Read as much as is left unparsed, at least a piece: a long value is not parsed again after every piece."""
        self._num_lines += self._text.count("\n", 0, self._place)
        rest = self._text[self._place :]
        wanted, read = max(len(rest), 1), 0
        parts = [rest]
        while read < wanted and (piece := next(self._pieces, "")):
            parts.append(piece)
            read += len(piece)
        self._text, self._place = "".join(parts), 0
        return read > 0
