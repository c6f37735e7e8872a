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
    """Return the subfolders train, val and test that a folder has, by the split."""
    there = {folder.name.lower(): folder for folder in root.iterdir() if folder.is_dir()}
    named = {split: [there[name] for name in names if name in there] for split, names in SPLIT_FOLDERS.items()}
    return {split: folders[0] for split, folders in named.items() if folders}


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def folder_of_split(root: Path, split: str | None) -> tuple[Path, list[str]]:
    """Return the folder with the classes of a split, and the names of the classes of all splits.

    Args:
        root: a folder with classes, or with train, val and test that hold the classes.
        split: which of them; None where there is one at most.

    Raises:
        AnnotationError: there are several splits and none is named, or none where one is named, or no classes.
    """
    splits = split_folders(root)
    name, _ = parse_split(split)
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
                yield Row(str(parent), str(parent.relative_to(folder)), (of_class.name,), num_frames=len(media))
            else:
                yield from (Row(str(file), str(file.relative_to(folder)), (of_class.name,)) for file in media)


def _is_media(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES["video"] or suffix in SUFFIXES["image"]
