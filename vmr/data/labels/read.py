"""Reading of a data set with labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vmr.data.annotations.json_list import first_character
from vmr.data.annotations.locator import require_data_folder
from vmr.data.annotations.tables import Table
from vmr.data.labels.class_names import BESIDE, read_class_names
from vmr.data.labels.label_set import LabelSet
from vmr.data.labels.lvu import lvu_task
from vmr.data.labels.making import make_label_set
from vmr.data.labels.meaning import Names, Source, given_names
from vmr.data.labels.places import lists_in, parse_split
from vmr.data.labels.published import (
    describe_keys,
    hmdb_lists,
    keys_of_first_row,
    read_diving,
    read_hmdb,
    read_json_rows,
    read_kinetics_table,
    read_something,
    read_table,
    read_ucf,
)
from vmr.data.labels.rows import (
    Row,
    format_of_lines,
    read_comma_list,
    read_frames_list,
    read_space_list,
    read_trimmed_list,
)
from vmr.data.labels.trees import folder_of_split, tree_rows
from vmr.errors import AnnotationError
from vmr.targets import Target

_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "comma": read_comma_list,
    "trimmed": read_trimmed_list,
    "space": read_space_list,
    "frames": read_frames_list,
    "table": read_table,
    "json": read_json_rows,
    "something": read_something,
    "ucf101": read_ucf,
    "diving48": read_diving,
}
FORMATS = (*_READERS, "kinetics", "hmdb51", "folders")
"""Names of the formats: comma (`path,label`), trimmed (`path,label,seconds`), space (`path label`), frames (`folder
frames label`), table (columns video and label), json (keys video and label), the published files of something
(-something), ucf101, diving48, kinetics and hmdb51, and folders (a subfolder for each class)."""

_UCF_LIST = re.compile(r"(train|test)list\d+\.txt", re.IGNORECASE)
_KEYS_OF = {"something": ({"id", "template"},), "diving48": ({"vid_name", "label"},)}
_BY_NAME = (
    "kinetics",
    "something",
    "ucf101",
    "hmdb51",
    "folders",
)  # labels of these are names, even if they are digits


def read_labels(
    place: str | Path,
    format: str = "auto",
    *,
    video_dir: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    target: Target | None = None,
    split: str | None = None,
    assumed: Target | None = None,
) -> LabelSet:
    """Read a list of labels, or a folder that holds such lists, or a folder with a subfolder for each class.

    Labels that are numbers count from 0. Labels that are names are numbered by `classes`; without it by a file of
    classes beside the list (labels.json, classInd.txt, Diving48_vocab.json, classes.txt or classes.json); without one
    in the order of the alphabet, of the names in the list, or of the folders in train, val and test together. The notes
    of the result say which.

    Lists in a folder that is named like a task of LVU (relation, speak, scene, director, genre, writer, year, like,
    view) have its number of classes; like and view are regressions, unless their labels are names or `classes` names
    them.

    Args:
        place: the file or the folder.
        format: one of FORMATS; "auto" finds it from the content.
        video_dir: the folder that paths of the list are relative to. None for the folder of the list; if the clips are
            not there, a folder in it that has them. For UCF101 and HMDB51 also a folder next to it.
        classes: names of the classes by number, or a file with them, see `read_class_names`.
        target: what a label is. None to find out: one class, unless the list says something else.
        split: "train", "val" or "test": which list or subfolder of a folder; "train2" for the second of several. None
            where there is only one.
        assumed: what a label is where neither `target` nor the list says it: a list of numbers may name classes or
            numbers to predict, and one with a class for each clip may allow several. None for one class.

    Returns:
        The items whose files are there, with what their labels mean. Files are looked up, but not opened.

    Raises:
        AnnotationError: the list does not follow its format, a label is none of the classes, no file is there, ... The
            message is one line that names file and line, and says what to do.
    """
    place = Path(place)
    if format != "auto" and format not in FORMATS:
        raise AnnotationError(f"no format of labels {format!r}: choose auto, {', '.join(FORMATS)}")
    if not place.exists():
        raise AnnotationError(f"{place}: no such file or folder")
    parse_split(split)
    if video_dir is not None:
        require_data_folder(video_dir)
    source = _folder_source(place, format, split) if place.is_dir() else _file_source(place, format, split)
    names = given_names(classes)
    if names is None and source.format != "folders":
        names = _names_beside(place if place.is_dir() else place.parent)
    return make_label_set(source, names, target, None if video_dir is None else Path(video_dir), assumed)


def _names_beside(folder: Path) -> Names | None:
    """The names of the classes in a file that stands beside a list, and which file."""
    files = (folder / name for name in BESIDE)
    return next(((read_class_names(file), str(file)) for file in files if file.is_file()), None)


def _folder_source(folder: Path, format: str, split: str | None) -> Source:
    """What a folder holds: lists, HMDB51's lists, or a subfolder for each class."""
    lists = lists_in(folder, split)
    by_number = hmdb_lists(folder)
    if format == "hmdb51" or (format == "auto" and by_number):
        return _hmdb_source(folder, by_number, split)
    if format == "folders" or (format == "auto" and not lists):
        inside, names = folder_of_split(folder, split)
        return Source(tree_rows(inside), str(inside), folder.name, "folders", inside, class_names=tuple(names))
    if len(lists) == 1:
        return _file_source(lists[0], format, split)
    if not lists:
        raise AnnotationError(f"{folder}: no list of the split {split or 'train, val or test'} in it: name the file")
    several = ", ".join(file.name for file in lists[:4])
    how = "name the file" if split else "say which by split, or name the file"
    raise AnnotationError(f"{folder}: holds {several}{', ...' if len(lists) > 4 else ''}: {how}")


