"""The description of the API as a page shows it: what OpenAPI says in nested objects, as tables."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}
_DEPTH = 4  # of objects in objects

Schema = Mapping[str, Any]


class Row(NamedTuple):
    """A parameter, or a field of an object: its name with those of the objects around it, its type, what it is."""

    name: str
    kind: str
    text: str


class Table(NamedTuple):
    """The fields of a body: of a media type, or of an answer with a status."""

    title: str
    rows: list[Row]


class Operation(NamedTuple):
    """What a route does for one method."""

    method: str
    path: str
    text: str
    parameters: list[Row]
    bodies: list[Table]
    answers: list[Table]


def operations_of(description: Schema) -> dict[str, list[Operation]]:
    """Return the operations of an API by their first tag.

    Args:
        description: an object of OpenAPI 3.1.
    """
    groups: dict[str, list[Operation]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", [""])[0], []).append(
                Operation(
                    method.upper(),
                    path,
                    operation.get("description", operation.get("summary", "")),
                    [_parameter(description, each) for each in operation.get("parameters", [])],
                    _tables(description, {"": operation.get("requestBody", {})}),
                    _tables(description, {k: v for k, v in operation["responses"].items() if k[0] == "2"}),
                )
            )
    return groups


def _parameter(description: Schema, parameter: Schema) -> Row:
    schema = parameter["schema"]
    text = parameter.get("description") or schema.get("description", "")
    where = {"path": "part of the path", "header": "header"}.get(parameter["in"], "")
    needed = "required" if parameter.get("required") and not where else ""
    return Row(
        parameter["name"],
        _kind(description, schema),
        _joined(text, where, needed, _limits(_resolved(description, schema))),
    )


def _tables(description: Schema, contents: Schema) -> list[Table]:
    return [
        Table(f"{status} {media_type}".strip(), list(_fields(description, one.get("schema", {}))))
        for status, content in contents.items()
        for media_type, one in content.get("content", {}).items()
    ]


def _fields(description: Schema, schema: Schema, around: str = "", depth: int = _DEPTH) -> Iterator[Row]:
    """The fields of an object, each followed by those of the objects in it."""
    schema = _resolved(description, schema)
    if "items" in schema:
        yield from _fields(description, schema["items"], f"{around}[]", depth)
    for name, field in schema.get("properties", {}).items():
        inner = _resolved(description, field)
        text = field.get("description") or inner.get("description", "")
        path = f"{around}.{name}" if around else name
        yield Row(path, _kind(description, field), _joined(text, _limits(inner)))
        if depth and _kind(description, field).startswith(("object", "list of objects")):
            yield from _fields(description, field, path, depth - 1)


def _resolved(description: Schema, schema: Schema) -> Schema:
    """A schema in place of a reference to it, and the only one that is not null in place of a choice."""
    if "$ref" in schema:
        found: Schema = description
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return _resolved(description, found)
    chosen = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(chosen) == 1:
        return {**_resolved(description, chosen[0]), **{k: v for k, v in schema.items() if k != "anyOf"}}
    return schema


def _kind(description: Schema, schema: Schema) -> str:
    """A type in words."""
    is_optional = any(one.get("type") == "null" for one in schema.get("anyOf", []))
    schema = _resolved(description, schema)
    if "anyOf" in schema:
        kind = " or ".join(dict.fromkeys(_kind(description, one) for one in schema["anyOf"]))
    elif "enum" in schema:
        kind = " or ".join(f"`{one}`" for one in schema["enum"])
    elif "const" in schema:
        kind = f"`{schema['const']}`"
    elif schema.get("type") == "array":
        kind = f"list of {_kind(description, schema['items'])}s" if "items" in schema else "list"
    else:
        kind = "file" if schema.get("format") == "binary" else schema.get("type", "anything")
    return f"{kind} or null" if is_optional else kind


def _joined(*said: str) -> str:
    return "; ".join(part.removesuffix(".") for part in said if part)


def _limits(schema: Schema) -> str:
    said = [words.format(f"{schema[name]:g}") for name, words in _LIMITS.items() if name in schema]
    if schema.get("default") is not None and "const" not in schema:
        said.append(f"default `{json.dumps(schema['default'])}`")
    return ", ".join(said)
