"""Which output of a classifier stands for which class of a data set. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmr.errors import VmrError

_NAMED = 4  # names in a message


@dataclass(frozen=True)
class ClassMap:
    """The classes that compete, and the class of each label.

    Attributes:
        names: of the classes that compete, C of them.
        outputs: for each of them, the number of the classifier's output.
        class_of: label of the data set -> number among `names`; a label that is not here is not scored.
        notes: how the classes were matched, one line each.
    """

    names: tuple[str, ...]
    outputs: tuple[int, ...]
    class_of: dict[int, int]
    notes: tuple[str, ...]


def match_classes(
    dataset: str,
    classes: Sequence[str] | None,
    num_classes: int,
    model: str,
    labels: Sequence[str],
    overlap: Sequence[str] | None = None,
) -> ClassMap:
    """Match the classes of a data set with those of a classifier, by name if both have names, else by number.

    Names are equal if they are so without regard to capitals and underscores. All classes of the classifier compete,
    also those that the data set does not have.

    Args:
        dataset: the name of the data set, for messages.
        classes: names of the data set's classes by number; None if they have none.
        num_classes: how many classes the data set has.
        model: the name of the classifier, for messages.
        labels: names of the classifier's classes; if they are the numbers from 0, they are no names.
        overlap: names of the classes of another data set: only classes that are in both are scored, and compete.

    Returns:
        The classes.

    Raises:
        VmrError: the classifier lacks a class, the numbers of classes do not fit, or names are needed and missing.
    """
    unnamed = tuple(labels) == tuple(map(str, range(len(labels))))
    if classes is None or unnamed:
        if overlap is not None:
            lacking = f"{dataset}: its classes" if classes is None else f"{model}: the classes of this classifier"
            raise VmrError(f"{lacking} have no names, and names decide which classes overlap: give the names")
        if num_classes != len(labels):
            raise VmrError(
                f"{dataset} has {num_classes} classes, but {model} has {len(labels)}: use a classifier of these "
                "classes, or one whose classes have names together with --classes, the names of the data set's classes"
            )
        names = tuple(labels if classes is None else classes)
        numbers = tuple(range(num_classes))
        how = "of the data set have no names" if classes is None else "of the classifier have no names"
        return ClassMap(names, numbers, dict(zip(numbers, numbers, strict=True)), (f"classes by number: those {how}",))
    output_of = _by_name(labels, model)
    kept = list(range(len(classes)))
    notes: tuple[str, ...] = ()
    if overlap is not None:
        others = _by_name(overlap, "the other set of classes")
        kept = [number for number in kept if _plain(classes[number]) in others]
        notes = (f"{len(kept)} of {len(classes)} classes are in both sets, and only they compete",)
        if not kept:
            raise VmrError(f"{dataset}: no class has the name of a class of the other set, such as {overlap[0]!r}")
    lacking_names = [classes[number] for number in kept if _plain(classes[number]) not in output_of]
    if lacking_names:
        named = ", ".join(map(repr, lacking_names[:_NAMED])) + (", ..." if len(lacking_names) > _NAMED else "")
        raise VmrError(
            f"{model} does not know {len(lacking_names)} of the {len(kept)} classes of {dataset}: {named}: "
            "use a classifier of these classes"
        )
    if overlap is not None:
        outputs = tuple(output_of[_plain(classes[number])] for number in kept)
        class_of = {number: place for place, number in enumerate(kept)}
        return ClassMap(tuple(classes[number] for number in kept), outputs, class_of, notes)
    notes = ("classes by name",)
    if len(labels) > len(classes):
        notes = (
            f"classes by name; all {len(labels)} classes of the classifier compete; the data set has {len(classes)} of them",
        )
    class_of = {number: output_of[_plain(name)] for number, name in enumerate(classes)}
    return ClassMap(tuple(labels), tuple(range(len(labels))), class_of, notes)


def _by_name(names: Sequence[str], whose: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        if numbers.setdefault(_plain(name), number) != number:
            raise VmrError(
                f"{whose}: the classes {names[numbers[_plain(name)]]!r} and {name!r} differ in capitals or underscores "
                "alone, so names cannot tell them apart: rename one"
            )
    return numbers


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
