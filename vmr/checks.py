"""Checks of arguments at the entrances of the library: a wrong type or number is one line that names the argument."""

import math
import operator
import os
from typing import Any

from vmr.errors import VmrError


def whole_number(name: str, value: Any, at_least: int = 1) -> int:
    """Check an argument that must be a whole number; numpy's integers are whole numbers too, True and "3" are not.

    Args:
        name: the argument.
        value: its value.
        at_least: the smallest number that is allowed.

    Returns:
        The number.

    Raises:
        VmrError: it is none, or too small.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < at_least:
        raise VmrError(f"{name} is {value!r:.60}, but must be a whole number of at least {at_least}")
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


def path(name: str, value: Any) -> str | os.PathLike[str]:
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
