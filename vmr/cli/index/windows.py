"""How videos are cut: the options that several commands share."""

from dataclasses import dataclass

from jsonargparse.typing import PositiveFloat


@dataclass(frozen=True)
class WindowOptions:
    """How videos are cut into rows of an index.

    Attributes:
        window: seconds that one row of the index covers; with null, each whole video is one row
        stride: seconds from the start of one window to the start of the next; default, half a window
    """

    window: PositiveFloat | None = 8.0
    stride: PositiveFloat | None = None