def _hmdb_source(folder: Path, by_number: dict[int, list[Path]], split: str | None) -> Source:
    name, number = parse_split(split)
    if not by_number:
        raise AnnotationError(f"{folder}: no list of HMDB51 (CLASS_test_split1.txt) in it")
    if not name or (not number and len(by_number) > 1):
        raise AnnotationError(f"{folder}: holds splits of HMDB51: say which by split, such as train1 or test1")
    chosen = int(number or next(iter(by_number)))
    if chosen not in by_number:
        raise AnnotationError(f"{folder}: has no split {chosen} of HMDB51 (it has {', '.join(map(str, by_number))})")
    names = tuple(file.name.rpartition("_test_split")[0] for file in by_number[chosen])
    rows = read_hmdb(by_number[chosen], name)
    return Source(rows, str(folder), f"{folder.name}:{split}", "hmdb51", folder, class_names=names)


def _file_source(file: Path, format: str, split: str | None) -> Source:
    kind = _format_of(file) if format == "auto" else format
    if kind in ("folders", "hmdb51"):
        raise AnnotationError(f"{file}: is a file, but format {kind} is a folder: name the folder")
    rows = read_kinetics_table(file, parse_split(split)[0]) if kind == "kinetics" else _READERS[kind](file)
    name = f"{file.parent.name}/{file.name}" if file.parent.name else file.name
    task = lvu_task(file.parent.name) if kind in ("comma", "trimmed") else None
    return Source(rows, str(file), name, kind, file.parent, by_name=kind in _BY_NAME, lvu=task)


def _format_of(file: Path) -> str:
    """Find the format of a file from its content; UCF101's lists, which look like others, by their names."""
    if file.suffix.lower() == ".json":
        if first_character(file) != "[":
            raise AnnotationError(f"{file}: expected a list of rows; a file of class names goes to `classes`")
        keys = keys_of_first_row(file)
        if found := [kind for kind, options in _KEYS_OF.items() if any(needed <= keys for needed in options)]:
            return found[0]
        if "label" in keys:
            return "json"
        raise AnnotationError(f"{file}: cannot tell its format by its keys ({describe_keys(keys)}): is there a label?")
    table = Table(file)
    if _UCF_LIST.fullmatch(file.name) or ((file.parent / "classInd.txt").is_file() and "," not in table.first_line):
        return "ucf101"
    columns = set(table.columns)
    if "label" in columns and columns & {"youtube_id", "video", "image", "path"}:
        return "kinetics" if "youtube_id" in columns else "table"
    if "youtube_id" in columns:
        raise AnnotationError(f"{file}: has no column 'label': a list of a hidden test has no labels")
    return format_of_lines(file)
