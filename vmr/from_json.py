"""From frozen dataclasses to JSON, and back with every type checked. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vmr.errors import VmrError

IN_MEMORY = MappingProxyType({"in_memory": True})
"""Metadata of a dataclass field that is not part of the JSON; such a field has a default."""
LATER = MappingProxyType({"later": True})
"""Metadata of a field that files of earlier versions lack: its default is what they did, and stands for it."""


def as_json(instance: Any) -> dict[str, Any]:
    """Return a dataclass as JSON types, without the fields that are `IN_MEMORY`.

    Args:
        instance: an object of a dataclass, whose fields may be dataclasses themselves.
    """
    return {name: value for name, value in asdict(instance).items() if name in _fields_of(type(instance))}


def from_json(kind: Any, value: Any, name: str) -> Any:
    """Convert the result of `json.loads` into a value of a type.

    Args:
        kind: a dataclass, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, `X | None`, `Literal`, str, int, float, bool
            or Any, in any nesting. A list becomes a tuple; an integer is accepted as a float; Any is not checked.
        value: the value, as returned by `json.loads`.
        name: the place of the value in the file, for error messages, such as `scores.embedding`; "" for the whole file.

    Returns:
        The value as `kind`.

    Raises:
        VmrError: a value is of another type, or keys of a dataclass are missing (unless they are `LATER`) or unknown;
            the message names the key.
            Errors that a dataclass raises in its constructor are not changed.
    """
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return None if value is None else from_json(inner, value, name)
    if origin in _READERS:
        return _READERS[origin](get_args(kind), value, name)
    if is_dataclass(kind):
        return _dataclass(kind, _require(dict, value, name), name)
    if kind is float and type(value) is int:
        return float(value)
    return _require(kind, value, name)


def _tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    items = _require(list, value, name)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(items)
    if len(items) != len(kinds):
        raise VmrError(f"{name} has {len(items)} items, expected {len(kinds)}")
    return tuple(
        from_json(kind, item, f"{name}[{number}]") for number, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _dict(kinds: tuple[Any, ...], value: Any, name: str) -> dict[str, Any]:
    return {key: from_json(kinds[1], item, f"{name}.{key}") for key, item in _require(dict, value, name).items()}


def _literal(options: tuple[Any, ...], value: Any, name: str) -> Any:
    if not any(type(value) is type(option) and value == option for option in options):  # 1 == True
        raise VmrError(f"{name or 'the file'} is {value!r:.40}, expected one of {', '.join(map(str, options))}")
    return value


def _dataclass(kind: Any, content: Mapping[str, Any], name: str) -> Any:
    known = _fields_of(kind)
    within = f"{name}: " if name else ""
    needed = known - {field.name for field in fields(kind) if field.metadata.get("later")}
    for problem, keys in (("unknown", content.keys() - known), ("missing", needed - content.keys())):
        if keys:
            raise VmrError(f"{within}{problem} {'keys' if len(keys) > 1 else 'key'} {', '.join(sorted(keys))}")
    types = get_type_hints(kind)
    return kind(**{key: from_json(types[key], item, f"{name}.{key}".lstrip(".")) for key, item in content.items()})


def _fields_of(kind: Any) -> set[str]:
    return {field.name for field in fields(kind) if not field.metadata.get("in_memory")}


def _require(kind: type, value: Any, name: str) -> Any:
    if type(value) is not kind:  # not isinstance: a bool is no int
        raise VmrError(f"{name or 'the file'} is {value!r:.40}, expected {_NAMES[kind]}")
    return value


_READERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {tuple: _tuple, dict: _dict, Literal: _literal}
_NAMES = {dict: "an object", list: "a list", str: "text", int: "an integer", float: "a number", bool: "true or false"}
