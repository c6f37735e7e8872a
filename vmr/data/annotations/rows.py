"""Annotation files that hold one row after another: JSON lists, JSON lines, CSV, WebVid's CSV, LSMDC's tables.

They are read a row at a time, so that a list of ten million rows never stands in memory as a whole.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.annotations.records import Record, id_of
from vmr.data.media import Media
from vmr.errors import AnnotationError

_BLOCK = 1 << 20  # characters
_LONGEST_ROW = 1 << 24  # characters; a row that is not complete by then is no JSON
_LSMDC_COLUMNS = 6  # clip, start and end as aligned, start and end as cut out, sentence


def read_json(file: Path, paragraphs: bool = False) -> Iterator[Record]:
    """A JSON list of {"video" or "image", "caption": text or [text, ...]}, upstream's format.

    paragraphs: a list of texts is one caption in parts, as upstream reads ActivityNet and DiDeMo.
    """
    for number, row in enumerate(json_items(file), start=1):
        yield _record(row, f"{file}: row {number}", paragraphs)


def read_json_lines(file: Path) -> Iterator[Record]:
    """Such an object on each line; empty lines are skipped."""
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise AnnotationError(f"{file}: line {number} is not JSON: {reason}") from None
            yield _record(row, f"{file}: line {number}", paragraphs=False)


def read_csv(file: Path) -> Iterator[Record]:
    """A table with the columns "video" or "image", and "caption"; others are ignored, save start_s and end_s."""
    for where, row in csv_rows(file, ("caption",)):
        yield _record({name: value for name, value in row.items() if value or name == "caption"}, where, False)


def read_webvid(file: Path) -> Iterator[Record]:
    """WebVid's table: a video is page_dir/videoid.mp4, its caption the column "name"."""
    for where, row in csv_rows(file, ("videoid", "page_dir", "name")):
        if not row["videoid"]:
            raise AnnotationError(f'{where}: "videoid" is empty')
        yield Record(
            f"{row['page_dir'] or '.'}/{row['videoid']}.mp4".removeprefix("./"), row["videoid"], (row["name"],)
        )


def read_sentence_csv(file: Path) -> Iterator[Record]:
    """MSRVTT's table of the JSFusion test split: columns video_id and sentence; the videos' suffix is not said."""
    for where, row in csv_rows(file, ("video_id", "sentence")):
        if not row["video_id"]:
            raise AnnotationError(f'{where}: "video_id" is empty')
        yield Record(row["video_id"], id_of(row["video_id"]), (row["sentence"],))


def read_lsmdc(file: Path) -> Iterator[Record]:
    """LSMDC's tables without a header: six columns parted by tabs, first the clip and last the sentence.

    Clips are files of their own, in a folder for each film: `FILM_00.01.02.345-00.01.05.678` is in FILM.
    """
    for number, line in enumerate(read_lines(file), start=1):
        columns = line.rstrip("\r\n").split("\t")
        if columns == [""]:
            continue
        film, _, time = columns[0].rpartition("_")
        if len(columns) != _LSMDC_COLUMNS or not film or not time:
            raise AnnotationError(
                f"{file}: line {number} is not LSMDC's: expected clip, four times and a sentence, parted by tabs"
            )
        yield Record(f"{film}/{columns[0]}", columns[0], (columns[-1],))


def read_ids(file: Path) -> list[str]:
    """The videos that a list of a split names: one a line, or the column "video_id" (or the only one) of a table."""
    lines = [line.strip() for line in read_lines(file) if line.strip()]
    if lines and "," in lines[0]:
        return [row["video_id"] for _, row in csv_rows(file, ("video_id",))]
    ids = lines[1:] if lines and lines[0] in ("video_id", "video", "id") else lines
    if not ids or any("\t" in line or line.startswith(("{", "[")) for line in ids):
        raise AnnotationError(f"{file}: not a list of videos: expected one name a line, or a column video_id")
    return ids


def _record(row: Any, where: str, paragraphs: bool) -> Record:
    if not isinstance(row, dict):
        raise AnnotationError(f'{where} is {row!r:.60}: expected an object with "video" or "image", and "caption"')
    media: list[Media] = [kind for kind in ("video", "image") if kind in row]
    if len(media) != 1 or "caption" not in row:
        lacks = '"video" or "image"' if not media else '"caption"'
        problem = 'both "video" and "image"' if len(media) > 1 else f"no {lacks}"
        raise AnnotationError(f"{where} has {problem} (its keys: {', '.join(map(str, row)) or 'none'})")
    path = row[media[0]]
    if not isinstance(path, str) or not path.strip():
        raise AnnotationError(f'{where}: "{media[0]}" is {path!r:.60}: expected a path')
    captions = texts(row["caption"], "caption", where)
    if paragraphs:
        captions = (paragraph(captions),)
    start_s, end_s = (_seconds(row.get(name), name, where) for name in ("start_s", "end_s"))
    try:
        return Record(str(PurePosixPath(path)), id_of(path), captions, media[0], start_s, end_s)
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from None


