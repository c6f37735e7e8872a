"""The views of a video, as data."""

from dataclasses import dataclass
from typing import Literal, get_args

from vmr.checks import whole_number
from vmr.errors import VmrError
from vmr.targets import FrameRule

ViewResize = Literal["video", "image"]
"""How a picture is scaled before it is cropped; see `ViewSpec.resize`."""


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
        resize: "video" scales the short side to S, bilinear as OpenCV does it; "image" scales the short side to
            int(S / 0.875), bicubic as Pillow does it, and shows the centre, as ImageNet is evaluated.

    Raises:
        VmrError: a number is out of range, a rule is unknown, or 3 crops are asked for with "image".
    """

    num_frames: int
    size: int
    frames: FrameRule = "sparse"
    stride: int = 1
    num_segments: int = 1
    num_crops: int = 1
    resize: ViewResize = "video"

    def __post_init__(self) -> None:
        for name in ("num_frames", "size", "stride", "num_segments"):
            whole_number(name, getattr(self, name))
        if self.num_crops not in (1, 3):
            raise VmrError(f"num_crops is {self.num_crops}: use 1 or 3")
        for name, rule in (("frames", FrameRule), ("resize", ViewResize)):
            if getattr(self, name) not in get_args(rule):
                raise VmrError(f"{name} must be one of {', '.join(get_args(rule))}, not {getattr(self, name)!r}")
        if self.resize == "image" and self.num_crops != 1:
            raise VmrError("resize 'image' shows the centre only: use num_crops 1, or resize 'video'")

    @property
    def num_views(self) -> int:
        """Views of a video, segment after segment, the crops of each one after the other."""
        return self.num_segments * self.num_crops
