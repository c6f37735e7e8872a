"""Checks of arguments at the entrances of the library: a wrong type or number is one line that names the argument."""

import importlib
import math
import operator
import os
from collections.abc import Iterable
from typing import Any

from vmr.errors import MissingExtraError, VmrError


def whole_number(name: str, value: Any, at_least: int | None = 1) -> int:
    """Check an argument that must be a whole number; numpy's integers are whole numbers too, True and "3" are not.

    Args:
        name: the argument.
        value: its value.
        at_least: the smallest number that is allowed; None for any.

    Returns:
        The number.

    Raises:
        VmrError: it is none, or too small.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (at_least is not None and number < at_least):
        limit = "" if at_least is None else f" of at least {at_least}"
        raise VmrError(f"{name} is {value!r:.60}, but must be a whole number{limit}")
    return number


def real_number(name: str, value: Any) -> float:
    """Check an argument that must be a number, and not NaN; True and "3" are no numbers.

    Args:
        name: the argument.
        value: its value.

    Returns:
        The number, which may be infinite.

    Raises:
        VmrError: it is none.
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise VmrError(f"{name} is {value!r:.60}, but must be a number")
    return number


def check_path(name: str, value: Any) -> str | os.PathLike[str]:
    """Check an argument that must be the path of a file or a folder.

    Args:
        name: the argument.
        value: its value.

    Returns:
        The path.

    Raises:
        VmrError: it is neither a text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise VmrError(f"{name} is {value!r:.60}, but must be a path")
    return value


def check_paths(paths: Any) -> list[str | os.PathLike[str]]:
    """Check an argument that must be a list of paths, and not one path, which Python would treat as its letters.

    Args:
        paths: the argument.

    Returns:
        The paths.

    Raises:
        VmrError: it is one path, no list, or holds something else than paths.
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        raise VmrError(f"expected a list of paths, got {paths!r:.60}")
    return [check_path("a path in the list", one) for one in paths]


def check_type(name: str, value: Any, *kinds: type) -> None:
    """Check an argument that must be an object of one of some classes.

    Args:
        name: the argument.
        value: its value.
        *kinds: the classes; type(None) where None is allowed.

    Raises:
        VmrError: it is none.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise VmrError(f"{name} is {value!r:.60}, but must be {wanted}")


def require_extra(extra: str, *packages: str) -> None:
    """Check before any work that the packages of an optional extra are installed.

    Args:
        extra: the extra.
        *packages: its packages, as in import statements.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name not in packages:  # the package is installed, but another one that it needs is not
                raise
            raise MissingExtraError({"PIL": "pillow"}.get(error.name, error.name), extra) from None