def some(names: Iterable[Any]) -> str:
    """The first few names, for a message."""
    first = list(islice(map(str, names), 9))
    return ", ".join([*first[:8], "..."] if len(first) > 8 else first) or "none"


def texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    """A text or a list of texts, as a tuple. They may be blank: the doctor lists those, the table refuses them."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(text, str) for text in values):
        raise AnnotationError(f'{where}: "{key}" is {value!r:.60}: expected a text or a list of texts')
    return tuple(values)


def paragraph(sentences: tuple[str, ...]) -> str:
    """Sentences as one caption (upstream: joined by a space)."""
    return " ".join(sentence.strip() for sentence in sentences)


def _seconds(value: Any, key: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise AnnotationError(f'{where}: "{key}" is {value!r:.60}: expected seconds')
    return seconds


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, whether or not it starts with a byte order mark."""
    return _open_text(file, by_lines=True)


def _open_text(file: Path, by_lines: bool) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            if by_lines:
                yield from stream
            else:
                while block := stream.read(_BLOCK):
                    yield block
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise AnnotationError(f"{file}: cannot read this annotation file: {error.strerror}") from None


def csv_rows(file: Path, needed: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a row of a table stands, for messages, and its values by column, which the first line names.

    Tabs part the columns if the first line has any, commas otherwise.
    """
    header = header_of(file)
    missing = [name for name in needed if name not in header]
    if missing:
        raise AnnotationError(f"{file}: no column '{missing[0]}' in its first line (it has {some(header)})")
    lines = read_lines(file)
    reader = csv.reader(lines, delimiter="\t" if "\t" in next(iter(read_lines(file)), "") else ",")
    try:
        next(reader)
        for row in reader:
            if not row:
                continue
            where = f"{file}: line {reader.line_num}"
            if len(row) != len(header):
                raise AnnotationError(
                    f"{where} has {len(row)} values for {len(header)} columns; quote a value that holds a comma"
                )
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:  # a quote that never closes, a value of a hundred thousand characters
        raise AnnotationError(f"{file}: line {reader.line_num} is no line of a table: {error}") from None


def header_of(file: Path) -> list[str]:
    """The values of the first line of a table, parted by tabs if it has any and otherwise by commas."""
    first = next(iter(read_lines(file)), "")
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter="\t" if "\t" in first else ","), [])]
    except csv.Error:
        return []


def json_items(file: Path) -> Iterator[Any]:
    """The items of a JSON list, one at a time. Raises AnnotationError, naming the row, where it is not one."""
    stream = _JsonText(file)
    if stream.peek() != "[":
        raise AnnotationError(f"{file}: expected a list of rows")
    stream.skip()
    if stream.peek() == "]":
        raise AnnotationError(f"{file}: an empty list")
    while True:
        yield stream.value()
        mark = stream.peek()
        if mark not in (",", "]"):
            raise AnnotationError(f"{file}: row {stream.num_values + 1} is not JSON: expected a comma before it, or ]")
        if mark == "]":
            return
        stream.skip()


def first_character(file: Path) -> str:
    """The first character of a file that is no space; "" if there is none."""
    return _JsonText(file).peek()


class _JsonText:
    """The part of a JSON file that has been read but not yet understood."""

    def __init__(self, file: Path) -> None:
        self.num_values = 0
        self._file = file
        self._decoder = json.JSONDecoder()
        self._blocks = _open_text(file, by_lines=False)
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is no space; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` gave."""
        self._at += 1

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                self._at, self.num_values = end, self.num_values + 1
                return value
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > _LONGEST_ROW or not self._more():
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise AnnotationError(f"{self._file}: row {self.num_values + 1} is not JSON: {reason}") from None

    def _more(self) -> bool:
        """Read as much again as is left, at least a block, so that a long value is not tried at every block of it."""
        rest = self._text[self._at :]
        wanted, read = max(len(rest), 1), 0
        parts = [rest]
        while read < wanted and (block := next(self._blocks, "")):
            parts.append(block)
            read += len(block)
        self._text, self._at = "".join(parts), 0
        return read > 0
