"""Folders with a subfolder for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from vmr.data.labels.places import SPLIT_FOLDERS, parse_split
from vmr.data.labels.rows import Row
from vmr.data.media import SUFFIXES
from vmr.errors import AnnotationError
from vmr.files import walk_files

_FRAME = re.compile(r"(img|image|frame)_?\d+\.(jpe?g|png)", re.IGNORECASE)


def split_folders(root: Path) -> dict[str, Path]:
    """Return the subfolders train, val and test that a folder has, by the split.

    Raises:
        AnnotationError: two of them are of one split, such as val and valid.
    """
    found: dict[str, Path] = {}
    for folder in class_folders(root):
        for split in (split for split, names in SPLIT_FOLDERS.items() if folder.name.lower() in names):
            other = found.setdefault(split, folder)
            if other != folder:
                raise AnnotationError(
                    f"{root}: {other.name} and {folder.name} are both of the split {split}: name one of the folders"
                )
    return found


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def folder_of_split(root: Path, split: str | None) -> tuple[Path, list[str]]:
    """Return the folder with the classes of a split, and the names of the classes of all splits.

    Where no split is named, a folder train, val or test beside other folders with clips is a class as they are, unless
    it has folders of its own: then `split` must say that it is a split.

    Args:
        root: a folder with classes, or with train, val and test that hold the classes.
        split: which of them; None where there is one at most.

    Raises:
        AnnotationError: there are several splits and none is named, or none where one is named, or no classes; or a
            folder may be a split or a class.
    """
    name, _ = parse_split(split)
    splits = split_folders(root) if name else _splits_apart(root)
    if name and name not in splits:
        there = f"it has {', '.join(splits)}" if splits else "it has no train, val or test"
        raise AnnotationError(f"{root}: no list and no folder of the split {name} ({there})")
    if not name and len(splits) > 1:
        raise AnnotationError(f"{root}: has {', '.join(splits)}: say which by split")
    folder = splits[name or next(iter(splits))] if splits else root
    names = sorted({one.name for each in splits.values() for one in class_folders(each)} if splits else set())
    names = names or [one.name for one in class_folders(folder)]
    if not names:
        raise AnnotationError(f"{folder}: no list of labels, and no folder for a class in it")
    return folder, names


def _splits_apart(root: Path) -> dict[str, Path]:
    """The folders of splits of a root, where no split is named: none if they are classes beside other classes."""
    splits = split_folders(root)
    beside = next((one for one in class_folders(root) if one not in splits.values() and _has_clip(one)), None)
    if not splits or beside is None:
        return splits
    for split, folder in splits.items():
        if class_folders(folder):
            raise AnnotationError(
                f"{root}: {folder.name} is a split or a class, since {beside.name} beside it holds clips too: name the "
                f"split {split} if it is one, or rename the folder if it is a class"
            )
    return {}


def _has_clip(folder: Path) -> bool:
    return any(_is_media(file.name) for file in walk_files(folder))


def tree_rows(folder: Path) -> Iterator[Row]:
    """Yield the clips below the folders of classes: videos, pictures, or folders of numbered frames.

    Hidden files, and files that are neither videos nor pictures, are passed over. A folder in the folder of a class
    that holds `img_00001.jpg`, `img_00002.jpg`, ... and nothing else is one video; the folder of a class itself is not.

    Args:
        folder: the folder of the classes.
    """
    for of_class in class_folders(folder):
        for parent, files in groupby(walk_files(of_class), lambda file: file.parent):
            media = [file for file in files if _is_media(file.name)]
            if media and parent != of_class and all(_FRAME.fullmatch(file.name) for file in media):
                yield Row(str(parent), str(parent.relative_to(folder)), (of_class.name,))
            else:
                yield from (Row(str(file), str(file.relative_to(folder)), (of_class.name,)) for file in media)


def _is_media(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES["video"] or suffix in SUFFIXES["image"]
