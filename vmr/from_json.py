"""From frozen dataclasses to JSON, and back with every type checked. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from vmr.errors import VmrError

IN_MEMORY = MappingProxyType({"in_memory": True})
"""Metadata of a dataclass field that is not part of the JSON; such a field has a default."""


def as_json(instance: Any) -> dict[str, Any]:
    """Return a dataclass as JSON types, without the fields that are `IN_MEMORY`.

    Args:
        instance: of a dataclass, whose fields may be dataclasses themselves.
    """
    return {name: value for name, value in asdict(instance).items() if name in _fields_of(type(instance))}


def from_json(kind: Any, value: Any, name: str) -> Any:
    """Return a value that `json.loads` gave as a value of the type `kind`.

    Args:
        kind: a dataclass, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, `X | None`, str, int, float or bool, in any
            nesting.
        value: the value.
        name: where the value stands, such as `scores.embedding`, for error messages; empty for the whole file.

    Raises:
        VmrError: the value is of another type, or keys of a dataclass are missing or unknown.
    """
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return None if value is None else from_json(inner, value, name)
    if origin is tuple:
        return _tuple(get_args(kind), value, name)
    if origin is dict:
        inner = get_args(kind)[1]
        return {key: from_json(inner, item, f"{name}.{key}") for key, item in _require(dict, value, name).items()}
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


def _dataclass(kind: Any, content: Mapping[str, Any], name: str) -> Any:
    known = _fields_of(kind)
    within = f"{name}: " if name else ""
    for problem, keys in (("unknown", content.keys() - known), ("missing", known - content.keys())):
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


_NAMES = {dict: "an object", list: "a list", str: "text", int: "an integer", float: "a number", bool: "true or false"}
