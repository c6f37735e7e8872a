"""The views of a video, as data."""

from dataclasses import dataclass
from typing import get_args

from vmr.checks import whole_number
from vmr.errors import VmrError
from vmr.targets import FrameRule as FrameRule  # noqa: PLC0414 (others import it from here)


@dataclass(frozen=True)
class ViewSpec:
    """Views of a video: `num_segments` choices of frames times `num_crops` places in the picture.

    Attributes:
        num_frames: T, frames of a view.
        size: S, side of a view in pixels.
        frames: which frames are taken.
        stride: frames from one to the next, for the rule `dense` only.
        num_segments: choices of frames.
        num_crops: 1 (the centre) or 3 (along the long side).

    Raises:
        VmrError: a number is out of range, or the rule is unknown.
    """

    num_frames: int
    size: int
    frames: FrameRule = "sparse"
    stride: int = 1
    num_segments: int = 1
    num_crops: int = 1

    def __post_init__(self) -> None:
        for name in ("num_frames", "size", "stride", "num_segments"):
            whole_number(name, getattr(self, name))
        if self.num_crops not in (1, 3):
            raise VmrError(f"num_crops is {self.num_crops}: use 1 or 3")
        if self.frames not in get_args(FrameRule):
            raise VmrError(f"frames must be one of {', '.join(get_args(FrameRule))}, not {self.frames!r}")

    @property
    def num_views(self) -> int:
        """Views of a video, segment after segment, the crops of each one after the other."""
        return self.num_segments * self.num_crops
