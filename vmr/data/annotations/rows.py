"""Annotation files that hold one row after another: JSON lists, JSON lines, CSV, WebVid's CSV, LSMDC's tables.

They are read a row at a time, so that a list of ten million rows is never in memory as a whole. Every function here
raises AnnotationError if a row does not follow the format; the message names the file and the row or line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.annotations.json_list import json_items
from vmr.data.annotations.records import Record, id_of
from vmr.data.annotations.tables import Table, first_few
from vmr.data.annotations.text_files import read_lines
from vmr.data.media import Media
from vmr.errors import AnnotationError
from vmr.files import is_unicode

_LSMDC_COLUMNS = 6  # clip, start and end as aligned, start and end as cut out, sentence


def read_json(file: Path, *, paragraphs: bool = False, whole_videos: bool = False) -> Iterator[Record]:
    """Read a JSON list of {"video" or "image": path, "caption": text or [text, ...]}, upstream's format.

    Args:
        file: the list. Rows may also have "start_s" and "end_s", the moment that the captions are about.
        paragraphs: whether a list of texts is one caption in parts, as upstream reads ActivityNet and DiDeMo.
        whole_videos: whether each row must name a video; then "image", "start_s" and "end_s" are ignored, like all
            other keys.

    Yields:
        One record for each row.
    """
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        yield _video_record(row, where) if whole_videos else _record(row, where, paragraphs)


def read_json_lines(file: Path) -> Iterator[Record]:
    """Read one object, as in `read_json`, from each line; empty lines are skipped."""
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise AnnotationError(f"{file}: line {number} is not JSON: {reason}") from None
            yield _record(row, f"{file}: line {number}", paragraphs=False)


def read_csv(file: Path) -> Iterator[Record]:
    """Read a table with the columns "video" or "image", and "caption"; it may also have "start_s" and "end_s"."""
    for where, row in Table(file).rows("caption"):
        yield _record({name: value for name, value in row.items() if value or name == "caption"}, where, False)


def read_webvid(file: Path) -> Iterator[Record]:
    """Read WebVid's table: the video is page_dir/videoid.mp4, and the caption is the column "name"."""
    for where, row in Table(file).rows("videoid", "page_dir", "name"):
        if not row["videoid"]:
            raise AnnotationError(f'{where}: "videoid" is empty')
        yield Record(
            f"{row['page_dir'] or '.'}/{row['videoid']}.mp4".removeprefix("./"), row["videoid"], (row["name"],)
        )


def read_sentence_csv(file: Path) -> Iterator[Record]:
    """Read MSRVTT's table of the JSFusion test split: columns video_id (without suffix) and sentence."""
    for where, row in Table(file).rows("video_id", "sentence"):
        if not row["video_id"]:
            raise AnnotationError(f'{where}: "video_id" is empty')
        yield Record(row["video_id"], id_of(row["video_id"]), (row["sentence"],))


def read_lsmdc(file: Path) -> Iterator[Record]:
    """Read LSMDC's tables: no header, six columns separated by tabs, the clip first and the sentence last.

    Each clip is a file, in a folder for its film: `FILM_00.01.02.345-00.01.05.678` is in FILM.
    """
    for number, line in enumerate(read_lines(file), start=1):
        columns = line.rstrip("\r\n").split("\t")
        if columns == [""]:
            continue
        film, _, time = columns[0].rpartition("_")
        if len(columns) != _LSMDC_COLUMNS or not film or not time:
            raise AnnotationError(
                f"{file}: line {number} is not LSMDC's: expected clip, four times and a sentence, separated by tabs"
            )
        yield Record(f"{film}/{columns[0]}", columns[0], (columns[-1],))


def read_ids(file: Path) -> list[str]:
    """Read the list of a split.

    Args:
        file: one video per line, or a table with the column "video_id", maybe without other columns.

    Returns:
        The videos, as named in the list.
    """
    table = Table(file)
    if len(table.columns) > 1 and ("video_id" in table.columns or table.delimiter == ","):
        return [row["video_id"] for _, row in table.rows("video_id")]
    lines = [line.strip() for line in read_lines(file) if line.strip()]
    ids = lines[1:] if lines and lines[0] in ("video_id", "video", "id") else lines
    if not ids or any("\t" in line or line.startswith(("{", "[")) for line in ids):
        raise AnnotationError(f"{file}: not a list of videos: expected one name per line, or a column video_id")
    return ids


def _video_record(row: Any, where: str) -> Record:
    video, captions = values_of(row, ("video", "caption"), where)
    check_path(video, "video", where)
    return Record(str(PurePosixPath(video)), id_of(video), texts(captions, "caption", where))


def _record(row: Any, where: str, paragraphs: bool) -> Record:
    if not isinstance(row, dict):
        raise AnnotationError(f'{where} is {row!r:.60}: expected an object with "video" or "image", and "caption"')
    media: list[Media] = [kind for kind in ("video", "image") if kind in row]
    if len(media) != 1 or "caption" not in row:
        lacks = '"video" or "image"' if not media else '"caption"'
        problem = 'both "video" and "image"' if len(media) > 1 else f"no {lacks}"
        raise AnnotationError(f"{where} has {problem} (its keys: {', '.join(map(str, row)) or 'none'})")
    path = row[media[0]]
    check_path(path, media[0], where)
    captions = texts(row["caption"], "caption", where)
    if paragraphs:
        captions = (paragraph(captions),)
    start_s, end_s = (_seconds(row.get(name), name, where) for name in ("start_s", "end_s"))
    try:
        return Record(str(PurePosixPath(path)), id_of(path), captions, media[0], start_s, end_s)
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from None


def values_of(row: Any, keys: Sequence[str], where: str) -> list[Any]:
    """Return the values of some keys of a row.

    Args:
        row: one item of a JSON file.
        keys: the keys that it must have.
        where: file and row, the beginning of the error message.

    Raises:
        AnnotationError: the row is no object, or lacks a key.
    """
    if not isinstance(row, dict):
        raise AnnotationError(f"{where} is {row!r:.60}: expected an object with {', '.join(keys)}")
    for key in keys:
        if key not in row:
            raise AnnotationError(f'{where} has no "{key}" (its keys: {first_few(row)})')
    return [row[key] for key in keys]


def check_path(value: Any, key: str, where: str) -> None:
    """Raise AnnotationError unless the value of a key is a path. where: file and row, for the message."""
    if not isinstance(value, str) or not value.strip():
        raise AnnotationError(f'{where}: "{key}" is {value!r:.60}: expected a path')


def check_caption(caption: str, where: str) -> None:
    """Raise AnnotationError for a caption that cannot be a query. where: file and row, for the message."""
    if not caption.strip():
        raise AnnotationError(f"{where}: a blank caption: write one or remove the row")
    if not is_unicode(caption):
        raise AnnotationError(f"{where}: {caption!r:.60} holds half a surrogate pair")


def texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    """Return a text, or a list of texts, as a tuple.

    Args:
        value: the value in a row. Texts may be blank: `vmr-data check` lists blank texts, and `RecordTable` refuses
            them.
        key: its key, for the message.
        where: file and row, for the message.

    Raises:
        AnnotationError: the value is something else, or an empty list.
    """
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(text, str) for text in values):
        raise AnnotationError(f'{where}: "{key}" is {value!r:.60}: expected a text or a list of texts')
    return tuple(values)


def paragraph(sentences: tuple[str, ...]) -> str:
    """Join sentences to one caption, by a space as upstream does."""
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
