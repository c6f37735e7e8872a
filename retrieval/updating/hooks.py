"""How a program takes part in an update that it started: one that watches folders, or one that shows its progress."""

from collections.abc import Callable
from dataclasses import dataclass

from vmr.progress import VideoProgress
from vmr.retrieval.results import Failure
from vmr.retrieval.storage.records import FileState

Hold = Callable[[str, FileState], bool]
"""Whether a file is to be left as it is for now, because it is still being written."""
Tell = Callable[[str], object]
"""Is told of a change of an index, in a line. It raises KeyboardInterrupt if the update is to end."""

Embed = Callable[[str], object]
"""Is told of a file whose vectors are in the index now."""
Fail = Callable[[Failure], object]
"""Is told of a file that cannot be read."""
Follow = Callable[[VideoProgress], object]
"""Is called whenever the progress has moved, by any thread."""


def _never(file: str, state: FileState) -> bool:
    return False


def _nothing(told: object) -> None:
    return


@dataclass(frozen=True)
class Hooks:
    """What an update asks and tells while it runs.

    Attributes:
        hold: is asked about each file.
        tell: is told of each change, once it is committed.
        embed: is told of each video that was embedded, once that is committed.
        fail: is told of each file that is left out, once that is committed.
        follow: is shown the progress; None if nobody looks at it.
        may_be_empty: whether an index without any video is made, and the last video is taken out, and no error.
        progress: whether to show a progress bar.
    """

    hold: Hold = _never
    tell: Tell = _nothing
    embed: Embed = _nothing
    fail: Fail = _nothing
    follow: Follow | None = None
    may_be_empty: bool = False
    progress: bool = False
