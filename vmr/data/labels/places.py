"""Which file of a folder is the list of a split, and where the clips of a list are."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from vmr.data.labels.rows import Row
from vmr.data.media import SUFFIXES, Media
from vmr.errors import AnnotationError

SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the subfolders of a split."""

_LIST_SUFFIXES = (".csv", ".txt", ".json", ".tsv", ".list")
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|training|val|valid|validation|validate|test|testing)(?:list)?(?![a-z])")
_TRIED = 20  # rows that are looked for to find the folder of the clips


def split_of(name: str) -> tuple[str, str] | None:
    """Tell which split a file holds by its name: `trainlist01.txt` is ("train", "1"), `k400_val.csv` is ("val", "").

    The last such word counts: `train_test.csv` is of the test. None if there is no such word.
    """
    stem = name.lower().rpartition(".")[0]
    words = list(_SPLIT_WORD.finditer(stem))
    if not words:
        return None
    word = words[-1][1]
    split = next(split for split, names in SPLIT_FOLDERS.items() if word.startswith(names[0]))
    number = re.match(r"_?(\d+)$", stem[words[-1].end() :])
    return split, str(int(number[1])) if number else ""


def parse_split(split: str | None) -> tuple[str, str]:
    """Return the parts of "train", "val2", ...: the split and its number; "" for what is not said.

    Raises:
        AnnotationError: there is no such split.
    """
    match = re.fullmatch(r"(train|val|test)(\d*)", split or "train")
    if match is None:
        raise AnnotationError(f"split is {split!r}: use train, val or test, with a number where there are several")
    return ("", "") if split is None else (match[1], match[2].lstrip("0"))


def lists_in(folder: Path, split: str | None) -> list[Path]:
    """Return the lists of a split in a folder, sorted; of all splits if `split` is None."""
    name, number = parse_split(split)
    found = []
    for file in sorted(folder.iterdir()):
        said = split_of(file.name) if file.suffix.lower() in _LIST_SUFFIXES and file.is_file() else None
        if said is not None and name in ("", said[0]) and number in ("", said[1]):
            found.append(file)
    return found


def media_of(rows: Sequence[Row]) -> Media:
    """Tell whether the rows of a list are videos or pictures, by the suffixes of their paths.

    Raises:
        AnnotationError: some are videos and some are pictures.
    """
    images = [row for row in rows if posixpath.splitext(row.path)[1].lower() in SUFFIXES["image"]]
    if images and len(images) < len(rows):
        other = next(row for row in rows if posixpath.splitext(row.path)[1].lower() not in SUFFIXES["image"])
        raise AnnotationError(
            f"{other.where}: {other.path!r:.80} is no picture, but {images[0].path!r:.80} is one: "
            "make a list of the pictures and a list of the videos"
        )
    return "image" if images else "video"


class ClipFolder:
    """The folder that the paths of a list are relative to. Each folder below it is listed once, and no file is opened.

    Args:
        path: the folder.
        media: what the clips are.
    """

    def __init__(self, path: Path, media: Media) -> None:
        self.path, self._suffixes = path, SUFFIXES[media]
        self._listed: dict[str, _Listing] = {}

    def find(self, row: Row) -> str | None:
        """Return the file, or the folder of frames, of a row; None if it is not there.

        Suffixes may be in another case, or absent from the list; then the most usual one is taken.
        """
        places = [posixpath.split(posixpath.join(self.path, path)) for path in (row.path, *row.others)]
        for folder, name in places:
            if name in self._listing(folder).names:
                return posixpath.join(folder, name)
        for folder, name in places:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in self._suffixes:
                found = self._listing(folder).of_stem.get(stem, {}).get(suffix.lower())
            else:
                there = self._listing(folder).of_stem.get(name, {})
                found = next((there[suffix] for suffix in self._suffixes if suffix in there), None)
            if found is not None:
                return posixpath.join(folder, found)
        return None

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listed:
            try:
                self._listed[folder] = _Listing(sorted(entry.name for entry in Path(folder).iterdir()))
            except OSError:
                self._listed[folder] = _Listing([])
        return self._listed[folder]


class _Listing:
    """The names in a folder, and those with a suffix by what is before it, and by the suffix in lower case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)
        self.of_stem: dict[str, dict[str, str]] = {}
        for name in names:
            stem, suffix = posixpath.splitext(name)
            self.of_stem.setdefault(stem, {})[suffix.lower()] = (
                name  # of a.MP4 and a.mp4 the latter, which is sorted last
            )


def find_clip_folder(rows: Sequence[Row], beside: Path, media: Media, list_name: str, *, next_to: bool) -> ClipFolder:
    """Find the folder that the paths of a list are relative to, where the user does not name it.

    It is the folder of the list, or, if none of the first clips is there, a folder in it.

    Args:
        rows: of the list, at least one.
        beside: the folder of the list.
        media: what the clips are.
        list_name: of the list, for messages.
        next_to: whether it may also be a folder next to that of the list, for data sets that are published so.

    Raises:
        AnnotationError: the clips are in several of these folders, or in none.
    """
    first = rows[:_TRIED]
    own = ClipFolder(beside, media)
    if any(own.find(row) for row in rows[:_TRIED]):
        return own
    parents = (beside, beside.resolve().parent) if next_to else (beside,)
    near = sorted({folder for parent in parents for folder in _folders(parent)})
    found = [one for folder in near if any((one := ClipFolder(folder, media)).find(row) for row in first)]
    if len(found) > 1:
        raise AnnotationError(
            f"{list_name}: its clips are in {found[0].path} and in {found[1].path}: say which by video_dir"
        )
    return found[0] if found else own


def _folders(parent: Path) -> list[Path]:
    try:
        return [folder for folder in parent.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    except OSError:
        return []
