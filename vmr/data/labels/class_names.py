"""Names of classes: from a file, and from the names that a list uses."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmr.data.annotations.text_files import read_lines
from vmr.errors import AnnotationError

BESIDE = ("labels.json", "classInd.txt", "Diving48_vocab.json", "classes.txt", "classes.json")
"""Names of files with classes that are read if they stand beside a list."""

_NUMBERED = re.compile(r"(?P<number>\d+)\s*[\s,]\s*(?P<name>\S.*)")
_NUMBER_LAST = re.compile(r"(?P<name>\S.*?)\s*,\s*(?P<number>\d+)")
_HEADERS = {"id,name", "name,id", "label,name", "name,label", "id,label"}


def read_class_names(file: str | Path) -> tuple[str, ...]:
    """Read the names of classes in the order of their numbers.

    Args:
        file: JSON: a list of names, a list of lists of parts of a name, or an object of names and numbers. Or text: a
            name a line; or `0 name`, `0,name` or `name,0`, where numbers may also begin with 1.

    Raises:
        AnnotationError: the file cannot be read, numbers are missing or come twice, or names come twice.
    """
    file = Path(file)
    names = _of_json(file) if file.suffix.lower() == ".json" else _of_text(file)
    return check_names(names, str(file))


def check_names(names: Iterable[Any], where: str) -> tuple[str, ...]:
    """Check names of classes.

    Args:
        names: in the order of their numbers.
        where: what messages call them.

    Raises:
        AnnotationError: there are none, one is blank, or two are equal.
    """
    checked = tuple(names)
    seen: dict[str, int] = {}
    for number, name in enumerate(checked):
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"{where}: class {number} is {name!r:.60}, but must have a name")
        if name in seen:
            raise AnnotationError(f"{where}: classes {seen[name]} and {number} are both {name!r:.60}")
        seen[name] = number
    if not checked:
        raise AnnotationError(f"{where}: names no classes")
    return checked


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes in the order that numbers them: by number if all are whole numbers, else by alphabet."""
    distinct = set(names)
    if all(name.isdecimal() for name in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def unknown_name(name: str, classes: Sequence[str], where: str) -> AnnotationError:
    """Return the error for a label that is none of the classes; it names the nearest one."""
    close = difflib.get_close_matches(name, classes, n=1)
    near = f"; did you mean {close[0]!r}?" if close else f", such as {classes[0]!r}"
    return AnnotationError(f"{where}: label {name!r:.60} is none of the {len(classes)} classes{near}")


def _of_json(file: Path) -> list[Any]:
    try:
        content = json.loads("".join(read_lines(file)))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}: not JSON: {error}") from None
    if isinstance(content, list):
        return ["/".join(map(str, name)) if isinstance(name, list) else name for name in content]
    if not isinstance(content, Mapping):
        raise AnnotationError(f"{file}: expected a list of names, or an object of names and numbers")
    if all(key.isdecimal() for key in content):
        return _in_order({name: int(key) for key, name in content.items()}, file, len(content))
    if not all(str(value).isdecimal() for value in content.values()):
        raise AnnotationError(f"{file}: expected an object of names and numbers from 0")
    return _in_order({name: int(value) for name, value in content.items()}, file, len(content))


def _of_text(file: Path) -> list[Any]:
    lines = [text for line in read_lines(file) if (text := line.strip())]
    if lines and lines[0].lower().replace(" ", "") in _HEADERS:
        lines = lines[1:]
    for pattern in (_NUMBERED, _NUMBER_LAST):
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        if lines and len(matches) == len(lines):
            return _in_order({match["name"].strip('"'): int(match["number"]) for match in matches}, file, len(lines))
    return lines


def _in_order(number_of: Mapping[str, int], file: Path, count: int) -> list[str]:
    numbers = sorted(number_of.values())
    first = numbers[0] if numbers else 0
    if len(numbers) != count or first not in (0, 1) or numbers != list(range(first, first + count)):
        raise AnnotationError(f"{file}: its {count} classes must have different names and numbers from 0 on, or from 1")
    return sorted(number_of, key=lambda name: number_of[name])
