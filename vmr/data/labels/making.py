"""From the rows of a list to a data set: numbers of classes, and files that are there."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from vmr.data.labels.label_set import LabelledItem, LabelSet, MissingFile
from vmr.data.labels.meaning import Meaning, Names, Source, find_meaning, label_numbers
from vmr.data.labels.places import ClipFolder, find_clip_folder, media_of
from vmr.data.labels.rows import Row
from vmr.data.views.trimmed import trimmed_clips
from vmr.errors import AnnotationError
from vmr.targets import Label, Target

_APART = ("ucf101", "hmdb51")  # these come with their lists in a folder of their own
_NAMED = 3  # how many missing files a note names

Numbers = tuple[float, ...]
"""Numbers of classes, or one number to predict."""


def make_label_set(
    source: Source,
    names: Names | None,
    target: Target | None,
    video_dir: Path | None,
    assumed: Target | None = None,
) -> LabelSet:
    """Make a data set of rows.

    Args:
        source: the rows.
        names: of the classes, and where they are from; None to take them from the rows.
        target: what a label is; None to find out.
        video_dir: the folder that paths are relative to; None to find it.
        assumed: what a label is where the rows leave it open; None for one class.

    Raises:
        AnnotationError: a label does not fit, two rows contradict each other, or no file is there.
    """
    rows = list(source.rows)
    if not rows:
        raise AnnotationError(f"{source.where}: an empty list: there are no clips with labels in it")
    meaning = find_meaning(rows, source, names, target, assumed)
    labels = [label_numbers(row, meaning) for row in rows]
    num_outputs = count_outputs(meaning, labels)
    rows, labels, repeated = _without_repeats(rows, labels)
    media = media_of(rows)
    if video_dir is None:
        folder = find_clip_folder(rows, source.beside, media, source.where, next_to=source.format in _APART)
    else:
        folder = ClipFolder(video_dir, media)
    items, missing = _items(rows, labels, folder, meaning.target, num_outputs)
    if not items:
        raise AnnotationError(
            f"{source.where}: none of its {len(rows)} files is in {folder.path}, first: {rows[0].path}; "
            "say where they are by video_dir"
        )
    notes = [*meaning.notes]
    if folder.path != source.beside and video_dir is None:
        notes.append(f"its files are in {folder.path}")
    if repeated:
        notes.append(f"{repeated} lines repeat others and count once")
    if missing:
        first = ", ".join(file.id for file in missing[:_NAMED])
        notes.append(f"{len(missing)} of {len(rows)} files are missing and left out, such as {first}")
    return LabelSet(
        items, meaning.classes, meaning.target, media, source.name,
        tuple(f"{source.name}: {note}" for note in notes), num_outputs, missing,
    )  # fmt: skip


def count_outputs(meaning: Meaning, labels: Sequence[Numbers]) -> int:
    """Return the number of outputs that the labels need: C.

    Args:
        meaning: of the labels.
        labels: all of them.
    """
    return meaning.num_outputs or 1 + int(max(number for numbers in labels for number in numbers))


def _without_repeats(rows: Sequence[Row], labels: Sequence[Numbers]) -> tuple[list[Row], list[Numbers], int]:
    """Leave out rows that say what an earlier row says, and count them."""
    kept: dict[str, int] = {}
    for number, row in enumerate(rows):
        first = kept.setdefault(_id_of(row.path), number)
        if set(labels[first]) != set(labels[number]):
            raise AnnotationError(
                f"{row.where}: {row.path} has the label {_written(row)}, but {_written(rows[first])} in "
                f"line {rows[first].where.rpartition(' ')[2]}: keep one"
            )
    chosen = kept.values()
    return [rows[number] for number in chosen], [labels[number] for number in chosen], len(rows) - len(kept)


def _items(
    rows: Sequence[Row], labels: Sequence[Numbers], folder: ClipFolder, target: Target, num_outputs: int
) -> tuple[list[LabelledItem], tuple[MissingFile, ...]]:
    """The items whose files are there, and the other files."""
    items: list[LabelledItem] = []
    missing: list[MissingFile] = []
    for row, numbers in zip(rows, labels, strict=True):
        if "://" in row.path:
            raise AnnotationError(f"{row.where}: {row.path!r:.80} is an address: copy the files, and list their paths")
        path, id = folder.find(row), _id_of(row.path)
        label = label_of(numbers, target, num_outputs)
        spans = () if row.duration_s is None else tuple(trimmed_clips(row.duration_s))
        if path is None:
            missing.append(MissingFile(id, label, len(items), spans))
        elif row.duration_s is None:
            items.append(LabelledItem(path, label, id))
        else:
            items += [LabelledItem(path, label, id, start_s, end_s) for start_s, end_s in spans]
    return items, tuple(missing)


def label_of(numbers: Numbers, target: Target, num_outputs: int) -> Label:
    """Return a label as training and evaluation use it.

    Args:
        numbers: of its classes, or the number to predict.
        target: what a label is.
        num_outputs: C.
    """
    if target == "regression":
        return numbers
    if target == "single":
        (number,) = numbers
        return int(number)
    return tuple(1.0 if number in numbers else 0.0 for number in range(num_outputs))


def _written(row: Row) -> str:
    return ";".join(row.labels) or "[], for no class"


def _id_of(path: str) -> str:
    return posixpath.normpath(path)
