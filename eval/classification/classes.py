"""Which output of a classifier stands for which class of a data set. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmr.errors import VmrError
from vmr.models.classifier import are_numbers, plain_name

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
    *,
    overlap: Sequence[str] | None = None,
    published: bool = False,
) -> ClassMap:
    """Match the classes of a data set with those of a classifier, by name if both have names, else by number.

    Names are equal if they are so without regard to capitals and underscores. All classes of the classifier compete,
    also those that the data set does not have.

    Args:
        dataset: the name of the data set, for messages.
        classes: names of the data set's classes by number; None if they have none.
        num_classes: how many classes the data set has.
        model: the name of the classifier, for messages.
        labels: names of the classifier's classes; numbers are no names, see `are_numbers`.
        overlap: names of the classes of another data set: only classes that are in both are scored, and compete.
        published: whether the classes have published numbers: if none of their names is one of the classifier's, as
            with the folders of ImageNet, which are named by codes, they are matched by number.

    Returns:
        The classes.

    Raises:
        VmrError: the classifier lacks a class, the numbers of classes do not fit, or names are needed and missing.
    """
    unnamed = are_numbers(labels)
    if overlap is not None and (classes is None or unnamed):
        lacking = f"{dataset}: its classes" if classes is None else f"{model}: the classes of this classifier"
        raise VmrError(f"{lacking} have no names, and names decide which classes overlap: give the names")
    if classes is None or unnamed:
        whose = "data set" if classes is None else "classifier"
        return _by_number(dataset, classes, num_classes, model, labels, f"those of the {whose} have no names")
    outputs = _numbers_of(labels)
    if overlap is not None:
        return _overlapping(dataset, classes, model, outputs, overlap)
    strange = [name for name in classes if plain_name(name) not in outputs]
    if published and len(strange) == len(classes) == len(labels):
        return _by_number(dataset, None, num_classes, model, labels, "the classifier has other names for all of them")
    class_of = {number: _output(name, outputs, dataset, model, strange) for number, name in enumerate(classes)}
    notes = ("classes by name",)
    if len(labels) > len(classes):
        notes = (f"classes by name; all {len(labels)} of the classifier compete, the data set has {len(classes)}",)
    return ClassMap(tuple(labels), tuple(range(len(labels))), class_of, notes)


def _by_number(
    dataset: str, classes: Sequence[str] | None, num_classes: int, model: str, labels: Sequence[str], why: str
) -> ClassMap:
    if num_classes != len(labels):
        raise VmrError(
            f"{dataset} has {num_classes} classes, but {model} has {len(labels)}: use a classifier of these classes, "
            "or one whose classes have names together with --classes, the names of the data set's classes"
        )
    numbers = tuple(range(num_classes))
    names = tuple(labels if classes is None else classes)
    return ClassMap(names, numbers, {number: number for number in numbers}, (f"classes by number: {why}",))


def _overlapping(
    dataset: str, classes: Sequence[str], model: str, outputs: dict[str, list[int]], overlap: Sequence[str]
) -> ClassMap:
    others = _numbers_of(overlap)
    kept = [number for number, name in enumerate(classes) if plain_name(name) in others]
    if not kept:
        raise VmrError(f"{dataset}: no class has the name of a class of the other set, such as {overlap[0]!r}")
    names = tuple(classes[number] for number in kept)
    strange = [name for name in names if plain_name(name) not in outputs]
    return ClassMap(
        names,
        tuple(_output(name, outputs, dataset, model, strange) for name in names),
        {number: place for place, number in enumerate(kept)},
        (f"{len(kept)} of {len(classes)} classes are in both sets, and only they compete",),
    )


def _output(name: str, outputs: dict[str, list[int]], dataset: str, model: str, strange: Sequence[str]) -> int:
    """The classifier's output for a class; `strange` are the classes that it does not know, for the message."""
    if strange:
        named = ", ".join(map(repr, strange[:_NAMED])) + (", ..." if len(strange) > _NAMED else "")
        raise VmrError(
            f"{model} does not know {len(strange)} of the classes of {dataset}: {named}: use a classifier of them"
        )
    first, *others = outputs[plain_name(name)]
    if others:
        raise VmrError(f"{model} has {1 + len(others)} classes {name!r}, and names do not tell them apart: rename them")
    return first


def _numbers_of(names: Sequence[str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(plain_name(name), []).append(number)
    return numbers
