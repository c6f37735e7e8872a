"""The user's metadata of videos, from a table."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from vmr.errors import VmrError
from vmr.retrieval.legacy import require_database
from vmr.retrieval.storage.records import Video
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.upkeep.vector_files import require_arrow

_VIDEO = "video"  # the column that names a video


@dataclass(frozen=True)
class MetadataSet:
    """What was set.

    Attributes:
        num_videos: videos that were given metadata.
        unknown: names in the table that are of no video of the index.
    """

    num_videos: int
    unknown: tuple[str, ...]


def set_metadata(folder: Path, table: Path) -> MetadataSet:
    """Give videos of an index the values of a table, in one commit.

    Values with other keys stay; an empty cell or null removes a key.

    Args:
        folder: the folder of the index.
        table: see `read_table`.

    Raises:
        VmrError: the table cannot be read, names a video twice, or with a name that several videos have.
        IndexFileError: there is no index, it is damaged, or another process is writing it.
    """
    require_database(folder)
    rows = read_table(table)
    with IndexWriter(folder) as writer, writer.commit() as changes:
        videos = list(changes.snapshot.videos())
        by_name = _by_name(videos)
        given: dict[int, str] = {}
        unknown = []
        for name, values in rows.items():
            found = by_name.get(name, [])
            if not found:
                unknown.append(name)
                continue
            if len(found) > 1:
                both = " and ".join(video.file for video in found[:2])
                raise VmrError(f"{table}: {name} can be {both}: write the path")
            (video,) = found
            if video.id in given:
                raise VmrError(f"{table}: {given[video.id]} and {name} are the same video")
            given[video.id] = name
            kept = {**video.metadata, **values}
            changes.set_metadata(video.id, {key: value for key, value in kept.items() if value is not None})
    return MetadataSet(len(given), tuple(unknown))


def _by_name(videos: list[Video]) -> dict[str, list[Video]]:
    """Absolute path, relative path and name -> the videos; a longer one wins over a shorter."""
    found: dict[str, list[Video]] = {video.file: [video] for video in videos}
    for name_of in (lambda video: video.path, lambda video: Path(video.path).name):
        more: dict[str, list[Video]] = {}
        for video in videos:
            more.setdefault(name_of(video), []).append(video)
        found = more | found
    return found


def read_table(table: Path) -> dict[str, Mapping[str, Any]]:
    """Read a table of metadata.

    Args:
        table: a CSV file, whose texts become numbers, true and false where they look like them, a JSON list of objects,
            or a Parquet file. `video` is an absolute path, a path relative to a folder of the index, or the name of a
            file.

    Returns:
        Name of a video -> its values.

    Raises:
        VmrError: the table cannot be read, or names a video twice.
        MissingExtraError: the package that reads Parquet files is missing.
    """
    try:
        rows: Any = (
            _parquet_rows(table)
            if table.suffix == ".parquet"
            else json.loads(table.read_text(encoding="utf-8-sig"))
            if table.suffix == ".json"
            else _csv_rows(table)
        )
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise VmrError(f"{table}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(rows, list):
        raise VmrError(f"{table}: a list of objects is needed")
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get(_VIDEO), str):
            raise VmrError(f"{table}: row {number}: it has no text {_VIDEO}, which names a video")
        name = row.pop(_VIDEO)
        if name in found:
            raise VmrError(f"{table}: row {number}: {name} is there twice")
        found[name] = row
    return found


def _parquet_rows(table: Path) -> list[dict[str, Any]]:
    _, parquet, _ = require_arrow()
    with table.open("rb") as file:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return [{key: _as_json(value) for key, value in row.items()} for row in rows]


def _as_json(value: Any) -> Any:
    """A value of a Parquet file as JSON has it: dates and the like as texts, numbers that are none as null."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _csv_rows(table: Path) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline=""), strict=True)
    rows = []
    for number, row in enumerate(reader, start=1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has another number of values than the first line has names")
        rows.append({key: value if key == _VIDEO else _typed(value) for key, value in row.items()})
    return rows


def _typed(text: str) -> str | int | float | bool | None:
    """The value that a cell looks like."""
    stripped = text.strip()
    if stripped.lower() in ("", "true", "false"):
        return {"": None, "true": True, "false": False}[stripped.lower()]
    if stripped.lstrip("+-").startswith("0") and stripped.lstrip("+-")[1:2].isdigit():
        return text  # a number such as 007 is a name
    for kind in (int, float):
        try:
            number = kind(stripped)
        except ValueError:
            continue
        if math.isfinite(number) and "_" not in stripped:
            return number
    return text
