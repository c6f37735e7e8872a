"""What is noticed about a video that can be read, but is not as it should be."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Remark:
    """Something to know about a video that was read.

    Attributes:
        kind: "damage": parts of the video are missing or not as they were recorded; "times": the file states times
            that cannot be meant, and they were mended.
        text: a line that says it, without the path.
    """

    kind: Literal["damage", "times"]
    text: str
