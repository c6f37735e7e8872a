"""The files with which Kinetics, Something-Something, UCF101, HMDB51 and Diving48 are published, and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.annotations.json_list import json_items
from vmr.data.annotations.tables import Table, first_few
from vmr.data.annotations.text_files import read_lines
from vmr.data.labels.rows import Row, labels_in
from vmr.errors import AnnotationError

_CLIP_COLUMNS = ("video", "image", "path")
_HMDB_LIST = re.compile(r"(?P<name>.+)_test_split(?P<number>\d+)\.txt", re.IGNORECASE)
_SPLIT_NAMES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def read_kinetics_table(file: Path, split: str = "") -> Iterator[Row]:
    """Read the official table of K400, K600 or K700: label, youtube_id, time_start, time_end, split.

    A file is found as `label/id_000010_000020.mp4`, the usual name of a download, or without its folder, or without the
    times, or with underscores for the spaces of the label. It is taken as a whole: downloads are cut already.

    Args:
        file: the table.
        split: "train", "val" or "test": other rows are left out, if the table has a column `split`; "" for all rows.

    Raises:
        AnnotationError: a column is missing, or a time is no number.
    """
    table = Table(file)
    for where, row in table.rows("label", "youtube_id", "time_start", "time_end"):
        if split and "split" in row and row["split"] not in _SPLIT_NAMES[split]:
            continue
        label, video = row["label"].strip(), row["youtube_id"].strip()
        if not label or not video:
            raise AnnotationError(f"{where}: has no {'youtube_id' if label else 'label'}")
        try:
            start, end = (round(float(row[name])) for name in ("time_start", "time_end"))
        except (ValueError, OverflowError):
            raise AnnotationError(f"{where}: time_start and time_end must be seconds") from None
        timed = f"{video}_{start:06}_{end:06}"
        folders = dict.fromkeys([label, label.replace(" ", "_")])
        names = [f"{folder}/{name}" for name in (timed, video) for folder in folders]
        yield Row(where, f"{names[0]}.mp4", (label,), others=(*names, timed, video))


def read_table(file: Path) -> Iterator[Row]:
    """Read a table with the columns video (or image, or path) and label; several labels are parted by semicolons.

    Raises:
        AnnotationError: a column is missing, or a value is empty.
    """
    table = Table(file)
    column = next((name for name in _CLIP_COLUMNS if name in table.columns), _CLIP_COLUMNS[0])
    for where, row in table.rows(column, "label"):
        if not row[column].strip():
            raise AnnotationError(f"{where}: has no {column}")
        yield Row(where, row[column].strip(), labels_in(row["label"], where))


def read_json_rows(file: Path) -> Iterator[Row]:
    """Read a JSON list of {"video" (or "image", "path"): path, "label": name, number, or a list of them}.

    An empty list says that a clip is of no class.

    Raises:
        AnnotationError: a row lacks a key, or its label is something else.
    """
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        path = next((row[key] for key in _CLIP_COLUMNS if key in row), None) if isinstance(row, dict) else None
        if not isinstance(path, str) or not path:
            raise AnnotationError(f'{where} has no "video", "image" or "path"')
        said = row.get("label")
        labels = said if isinstance(said, list) else [said]
        if not all(isinstance(label, str | int | float) and not isinstance(label, bool) for label in labels):
            raise AnnotationError(f'{where}: "label" is {said!r:.60}: expected a name, a number, or a list of them')
        yield Row(where, path, tuple(map(str, labels)))


def read_something(file: Path) -> Iterator[Row]:
    """Read the official list of Something-Something V2: {"id", "template", ...}; a clip is found as `id.webm`.

    Raises:
        AnnotationError: a row lacks a key. The list of the hidden test has no templates.
    """
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        video, template = (row.get(key) if isinstance(row, dict) else None for key in ("id", "template"))
        if not isinstance(video, str | int) or not isinstance(template, str):
            raise AnnotationError(f'{where} needs "id" and "template"; lists without templates have no labels')
        yield Row(where, f"{video}.webm", (re.sub(r"[\[\]]", "", template),), others=(str(video),))


def read_diving(file: Path) -> Iterator[Row]:
    """Read the list of Diving48: {"vid_name", "label"}; a clip is found as `vid_name.mp4`.

    Raises:
        AnnotationError: a row lacks a key.
    """
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        video, label = (row.get(key) if isinstance(row, dict) else None for key in ("vid_name", "label"))
        if not isinstance(video, str) or not isinstance(label, int):
            raise AnnotationError(f'{where} needs "vid_name" and "label", a number')
        yield Row(where, f"{video}.mp4", (str(label),), others=(video,))


def read_ucf(file: Path) -> Iterator[Row]:
    """Read a split of UCF101: `Class/v_Class_g01_c01.avi`, and in training lists the class from 1, which is not used.

    Raises:
        AnnotationError: a line is not so.
    """
    for number, line in enumerate(read_lines(file), start=1):
        if not (text := line.strip()):
            continue
        match = re.fullmatch(r"(?P<path>.*?)(\s+\d+)?", text)
        folder = PurePosixPath(match["path"]).parent.name if match else ""
        if match is None or not folder:
            raise AnnotationError(f"{file}: line {number}: {text!r:.80} is no `Class/video.avi`")
        yield Row(f"{file}: line {number}", match["path"], (folder,))


def hmdb_lists(folder: Path) -> dict[int, list[Path]]:
    """Return the lists of HMDB51 in a folder, by the number of the split: one list a class, `name_test_split1.txt`."""
    found: dict[int, list[Path]] = {}
    for file in sorted(folder.glob("*.txt")):
        if match := _HMDB_LIST.fullmatch(file.name):
            found.setdefault(int(match["number"]), []).append(file)
    return found


def read_hmdb(files: list[Path], split: str) -> Iterator[Row]:
    """Read one split of HMDB51: `video.avi 1` is for training, 2 for testing, and 0 for neither.

    Args:
        files: a list for each class, see `hmdb_lists`.
        split: "train" or "test".

    Raises:
        AnnotationError: a line is not so, or there is no such split.
    """
    wanted = {"train": "1", "test": "2"}.get(split)
    if wanted is None:
        raise AnnotationError(f"{files[0].parent}: HMDB51 has train and test, no {split}")
    for file in files:
        match = _HMDB_LIST.fullmatch(file.name)
        assert match is not None  # see hmdb_lists
        name = match["name"]
        for number, line in enumerate(read_lines(file), start=1):
            if not (text := line.strip()):
                continue
            video, _, use = text.rpartition(" ")
            if use not in ("0", "1", "2") or not video.strip():
                raise AnnotationError(f"{file}: line {number}: {text!r:.80} is no `video.avi` with 0, 1 or 2")
            if use == wanted:
                path = f"{name}/{video.strip()}"
                yield Row(f"{file}: line {number}", path, (name,), others=(video.strip(),))


def keys_of_first_row(file: Path) -> set[str]:
    """Return the keys of the first row of a JSON list, to tell its format.

    Raises:
        AnnotationError: the file is no list of rows.
    """
    first: Any = next(json_items(file))
    if not isinstance(first, dict):
        raise AnnotationError(f"{file}: row 1 is {json.dumps(first)[:60]}: expected keys, such as video and label")
    return set(first)


def describe_keys(keys: set[str]) -> str:
    """Return keys in alphabetical order, the first few of them, for a message."""
    return first_few(sorted(keys))
