"""Annotation files: from the file that a data set comes with to records.

Published files are read by the usual conventions: MSRVTT, MSVD, ActivityNet and DiDeMo as in
albanie/collaborative-experts, LSMDC and WebVid as in m-bain/frozen-in-time, VATEX as released.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.annotations.json_list import first_character, json_items
from vmr.data.annotations.records import Record, id_of
from vmr.data.annotations.rows import (
    paragraph,
    read_csv,
    read_ids,
    read_json,
    read_json_lines,
    read_lsmdc,
    read_sentence_csv,
    read_webvid,
    texts,
    values_of,
)
from vmr.data.annotations.tables import Table, first_few
from vmr.data.annotations.text_files import read_lines
from vmr.errors import AnnotationError

_DIDEMO_SEGMENT_S = 5.0  # length in seconds of the pieces that DiDeMo's annotators chose among
_LSMDC_TABS = 5
_TABLES = (".csv", ".tsv", ".txt")


def read_annotations(file: str | Path, kind: str = "auto", only: str | Path | None = None) -> Iterator[Record]:
    """Read an annotation file.

    Args:
        file: the file.
        kind: its format, one of KINDS; "auto" finds the format from the file's content. "json" takes a list of texts
            for several captions, "json_paragraphs" for the parts of one caption. "activitynet" and "didemo" join the
            sentences about a video to one caption, as in paragraph retrieval; "activitynet_sentences" and
            "didemo_sentences" keep each sentence and its moment.
        only: a list of the videos to keep (a split): one name per line, or a table with the column video_id.

    Returns:
        The records in the order of the file. A video whose captions are in several places may come several times.
        Captions are kept unchanged, even blank ones.

    Raises:
        AnnotationError: the file does not follow the format (some errors are found only when their row is reached), it
            could be of several kinds, or it lacks videos that `only` names (found at the end). The message names the
            file and the row or key.
    """
    file = Path(file)
    if kind == "auto":
        kind = _kind_of(file)
    if kind not in KINDS:
        raise AnnotationError(f"no annotation format {kind!r}: choose auto, {', '.join(KINDS)}")
    records = _not_empty(KINDS[kind](file), file)
    return records if only is None else _keep(records, file, Path(only), read_ids(Path(only)))


def _not_empty(records: Iterator[Record], file: Path) -> Iterator[Record]:
    first = next(records, None)
    if first is None:
        raise AnnotationError(f"{file}: there are no captions in it")
    yield first
    yield from records


def _keep(records: Iterator[Record], file: Path, only: Path, names: list[str]) -> Iterator[Record]:
    """Keep the listed videos: a name with a suffix means that file, a name without suffix any file of that id."""
    wanted = {PurePosixPath(name).name for name in names}
    ids = {id_of(name) for name in names}
    found = set()
    for record in records:
        name = PurePosixPath(record.path).name
        # A record without a suffix means any file with its id.
        if name in wanted or record.id in wanted or (name == record.id and name in ids):
            found.add(record.id)
            yield record
    missing = [name for name in names if id_of(name) not in found]
    if missing:
        raise AnnotationError(f"{file}: lacks {len(missing)} of the {len(names)} videos in {only}, first: {missing[0]}")


def _kind_of(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix in _TABLES:
        return _kind_of_table(file)
    if suffix == ".json":
        return _kind_of_json(file)
    raise AnnotationError(f"{file}: cannot tell its format: give its kind, one of {', '.join(KINDS)}")


def _kind_of_table(file: Path) -> str:
    table = Table(file)
    first, columns = table.first_line, set(table.columns)
    needed = {
        "csv": "caption" in columns and bool(columns & {"video", "image"}),
        "webvid": {"videoid", "page_dir", "name"} <= columns,
        "msrvtt": {"video_id", "sentence"} <= columns,
        "lsmdc": first.count("\t") == _LSMDC_TABS and not columns & {"caption", "sentence"},
    }
    kinds = [kind for kind, fits in needed.items() if fits]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise AnnotationError(
            f"{file}: could be {' or '.join(kinds)} (columns {first_few(sorted(columns))}): give its kind"
        )
    if len(columns) == 1 and " " not in first.strip():
        raise AnnotationError(
            f"{file}: names videos but holds no captions: give the file of captions, and this as `only`"
        )
    raise AnnotationError(
        f"{file}: cannot tell its format by its first line: expected the columns video (or image) and caption, "
        "videoid, page_dir and name (WebVid), video_id and sentence (MSRVTT), or LSMDC's six"
    )


def _kind_of_json(file: Path) -> str:
    if first_character(file) == "[":
        first = next(json_items(file))
        keys = first.keys() if isinstance(first, dict) else set()
        kinds = [kind for kind, needed in _KEYS_OF_ROW.items() if any(need <= keys for need in needed)]
        if len(kinds) > 1:
            raise AnnotationError(f"{file}: could be {' or '.join(kinds)} (keys {first_few(keys)}): give its kind")
        return kinds[0] if kinds else "json"  # the reader of this format reports what is wrong with the row
    content = _load(file)
    if isinstance(content.get("sentences"), list):
        return "msrvtt"
    value = next(iter(content.values()), None)
    if isinstance(value, dict) and "sentences" in value:
        return "activitynet"
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return "msvd"
    raise AnnotationError(
        f"{file}: cannot tell its format by its keys ({first_few(content)}): expected a list of rows, "
        'or an object as of MSRVTT ("sentences"), ActivityNet or MSVD'
    )


_KEYS_OF_ROW = {
    "json": ({"video", "caption"}, {"image", "caption"}),
    "didemo": ({"video", "description", "times"},),
    "vatex": ({"videoID"},),
}


# Files of published data sets are small enough to be read as a whole.

_NAMES: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}


def _load(file: Path, expected: type = dict) -> Any:
    try:
        content = json.loads("".join(read_lines(file)))
    except (ValueError, RecursionError) as error:
        if not isinstance(error, json.JSONDecodeError):
            raise AnnotationError(f"{file}: not JSON: {error}") from None
        hint = " (JSON lines are kind jsonl)" if error.msg == "Extra data" else ""
        raise AnnotationError(f"{file}: line {error.lineno} is not JSON: {error.msg}{hint}") from None
    if not isinstance(content, expected):
        raise AnnotationError(
            f"{file}: holds {_NAMES.get(type(content), 'a value')}: this format is {_NAMES[expected]}"
        )
    return content


def _value(row: Any, key: str, kind: type, where: str) -> Any:
    (value,) = values_of(row, (key,), where)
    if not isinstance(value, kind) or not value:
        raise AnnotationError(f'{where}: "{key}" is {value!r:.60}: expected {_NAMES[kind]} that is not empty')
    return value


def _read_msrvtt(file: Path) -> Iterator[Record]:
    """The 20 captions of each video from "sentences" (MSRVTT_data.json), or the table of the test split."""
    if file.suffix.lower() in _TABLES:
        yield from read_sentence_csv(file)
        return
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(_value(_load(file), "sentences", list, str(file)), start=1):
        where = f'{file}: "sentences" {number}'
        (caption,) = texts(_value(row, "caption", str, where), "caption", where)
        captions.setdefault(_value(row, "video_id", str, where), []).append(caption)
    for video, of_video in captions.items():
        yield Record(video, id_of(video), tuple(of_video))


def _read_msvd(file: Path) -> Iterator[Record]:
    """Video -> its captions."""
    for video, captions in _load(file).items():
        yield Record(video, id_of(video), texts(captions, video, str(file)))


def _read_vatex(file: Path) -> Iterator[Record]:
    """The ten English captions of each clip; the file of the hidden test set has none."""
    for number, row in enumerate(_load(file, list), start=1):
        where = f"{file}: row {number}"
        video = _value(row, "videoID", str, where)
        yield Record(video, id_of(video), texts(_value(row, "enCap", list, where), "enCap", where))


def _read_activitynet(file: Path, sentences: bool = False) -> Iterator[Record]:
    """Video -> {"duration", "timestamps": [[start, end], ...], "sentences"}."""
    for video, row in _load(file).items():
        where = f"{file}: {video}"
        spoken = texts(_value(row, "sentences", list, where), "sentences", where)
        if not sentences:
            yield Record(video, id_of(video), (paragraph(spoken),))
            continue
        times = _value(row, "timestamps", list, where)
        if len(times) != len(spoken):
            raise AnnotationError(f"{where} has {len(times)} timestamps for {len(spoken)} sentences")
        for text, (start_s, end_s) in zip(spoken, (_span(time, where) for time in times), strict=True):
            yield Record(video, id_of(video), (text.strip(),), "video", start_s, end_s)


def _read_didemo(file: Path, sentences: bool = False) -> Iterator[Record]:
    """Rows of {"video", "description", "times": [[first piece, last piece], ...]}, times by one annotator each."""
    of_video: dict[str, list[str]] = {}
    for number, row in enumerate(_load(file, list), start=1):
        where = f"{file}: row {number}"
        video, text = _value(row, "video", str, where), _value(row, "description", str, where)
        if not sentences:
            of_video.setdefault(video, []).append(text)
            continue
        spans = Counter(_span(time, where) for time in _value(row, "times", list, where))
        ((first, last), _), *_ = spans.most_common(1)  # among spans that were named equally often, the first one
        start_s, end_s = first * _DIDEMO_SEGMENT_S, (last + 1) * _DIDEMO_SEGMENT_S
        yield Record(video, id_of(video), (text,), "video", start_s, end_s)
    for video, spoken in of_video.items():
        yield Record(video, id_of(video), (paragraph(tuple(spoken)),))


def _span(time: Any, where: str) -> tuple[float, float]:
    """A pair of numbers, the smaller one first: a few of ActivityNet's moments end before they begin."""
    if not (isinstance(time, list) and len(time) == 2 and all(isinstance(t, int | float) and t >= 0 for t in time)):
        raise AnnotationError(f"{where}: {time!r:.60} is no start and end")
    return min(time), max(time)


KINDS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "json": read_json,
    "json_paragraphs": partial(read_json, paragraphs=True),
    "jsonl": read_json_lines,
    "csv": read_csv,
    "webvid": read_webvid,
    "msrvtt": _read_msrvtt,
    "msvd": _read_msvd,
    "vatex": _read_vatex,
    "activitynet": _read_activitynet,
    "activitynet_sentences": partial(_read_activitynet, sentences=True),
    "didemo": _read_didemo,
    "didemo_sentences": partial(_read_didemo, sentences=True),
    "lsmdc": read_lsmdc,
}
"""The formats by name, each with the function that reads it."""
