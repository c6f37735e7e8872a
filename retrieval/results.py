"""What is said about the videos of an index, and about those that were left out."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Failure:
    """A video that was asked for and is not in the index.

    Attributes:
        video: path of the video, relative to a folder of the index.
        reason: why, in one line.
    """

    video: str
    reason: str


@dataclass(frozen=True)
class VideoRemark:
    """Something to know about a video that was read, see `vmr.VideoReader.remarks`.

    Attributes:
        video: path of the video, relative to a folder of the index.
        kind: "damage" or "times".
        text: a line that says it.
    """

    video: str
    kind: Literal["damage", "times"]
    text: str
