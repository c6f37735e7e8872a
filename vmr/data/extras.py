"""Packages of the optional extra `train`, imported where they are used."""

import importlib
from typing import Any

from vmr.checks import require_extra


def import_extra(package: str) -> Any:
    """Import a package of the extra `train`.

    Args:
        package: its name as in an import statement.

    Raises:
        MissingExtraError: it is not installed.
    """
    require_extra("train", package)
    return importlib.import_module(package)
