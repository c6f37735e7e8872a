"""Names of models that choose which patches to leave out: `NAME@skip=0.02`. An index keeps models by such names."""

import re
from pathlib import Path

from vmr.errors import ModelError

_WITH_SKIP = re.compile(r"(?P<plain>.+)@skip=(?P<threshold>[^@/]*)")


def with_skip(name: str | Path, threshold: float) -> str:
    """Name a model that leaves out repetitions, for `vmr.load_model`.

    Args:
        name: of the model; a threshold in it is replaced.
        threshold: see `vmr.load_model`; 0 leaves out none.
    """
    return f"{plain_name(name)}@skip={threshold}"  # all its digits: an index finds the same model by them


def plain_name(name: str | Path) -> str:
    """Return the name of a model without its threshold of repetitions."""
    found = _WITH_SKIP.fullmatch(str(name))
    return str(name) if found is None else found["plain"]


def skip_of(name: str | Path) -> float | None:
    """Return the threshold of repetitions that the name of a model states; None if it states none.

    Raises:
        ModelError: what is stated is no number.
    """
    found = _WITH_SKIP.fullmatch(str(name))
    if found is None:
        return None
    try:
        return float(found["threshold"])
    except ValueError as error:
        raise ModelError(f"{name}: after @skip= comes a number in [0, 1], not {found['threshold']!r}") from error
