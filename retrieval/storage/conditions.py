"""What videos can be selected by: each field reads values as they are written, and compares them in SQL.

The conditions are over the tables `videos v` and `roots r`, and are true or false, never NULL.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from vmr.errors import VmrError
from vmr.files import is_unicode
from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.records import storable_ns

_DATE = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")
_NUMBER = re.compile(r"(?P<number>[^a-zA-Z\s]+(?:[eE][+-]?\d+)?)\s*(?P<unit>[a-zA-Z]*)")
_ABSOLUTE = "(rtrim(r.path, '/') || '/' || v.path)"
_BYTE = "\ufdd0"  # no character; stands before the two digits of a byte that is not UTF-8


class Sql(NamedTuple):
    """A condition, and the values of its question marks."""

    condition: str
    parameters: tuple[str | int | float, ...] = ()

    def negated(self) -> "Sql":
        """Return the condition that is true where this one is false."""
        return Sql(f"NOT ({self.condition})", self.parameters)

    @staticmethod
    def joined(word: str, parts: "list[Sql]") -> "Sql":
        """Join conditions by AND or OR."""
        if len(parts) == 1:
            return parts[0]
        parameters = tuple(value for one in parts for value in one.parameters)
        return Sql(f" {word} ".join(f"({one.condition})" for one in parts), parameters)


class Field(ABC):
    """Something about a video that can be compared."""

    @abstractmethod
    def read(self, kind: str, text: str) -> Any:
        """Return a value for `compare`.

        Args:
            kind: how it is written: "text" (without the quotes), "number" (perhaps with a unit), "date" or "word".
            text: the value.

        Raises:
            VmrError: it is no value of this field; the message is a reason.
        """

    @abstractmethod
    def compare(self, operator: str, value: Any) -> Sql:
        """Return the condition for =, <, <=, >, >= or ~.

        Raises:
            VmrError: the field has no such comparison; the message is a reason.
        """


class _Path(Field):
    """A path relative to its root, or an absolute one. A folder stands for all that is below it."""

    def __init__(self, is_folder: bool) -> None:
        self._is_folder = is_folder

    def read(self, kind: str, text: str) -> str:
        if kind != "text":
            raise VmrError("a text in quotes is needed")
        return path_to_text(text.rstrip("/") if self._is_folder else text)

    def compare(self, operator: str, value: str) -> Sql:
        column = _ABSOLUTE if value.startswith("/") or (self._is_folder and not value) else "v.path"
        if operator == "=" and not self._is_folder:
            return Sql(f"{column} = ?", (value,))
        if operator not in ("=", "~"):
            raise VmrError("paths are compared by =, !=, ~ and in")
        within = f"{_marked(value)}/"
        column = _marked_sql(column)
        if operator == "=":
            return Sql(f"substr({column}, 1, ?) = ?", (len(within), within))
        return Sql(f"{column} GLOB ?", (f"{within}*" if self._is_folder else _marked(value),))


def _marked(text: str) -> str:
    """Mark bytes that are not UTF-8: two slashes stand for one, and not for the end of the name of a folder."""
    return text.replace("///", f"/{_BYTE}").replace("//", _BYTE)


def _marked_sql(column: str) -> str:
    return f"replace(replace({column}, '///', '/{_BYTE}'), '//', '{_BYTE}')"


class _Source(Field):
    """The folder that was given when the index was built, below which a video lies: its path, or its name."""

    def read(self, kind: str, text: str) -> str:
        if kind != "text":
            raise VmrError("a text in quotes is needed")
        return path_to_text(text.rstrip("/") or text)

    def compare(self, operator: str, value: str) -> Sql:
        if operator not in ("=", "~"):
            raise VmrError("sources are compared by =, !=, ~ and in")
        path = _marked_sql("r.path")
        folder = f"rtrim({path}, replace({path}, '/', ''))"  # without the characters after the last slash
        column = path if value.startswith("/") else f"substr({path}, length({folder}) + 1)"
        return Sql(f"{column} {'GLOB' if operator == '~' else '='} ?", (_marked(value),))


class _Quantity(Field):
    """A number with a unit, which may be unknown (NULL): then no comparison is true but !=."""

    def __init__(self, column: str, units: dict[str, float]) -> None:
        self._column, self._units = column, units

    def read(self, kind: str, text: str) -> float:
        match = _NUMBER.fullmatch(text) if kind == "number" else None
        if match is None or match["unit"] not in self._units:
            units = ", ".join(filter(None, self._units))
            raise VmrError(f"a number is needed{f', with or without one of {units}' if units else ''}")
        return float(match["number"]) * self._units[match["unit"]]

    def compare(self, operator: str, value: float) -> Sql:
        if operator == "~":
            raise VmrError("numbers have no pattern: use =, !=, <, <=, >, >= or in")
        return Sql(f"ifnull({self._column} {operator} ?, 0)", (value,))


class _Date(Field):
    """The time of a file's last change, compared with a month, a day, a minute or a second."""

    def read(self, kind: str, text: str) -> tuple[int, int]:
        try:
            return _period(text)
        except (ValueError, OverflowError):
            raise VmrError("a date is needed, such as 2026-11-01, 2026-11 or 2026-11-01T18:30") from None

    def compare(self, operator: str, value: tuple[int, int]) -> Sql:
        start_ns, end_ns = value
        conditions = {
            "=": Sql("v.mtime_ns >= ? AND v.mtime_ns < ?", value),
            "<": Sql("v.mtime_ns < ?", (start_ns,)),
            "<=": Sql("v.mtime_ns < ?", (end_ns,)),
            ">": Sql("v.mtime_ns >= ?", (end_ns,)),
            ">=": Sql("v.mtime_ns >= ?", (start_ns,)),
        }
        if operator not in conditions:
            raise VmrError("dates have no pattern: use =, !=, <, <=, >, >= or in")
        return conditions[operator]


