"""How a program that watches folders takes part in an update."""

from collections.abc import Callable
from dataclasses import dataclass

from vmr.retrieval.storage.records import FileState

Hold = Callable[[str, FileState], bool]
"""Whether a file is to be left as it is for now, because it is still being written."""
Tell = Callable[[str], object]
"""Is told of a change of an index, in a line. It raises KeyboardInterrupt if the update is to end."""


def _never(file: str, state: FileState) -> bool:
    return False


def _nothing(line: str) -> None:
    return


@dataclass(frozen=True)
class Hooks:
    """What an update asks and tells while it runs.

    Attributes:
        hold: is asked about each file.
        tell: is told of each change, once it is committed.
        may_be_empty: whether an index without any video is made, and the last video is taken out, and no error.
        progress: whether to show a progress bar.
    """

    hold: Hold = _never
    tell: Tell = _nothing
    may_be_empty: bool = False
    progress: bool = False
