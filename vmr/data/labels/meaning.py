"""What the labels of a list mean: names or numbers of classes, several of them, or numbers to predict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from vmr.data.labels.class_names import check_names, read_class_names, sorted_names, unknown_name
from vmr.data.labels.lvu import LvuTask
from vmr.data.labels.rows import Row
from vmr.errors import AnnotationError
from vmr.targets import Target

Names = tuple[tuple[str, ...], str]
"""Names of classes by number, and what says so."""

MAX_CLASSES = 1_000_000
"""A number that is not below this is taken for a mistake, such as a date in the place of a label."""


@dataclass(frozen=True)
class Source:
    """The rows of a data set, and what its format says of them.

    Attributes:
        rows: as they are written.
        where: the file or folder, for messages.
        name: what messages call the data set.
        format: one of FORMATS.
        beside: the folder that paths are relative to, or near which it is.
        by_name: whether labels are names, even if they are digits.
        class_names: all names that labels may have, where the folders say so.
        lvu: the task of LVU that the folder of the list names.
    """

    rows: Iterator[Row]
    where: str
    name: str
    format: str
    beside: Path
    by_name: bool = False
    class_names: tuple[str, ...] | None = None
    lvu: LvuTask | None = None


@dataclass(frozen=True)
class Meaning:
    """What labels mean.

    Attributes:
        target: of the set.
        classes: their names, or None.
        num_outputs: how many classes, or 1; 0 for as many as the largest label asks for.
        by_name: whether labels are names.
        notes: where this is from.
        numbers: the number of each name; empty unless `by_name`.
    """

    target: Target
    classes: tuple[str, ...] | None
    num_outputs: int
    by_name: bool
    notes: tuple[str, ...]
    numbers: Mapping[str, int] = field(default_factory=dict)


def given_names(classes: str | Path | Sequence[str] | None) -> Names | None:
    """Return the names of classes that a user gives, as names or as a file of them; None if none are given.

    Args:
        classes: see `vmr.data.labels.read.read_labels`.

    Raises:
        AnnotationError: a name is blank or comes twice, or the file is refused.
    """
    if classes is None:
        return None
    if isinstance(classes, str | Path):
        return read_class_names(classes), str(classes)
    return check_names(classes, "classes"), "the given order"


def find_meaning(
    rows: Sequence[Row],
    source: Source,
    names: Names | None,
    target: Target | None,
    assumed: Target | None = None,
) -> Meaning:
    """Find out what labels mean.

    Args:
        rows: at least one.
        source: of the rows.
        names: of the classes, and where they are from; None to take them from the rows.
        target: what a label is; None to find out.
        assumed: what a label is where the rows leave it open; None for one class.

    Raises:
        AnnotationError: the rows do not fit the target, or none has a label and nothing names the classes.
    """
    if target is not None and target not in get_args(Target):
        raise AnnotationError(f"target is {target!r}: use {', '.join(get_args(Target))}")
    lvu = source.lvu
    several = next((row for row in rows if len(row.labels) != 1), None)
    if target == "single" and several is not None:
        raise AnnotationError(f"{several.where}: has {len(several.labels)} labels, but target is single; use multi")
    if target is None:
        target = "multi" if several is not None else _target_of(rows[0], source, names, assumed)
    if target == "regression":
        about = (f"a regression, as the folder {lvu.name} says",) if lvu and not lvu.num_classes else ()
        return Meaning("regression", None, 1, False, about)
    labelled = [row for row in rows if row.labels]
    if not labelled and names is None:
        raise AnnotationError(f"{source.where}: no row has a label: say which classes there are by classes")
    if not source.by_name and source.class_names is None:
        looked_at = labelled if names is None else labelled[:1]  # one number says that all should be, unless named
        if not labelled or any(_is_number(row.labels) for row in looked_at):
            return _of_numbers(source, names, target)
        if names is None and all(_is_fraction(label) for label in labelled[0].labels):
            raise AnnotationError(
                f"{labelled[0].where}: label {labelled[0].labels[0]!r:.60} is no class: for numbers to predict use "
                "target=regression"
            )
    if names is None:
        found = source.class_names or sorted_names(label for row in rows for label in row.labels)
        order = "the folders" if source.class_names else "the list"
        names = sorted_names(found), f"the names of {order}, sorted"
    classes, origin = names
    numbers = {name: number for number, name in enumerate(classes)}
    return Meaning(target, classes, len(classes), True, (f"{len(classes)} classes, numbered by {origin}",), numbers)


def _target_of(first: Row, source: Source, names: Names | None, assumed: Target | None) -> Target:
    """What a label is where each row has one, by the first row; `assumed` decides what that leaves open."""
    if names is None and not source.by_name and source.class_names is None and _is_value(first.labels[0]):
        is_lvu = source.lvu is not None and not source.lvu.num_classes
        if is_lvu or assumed == "regression" or (assumed is not None and _is_fraction(first.labels[0])):
            return "regression"
    return "multi" if assumed == "multi" else "single"


def _of_numbers(source: Source, names: Names | None, target: Target) -> Meaning:
    """The meaning of labels that are numbers of classes."""
    lvu = source.lvu
    if names is not None:
        classes, origin = names
        return Meaning(target, classes, len(classes), False, (f"{len(classes)} classes, named by {origin}",))
    if lvu is not None and lvu.num_classes:
        note = f"{lvu.num_classes} classes, as LVU's task {lvu.name} has"
        return Meaning(target, None, lvu.num_classes, False, (note,))
    return Meaning(target, None, 0, False, ("labels are numbers without names; classes=FILE would name them",))


def _is_number(labels: tuple[str, ...]) -> bool:
    return all(label.lstrip("+-").isdecimal() for label in labels)


def _is_value(label: str) -> bool:
    """Whether a label may be a number to predict."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _is_fraction(label: str) -> bool:
    return re.fullmatch(r"[+-]?\d*\.\d+(e[+-]?\d+)?", label, re.IGNORECASE) is not None


def label_numbers(row: Row, meaning: Meaning) -> tuple[float, ...]:
    """Return the numbers of the classes of a row, or the one number of a regression.

    Raises:
        AnnotationError: a label is none of the classes, or no number.
    """
    if meaning.target == "regression":
        try:
            (value,) = map(float, row.labels)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise AnnotationError(f"{row.where}: label {';'.join(row.labels)!r:.60} is no number to predict")
        return (value,)
    return tuple(_class_number(label, row.where, meaning) for label in row.labels)


def _class_number(label: str, where: str, meaning: Meaning) -> int:
    if meaning.by_name:
        try:
            return meaning.numbers[label]
        except KeyError:
            raise unknown_name(label, tuple(meaning.numbers), where) from None
    if not label.isdecimal():
        if _is_number((label,)):
            raise AnnotationError(f"{where}: label {label} is negative: classes are numbered from 0")
        raise AnnotationError(
            f"{where}: label {label!r:.60} is no number of a class, which other lines have; "
            "for numbers to predict use target=regression"
        )
    if len(label.lstrip("0")) >= len(str(MAX_CLASSES)):  # before `int`, which refuses thousands of digits
        raise AnnotationError(
            f"{where}: label {label:.40} is no number of a class, which are below {MAX_CLASSES:,}: for numbers to "
            "predict use target=regression"
        )
    number = int(label)
    if meaning.num_outputs and number >= meaning.num_outputs:
        raise AnnotationError(
            f"{where}: label {number} is above {meaning.num_outputs - 1}: there are {meaning.num_outputs} classes, "
            "numbered from 0"
        )
    return number
