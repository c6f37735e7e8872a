"""How the errors of the option parser are told: in one line that names the option as it was typed, and what it takes.

The parser names its own keys and Python types. Its commands and its YAML files are read by people who know neither.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

_KINDS = {
    int: "a whole number",
    PositiveInt: "a whole number of at least 1",
    NonNegativeInt: "a whole number of at least 0",
    float: "a number",
    PositiveFloat: "a positive number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "keys with values",
}
# A dataclass that may be null, and what it says.
_REFUSED_GROUP = re.compile(
    r"Union subtypes Subtypes: .<class '[\w.]*?(\w+)'>.*? Errors: - (.+?) - Expected a <class 'NoneT"
)
_GIVEN = re.compile(r"value: (.+)$|(?:base 10|to float): '(.+?)'|: (\S+) does not conform")


def explain(
    message: str, kinds: Mapping[str, Any], name_of: Callable[[str], str], known: Iterable[str] | None = None
) -> str:
    """Say in one line what the parser found wrong.

    Args:
        message: the parser's message.
        kinds: key of an option -> its type.
        name_of: function from a key to the words that name it, as it was typed.
        known: the options or keys to suggest in place of one that does not exist; default, all names.

    Returns:
        The line. A message that is of no known kind is only brought into one line.
    """
    message = re.sub("^Validation failed: ", "", " ".join(message.split()))  # as older versions of jsonargparse say
    if match := _REFUSED_GROUP.search(message):
        return _refused_group(match[1], match[2], kinds, name_of)
    options = [name for name in map(name_of, kinds) if name.startswith("-")] if known is None else list(known)
    keys = list(kinds)
    rules: dict[str, Callable[..., str]] = {
        r'Parser key "(.+?)":? ?(.*)': lambda key, reason: _wrong_value(key, reason, kinds, name_of),
        r"argument ([^\s/]+)\S*: expected (?:one|at least one) argument": "{} needs a value".format,
        r"argument (\S+): ignored explicit argument (.+)": "{} takes no value: leave out {}".format,
        r"the following arguments are required: (.+)": lambda lacking: (
            f"{' and '.join(map(name_of, lacking.split(', ')))} must be given"
        ),
        r'Key "(.+?)" is required': lambda key: f"{name_of(key)} must be given",
        r"unrecognized arguments: (-[^\s=]+)": lambda flag: f"there is no option {_near(flag, options)}",
        r"unrecognized arguments: (\S+)": "{!r} is one argument too many".format,
        r"Group '(.+?)' does not accept option '(.+?)'": lambda group, name: _no_key(f"{group}.{name}", keys),
        r"(?:Option|Key) '(.+?)' is not (?:accepted|expected)": lambda key: _no_key(key, keys),
        r"(?:Problems parsing|Unexpected) config: (.+)": "not a YAML file of options: {}".format,
    }
    for pattern, say in rules.items():
        if match := re.match(pattern, message, re.IGNORECASE):
            return say(*match.groups())
    return message


def _refused_group(name: str, reason: str, kinds: Mapping[str, Any], name_of: Callable[[str], str]) -> str:
    """What a dataclass that may be null says about its fields, with the key of the field where it begins with one."""
    keys = [key for key, kind in kinds.items() if name in [getattr(part, "__name__", "") for part in get_args(kind)]]
    field, _, rest = reason.partition(" ")
    key = f"{keys[0]}.{field}" if len(keys) == 1 else ""
    return f"{name_of(key)} {rest}" if key in kinds else reason


def takes(kind: Any) -> str:
    """Say in words which values an option of this type takes.

    Args:
        kind: the type, as an annotation.

    Returns:
        Words that follow "must be".
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = [takes(part) for part in parts if part is not NoneType]
        return " or ".join([*dict.fromkeys(words), *(["null"] if NoneType in parts else [])])
    if origin is Literal:
        words = ["true" if part is True else "false" if part is False else str(part) for part in parts]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin is tuple and Ellipsis not in parts:
        return f"a list of {len(parts)}"
    return _KINDS.get(origin or kind, "keys with values" if is_dataclass(kind) else "another value")


