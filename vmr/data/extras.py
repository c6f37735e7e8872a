"""Packages of the optional extra `train`, imported where they are used."""

import importlib
from typing import Any

from vmr.errors import MissingExtraError


def import_extra(package: str) -> Any:
    """Import a package of the extra `train`.

    Args:
        package: its name as in an import statement.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is installed, but a package that it needs is not
            raise
        raise MissingExtraError(package, "train") from None