class _Metadata(Field):
    """A value of the user's metadata, which has a type: a number is not equal to a text."""

    def __init__(self, key: str) -> None:
        self._key = key

    def read(self, kind: str, text: str) -> str | float | bool | None:
        if kind == "word":
            return {"true": True, "false": False, "null": None}[text.lower()]
        if kind == "number":
            try:
                return float(text)
            except ValueError:
                raise VmrError("metadata have no units: a plain number is needed") from None
        if not is_unicode(text):
            raise VmrError("this is no valid text")
        return text

    def compare(self, operator: str, value: str | float | bool | None) -> Sql:
        if value is None or isinstance(value, bool):
            if operator != "=":
                raise VmrError("true, false and null are compared by =, != and in")
            return self._has("j.type != 'null'").negated() if value is None else self._has("j.type = ?", _json(value))
        if isinstance(value, float):
            if operator == "~":
                raise VmrError("numbers have no pattern: use =, !=, <, <=, >, >= or in")
            return self._has(f"j.type IN ('integer', 'real') AND j.value {operator} ?", value)
        return self._has(f"j.type = 'text' AND j.value {'GLOB' if operator == '~' else operator} ?", value)

    def _has(self, condition: str, *values: str | float) -> Sql:
        # The path of json_extract cannot name every key.
        query = f"EXISTS (SELECT 1 FROM json_each(v.metadata) j WHERE j.key = ? AND {condition})"
        return Sql(query, (self._key, *values))


_FIELDS: dict[str, Field] = {
    "path": _Path(is_folder=False),
    "folder": _Path(is_folder=True),
    "duration": _Quantity("v.duration_s", {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}),
    "size": _Quantity(
        "v.size",
        {"": 1.0, "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
        | {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    ),
    "date": _Date(),
    "width": _Quantity("nullif(v.width, 0)", {"": 1.0}),
    "height": _Quantity("nullif(v.height, 0)", {"": 1.0}),
    "resolution": _Quantity("nullif(min(v.width, v.height), 0)", {"": 1.0, "p": 1.0}),
    "source": _Source(),
}

NAMES = f"{', '.join(_FIELDS)} or meta.KEY"
"""The fields, for messages."""


def source_names(roots: Iterable[str]) -> dict[str, str]:
    """Return the value of `source` that selects each root: its name, or its path if others have the same name.

    Args:
        roots: absolute folders.
    """
    paths = {root: root.rstrip("/") or "/" for root in roots}
    names = {root: path.rpartition("/")[2] for root, path in paths.items()}
    counts = Counter(names.values())
    return {root: name if name and counts[name] == 1 else paths[root] for root, name in names.items()}


def field_named(name: str, key: str) -> Field | None:
    """Return a field, given its name and what follows the dot; None if there is no such field."""
    if name == "meta":
        return _Metadata(key) if key else None
    return None if key else _FIELDS.get(name)


def _json(value: bool) -> str:
    return "true" if value else "false"


def _period(text: str) -> tuple[int, int]:
    """The start and the end of a month, a day, a minute or a second, in nanoseconds; local time without a zone."""
    match = _DATE.fullmatch(text)
    if match is None:
        start = datetime.fromisoformat(text.replace("Z", "+00:00"))
        has_seconds = re.search(r"[T ]\d\d:\d\d:", text) is not None
        return _nanoseconds(start), _nanoseconds(start + timedelta(seconds=1 if has_seconds else 60))
    year, month, day = int(match[1]), int(match[2]), match[3]
    start = datetime(year, month, int(day or 1))
    end = start + timedelta(days=1) if day else datetime(year + month // 12, month % 12 + 1, 1)
    return _nanoseconds(start), _nanoseconds(end)


def _nanoseconds(moment: datetime) -> int:
    return storable_ns(int(moment.timestamp()) * 1_000_000_000)