def keys_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """List the keys of a dataclass and of the dataclasses in it.

    Args:
        group: the dataclass.
        prefix: what stands before its keys.

    Returns:
        Key, such as run.seed -> its type. A dataclass that may be null has a key too, besides those of its fields.
    """
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(group).items():
        key = f"{prefix}{name}"
        found[key] = kind
        for part in (kind, *(get_args(kind) if get_origin(kind) in (Union, UnionType) else ())):
            found |= keys_of(part, f"{key}.") if is_dataclass(part) else {}
    return found


def first_wrong(kind: Any, value: Any, key: str = "") -> str | None:
    """Find the first value that is not of its type within nested keys and lists, where the parser names the outer key.

    Args:
        kind: the type, as an annotation.
        value: the value, as YAML types.
        key: its key.

    Returns:
        What is wrong, such as "stages[0].num_steps must be a whole number, not 'abc'"; None if nothing is.
    """
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for part in parts:
        if (places := _places(part, value, key)) is not None:
            return next((wrong for place in places if (wrong := first_wrong(*place)) is not None), None)
    if is_dataclass(group := next(iter(parts))) and isinstance(value, dict):
        names = {f"{key}.{name}" if key else name for name in get_type_hints(group)}
        unknown = next(name for name in (f"{key}.{name}" if key else name for name in value) if name not in names)
        return _no_key(unknown, names)
    if any(_fits(part, value) for part in parts):
        return None
    return f"{key} must be {takes(kind)}, not {'null' if value is None else repr(value)}"


def _places(kind: Any, value: Any, key: str) -> list[tuple[Any, Any, str]] | None:
    """The type, value and key of each item of a value that holds items; None if it is no such value of this type."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict) and value.keys() <= (hints := get_type_hints(kind)).keys():
        return [(hints[name], item, f"{key}.{name}" if key else name) for name, item in value.items()]
    if origin is dict and isinstance(value, dict):
        return [(parts[1], item, f"{key}.{name}") for name, item in value.items()]
    if origin is list and isinstance(value, list):
        return [(parts[0], item, f"{key}[{number}]") for number, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return [(part, item, f"{key}[{number}]") for number, (part, item) in enumerate(zip(parts, value, strict=True))]
    return None


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value that holds no items is of a type."""
    if kind is NoneType or value is None:
        return kind is NoneType and value is None
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float, PositiveInt, NonNegativeInt, PositiveFloat):
        with suppress(ValueError, TypeError):  # YAML reads 1e-4 as a text, the parser as a number
            return not isinstance(value, bool) and bool(kind(value) == (float(value) if kind is int else kind(value)))
        return False
    return isinstance(value, kind) if kind in (bool, str) else False


def _wrong_value(key: str, reason: str, kinds: Mapping[str, Any], name_of: Callable[[str], str]) -> str:
    if match := re.search(r"File does not exist: '?(.+?)'?$", reason):
        return f"{name_of(key)}: {match[1]}: no such file"
    if key not in kinds:
        return f"{name_of(key)}: {reason}"
    if match := re.search(r"NestedArg\(key='(.+?)'", reason):
        return _no_key(f"{key}.{match[1]}", kinds)
    if "Namespace(" in reason:
        groups = [part for part in get_args(kinds[key]) if is_dataclass(part)]
        required = [
            one.name for group in groups for one in fields(group) if one.default is one.default_factory is MISSING
        ]
        return f"{name_of(key)}: {' and '.join(required)} must be given"
    found = _GIVEN.search(reason)
    given = next((value for value in found.groups() if value), None) if found else None
    return f"{name_of(key)} must be {takes(kinds[key])}" + ("" if given is None else f", not {given!r}")


def _no_key(key: str, keys: Iterable[str]) -> str:
    return f"there is no key {_near(key, list(keys))}"


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"{name}: did you mean {close[0]}?" if close else name
