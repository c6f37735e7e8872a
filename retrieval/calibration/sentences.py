"""The sentences that indexes are calibrated with; they come with vmr, one a line."""

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def visible_sentences() -> tuple[str, ...]:
    """Return sentences, and single words, that somebody might search videos for."""
    return _lines("visible.txt")


@cache
def other_sentences() -> tuple[str, ...]:
    """Return texts that no picture answers: about money, law, grammar, ideas, software, appointments; and gibberish."""
    return _lines("not_visible.txt")


def _lines(name: str) -> tuple[str, ...]:
    return tuple((_FOLDER / name).read_text(encoding="ascii").splitlines())
