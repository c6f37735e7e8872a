"""Tables as text: a line of column names, then rows, with commas, semicolons, tabs or bars between the values."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from vmr.data.annotations.text_files import read_lines
from vmr.errors import AnnotationError

_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_KNOWN_COLUMNS = {"video", "image", "caption", "start_s", "end_s", "videoid", "page_dir", "video_id", "sentence"}


class Table:
    """A table whose first line names its columns.

    Spreadsheets of many countries part values by semicolons. The delimiter is the one that gives the first line the
    most columns that a format knows; if none does, it is the tab if there is one, else the one that gives the most
    columns. A line "sep=;" before the first line, as Excel writes it, decides.

    Args:
        file: UTF-8 text, with or without a byte order mark.

    Attributes:
        first_line: the line of the column names; "" for an empty file.
        delimiter: what parts the values.
        columns: the names of the columns.

    Raises:
        AnnotationError: the file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        first = next(read_lines(file), "")
        # Spreadsheets on old Macs end lines by "\r" alone. In any other table it is a part of a value.
        self._old_mac = "\r" in first.rstrip("\r\n")
        first, second = [*islice(self._lines(), 2), "", ""][:2]
        named = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
        self._num_before = 1 if named else 0  # lines before that of the column names
        self.first_line = second if named else first
        self.delimiter = named[1] if named else max(_DELIMITERS, key=self._fit)
        self.columns = _columns(self.first_line, self.delimiter)

    def rows(self, *needed: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Read the rows.

        Args:
            needed: columns that the table must have.

        Yields:
            File and line of a row, for messages, and its values by column.

        Raises:
            AnnotationError: a column is missing, or a row has more or fewer values than there are columns.
        """
        file, columns = self._file, self.columns
        missing = [name for name in needed if name not in columns]
        if missing:
            raise AnnotationError(f"{file}: no column '{missing[0]}' in its first line (it has {first_few(columns)})")
        reader = csv.reader(islice(self._lines(), self._num_before, None), delimiter=self.delimiter)
        try:
            next(reader)
            for row in reader:
                if not row:
                    continue
                where = f"{file}: line {self._num_before + reader.line_num}"
                if len(row) != len(columns):
                    raise AnnotationError(
                        f"{where} has {len(row)} values for {len(columns)} columns; quote a value that holds "
                        f"{_DELIMITERS.get(self.delimiter, self.delimiter)}"
                    )
                yield where, dict(zip(columns, row, strict=True))
        except csv.Error as error:  # such as a quote that never closes, or a value of a hundred thousand characters
            line = self._num_before + reader.line_num
            raise AnnotationError(f"{file}: line {line} is no row of a table: {error}") from None

    def _lines(self) -> Iterator[str]:
        for line in read_lines(self._file):
            yield from re.findall(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", line) if self._old_mac else (line,)

    def _fit(self, delimiter: str) -> tuple[int, bool, int]:
        columns = _columns(self.first_line, delimiter)
        return len(_KNOWN_COLUMNS.intersection(columns)), delimiter == "\t" and len(columns) > 1, len(columns)


def first_few(names: Iterable[object]) -> str:
    """Return the first few of some names, for a message."""
    first = list(islice(map(str, names), 9))
    return ", ".join([*first[:8], "..."] if len(first) > 8 else first) or "none"


def _columns(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
