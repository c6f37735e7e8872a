"""From a video file to the frames of its segments, in the shape a model takes (without torch: workers start fast)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.other_readers import READERS
from vmr.data.decoding.resize import resize_bicubic
from vmr.data.decoding.sampling import Indices, check_rule, is_random, sample_indices, window_indices, windows
from vmr.data.decoding.stills import Frames, read_still
from vmr.data.decoding.video import VideoReader
from vmr.errors import VideoError, VmrError
from vmr.files import IMAGE_SUFFIXES

RESIZES = ("crop", "stretch", "upstream")
_NARROWEST = 32  # times as long as wide: beyond it, scaling to crop a square takes memory without bound
_WINDOWS_AT_ONCE = 16  # overlapping windows share their frames; more at once would only hold more memory

T = TypeVar("T")


class FrameSource(Protocol):
    """Numbered frames of one size, as `VideoReader` gives them."""

    path: str
    height: int
    width: int

    def frames_at(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """See `VideoReader.frames_at`."""


@dataclass(frozen=True)
class FrameSpec:
    """What to decode from each segment of a video. Raises VmrError for values that make no sense.

    num_frames: per segment. size: side of the square pictures, in pixels.
    resize: "crop" scales the short side to size and keeps the middle size x size; "stretch" scales both sides to size
    whatever the aspect ratio; "upstream" does so as the released VideoMamba models were evaluated, see
    `vmr.data.decoding.resize`.
    window_s, stride_s: cut the video into windows of so many seconds, so far apart (side by side if None);
    window_s None makes one segment of the whole video. reader: see `VideoReader`.
    sampling: which frames of a whole video, see `sample_indices` ("fpsR" gives at most num_frames); windows always take
    the middle of equal parts.
    """

    num_frames: int
    size: int
    resize: str = "crop"
    window_s: float | None = None
    stride_s: float | None = None
    reader: str = "pyav"
    sampling: str = "middle"

    def __post_init__(self) -> None:
        check_rule(self.sampling)
        stride_s = self.window_s if self.stride_s is None else self.stride_s
        drawn = is_random(self.sampling)
        wrong = {
            "num_frames and size must be at least 1": self.num_frames < 1 or self.size < 1,
            f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}": self.resize not in RESIZES,
            "window_s must be positive and finite": self.window_s is not None and not 0 < self.window_s < math.inf,
            "stride_s without window_s means nothing": self.window_s is None and self.stride_s is not None,
            "stride_s must be positive and at most window_s, or frames are left out": self.window_s is not None
            and stride_s is not None
            and not 0 < stride_s <= self.window_s,
            f"reader must be one of {', '.join(READERS)}, not {self.reader!r}": self.reader not in READERS,
            f"sampling {self.sampling!r} is for training; a segment to be found needs the same frames always": drawn,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)


@dataclass(frozen=True)
class DecodedSegment:
    """The frames of path from start_s to end_s: uint8 RGB in [0, 255], (T, 3, size, size)."""

    path: str
    start_s: float
    end_s: float
    video: NDArray[np.uint8]


def read_clip(path: str | os.PathLike[str], spec: FrameSpec) -> Generator[DecodedSegment, None, None]:
    """The segments of a video in order; the last ends with the video. A still picture is one, the same at every frame.

    Frames that several windows share are decoded once. Memory does not grow with the length of the video.
    Raises VideoError if the video cannot be read. If its packets promise frames that do not decode, its frames are
    counted by decoding them all, and what can be decoded is used.
    """
    path = os.fspath(path)
    if path.lower().endswith(IMAGE_SUFFIXES):
        still = square_frames(Frames(path, read_still(path)), spec.resize, spec.size, np.zeros(1, np.int64))
        yield DecodedSegment(path, 0.0, 0.0, np.repeat(still, spec.num_frames, axis=0))
        return
    reader = VideoReader(path, spec.reader)
    try:
        spans = windows(reader.duration_s, spec.window_s, spec.stride_s)
        for start in range(0, len(spans), _WINDOWS_AT_ONCE):
            group = spans[start : start + _WINDOWS_AT_ONCE]
            try:
                videos = _decode_group(reader, spec, group)
            except VideoError:
                reader.close()
                reader = VideoReader(path, spec.reader, count_frames=True)
                videos = _decode_group(reader, spec, group)
            for (start_s, end_s), video in zip(group, videos, strict=True):
                yield DecodedSegment(path, start_s, end_s, video)
    finally:
        reader.close()


def _decode_group(reader: VideoReader, spec: FrameSpec, spans: list[tuple[float, float]]) -> list[NDArray[np.uint8]]:
    indices = [_indices(reader, spec, *span) for span in spans]
    needed = np.unique(np.concatenate(indices))
    frames = square_frames(reader, spec.resize, spec.size, needed)
    return [frames[np.searchsorted(needed, wanted)] for wanted in indices]


def _indices(reader: VideoReader, spec: FrameSpec, start_s: float, end_s: float) -> Indices:
    if spec.window_s is None:
        return sample_indices(spec.sampling, spec.num_frames, reader)
    return window_indices(reader.timestamps_s, spec.num_frames, start_s, end_s)


def square_frames(video: FrameSource, resize: str, size: int, indices: Indices) -> NDArray[np.uint8]:
    """Frames as `FrameSpec.resize` says: uint8 (len(indices), 3, size, size).

    Sides and offsets are rounded as torchvision's Resize and CenterCrop do. Raises VideoError for a picture too narrow
    to crop a square from.
    """
    if resize == "stretch":
        return video.frames_at(indices.tolist(), (size, size))
    if resize == "upstream":
        return resize_bicubic(video.frames_at(indices.tolist()), (size, size))
    short, long = sorted((video.height, video.width))
    if long > _NARROWEST * short:
        raise VideoError(video.path, f"{video.width} x {video.height} pixels: too narrow to crop a square from")
    height, width = max(size, size * video.height // short), max(size, size * video.width // short)
    crop = (round((height - size) / 2), round((width - size) / 2), size, size)
    return video.frames_at(indices.tolist(), (height, width), crop)


def with_video(path: str, reader: str, use: Callable[[VideoReader], T]) -> T:
    """What `use` makes of a video that is open for as long; it is called again if frames prove to be missing.

    A damaged file may promise frames that do not decode. The second time its frames have been counted by decoding them
    all. Raises VideoError if the video cannot be read.
    """
    video = VideoReader(path, reader)
    try:
        return use(video)
    except VideoError:
        video.close()
        video = VideoReader(path, reader, count_frames=True)
        return use(video)
    finally:
        video.close()
