"""From a video file to its views: each frame that any view shows is decoded, scaled and sent once.

Shapes: K segments of T frames, C crops of S x S pixels; a video has K * C views.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.resize import resize_bilinear, resize_pillow
from vmr.data.decoding.segments import DecodedSegment, FileEnd, Segments
from vmr.data.decoding.segments_job import WorkerMessageError
from vmr.data.decoding.squares import IMAGE_SHARE, MAX_ASPECT_RATIO
from vmr.data.decoding.stills import Frames, NotAStillError, read_still
from vmr.data.decoding.video import VideoReader, with_video
from vmr.data.media import IMAGE_SUFFIXES
from vmr.data.remark import Remark
from vmr.data.views.crops import Box, center_box, crop_boxes, resized_size
from vmr.data.views.frame_folder import FrameFolder
from vmr.data.views.frame_rules import Indices, view_indices
from vmr.data.views.spec import ViewSpec
from vmr.data.views.trimmed import Span, frames_of_span
from vmr.errors import VideoError

Frame = NDArray[np.uint8]
"""RGB in [0, 255], (3, h, w): scaled, and cropped if there is one crop only."""


class _Pictures(Protocol):
    """What views are taken from: a `VideoReader`, `FrameFolder` or `Frames`."""

    path: str
    num_frames: int
    height: int
    width: int

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader.pictures`."""


@dataclass(frozen=True)
class ViewJob:
    """All views of one file to decode.

    Attributes:
        path: a video, a still picture (one frame), or a folder of numbered pictures, see `FrameFolder`.
        spec: the views.
        span: the part of the video to take them from, in seconds; None for all of it.
        reader: the library that decodes a video, see `VideoReader`.
    """

    kind: ClassVar[str] = "vmr.data.views.view_job:serve_views"

    path: str
    spec: ViewSpec
    span: Span | None = None
    reader: str = "pyav"

    def request(self) -> dict[str, Any]:
        """Return the job as JSON, for a decoding process."""
        return asdict(self)

    def answer(self, question: dict[str, Any]) -> Any:
        """Refuse, because a process asks no questions about views."""
        raise WorkerMessageError

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether the frames of all segments may have this shape."""
        num_frames, channels, *sides = shape
        short, long = sorted(sides)
        longest = MAX_ASPECT_RATIO * self.spec.size if self.spec.num_crops > 1 else self.spec.size
        is_whole = num_frames == self.spec.num_segments * self.spec.num_frames
        return is_whole and channels == 3 and short == self.spec.size and long <= longest


def serve_views(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `ViewJob` in a decoding process; it asks no questions.

    Args:
        request: the result of `ViewJob.request`.
        ask: not called.

    Yields:
        One segment with the frames of all segments of the views, K * T of them, which `views_of` crops.

    Returns:
        What was noticed about the file.

    Raises:
        VideoError: the file cannot be read.
    """
    spec, span = ViewSpec(**request.pop("spec")), request.pop("span")
    numbers, frames, remarks = _read(ViewJob(spec=spec, span=span and (span[0], span[1]), **request))
    all_numbers = numbers.reshape(-1).tolist()
    yield DecodedSegment(request["path"], 0.0, 0.0, tuple(frames[number] for number in all_numbers), tuple(all_numbers))
    return FileEnd(remarks)


def read_views(path: str, spec: ViewSpec, span: Span | None = None, reader: str = "pyav") -> NDArray[np.uint8]:
    """Decode the views of a video in this process; `decode_views` does so for many files, in others.

    Args:
        path: a video, a still picture (one frame), or a folder of numbered pictures, see `FrameFolder`.
        spec: the views.
        span: the part of the video to take them from, in seconds; None for all of it.
        reader: the library that decodes a video, see `VideoReader`.

    Returns:
        uint8 RGB in [0, 255], (num_views, T, 3, S, S): segment after segment, the crops of each one after the other.

    Raises:
        VideoError: the file cannot be read. From a damaged video, the decodable frames are used.
    """
    numbers, frames, _ = _read(ViewJob(path, spec, span, reader))
    return views_of([frames[number] for number in numbers.reshape(-1).tolist()], spec)


def views_of(frames: Sequence[Frame], spec: ViewSpec) -> NDArray[np.uint8]:
    """Crop the views from the frames of all segments.

    Args:
        frames: K * T of them, segment after segment, as `serve_views` gives them.
        spec: the views.

    Returns:
        uint8 (num_views, T, 3, S, S).
    """
    size = spec.size
    _, height, width = frames[0].shape
    boxes = crop_boxes(height, width, size, spec.num_crops)
    views = np.empty((spec.num_segments, len(boxes), spec.num_frames, 3, size, size), np.uint8)
    for place, frame in enumerate(frames):
        segment, position = divmod(place, spec.num_frames)
        for crop, (top, left, _, _) in enumerate(boxes):
            views[segment, crop, position] = frame[:, top : top + size, left : left + size]
    return views.reshape(spec.num_views, *views.shape[2:])


def _read(job: ViewJob) -> tuple[Indices, dict[int, Frame], tuple[Remark, ...]]:
    """The numbers of the frames of each segment, (K, T), the distinct frames, and what was noticed."""
    path = job.path
    if Path(path).is_dir():
        return (*_take(FrameFolder(path), job), ())
    if path.lower().endswith(IMAGE_SUFFIXES):
        with contextlib.suppress(NotAStillError):  # a video may have any name
            return (*_take(Frames(path, read_still(path)), job), ())
    return with_video(path, job.reader, lambda video: (*_take(video, job), video.remarks))


def _take(video: _Pictures, job: ViewJob) -> tuple[Indices, dict[int, Frame]]:
    spec = job.spec
    first, last = (0, video.num_frames - 1) if job.span is None else span_of(video, job.span)
    numbers = first + view_indices(spec, last - first + 1)
    distinct = np.unique(numbers).tolist()
    short, long = sorted((video.height, video.width))
    if long > MAX_ASPECT_RATIO * short:
        raise VideoError(video.path, f"{video.width} x {video.height} pixels: too narrow to crop a square from")
    frames = {number: _scaled(rgb, spec) for number, rgb in zip(distinct, video.pictures(distinct), strict=True)}
    return numbers, frames


def span_of(video: _Pictures, span: Span) -> tuple[int, int]:
    """Return the first and the last frame of a part of a video.

    Args:
        video: the video.
        span: the part, in seconds.

    Raises:
        VideoError: there are no times, or the video ends before the part begins.
    """
    start_s, end_s = span
    if not isinstance(video, VideoReader):
        raise VideoError(video.path, "pictures have no times, so that no seconds can be taken from them")
    if not 0 <= start_s < min(end_s, video.duration_s):
        raise VideoError(
            video.path, f"no part from {start_s:g} to {end_s:g} s can be taken of its {video.duration_s:g} s"
        )
    return frames_of_span(video.timestamps_s, span)


def _scaled(rgb: NDArray[np.uint8], spec: ViewSpec) -> Frame:
    """Scale a picture (H, W, 3); if it has one crop, keep only that."""
    height, width = rgb.shape[:2]
    if spec.resize == "image":
        sides = resized_size(height, width, int(spec.size / IMAGE_SHARE))
        frame = resize_pillow(rgb.transpose(2, 0, 1), sides)
    else:
        sides = resized_size(height, width, spec.size)
        frame = resize_bilinear(rgb, sides).transpose(2, 0, 1)
    if spec.num_crops > 1:
        return frame
    top, left, high, wide = _only_box(*sides, spec)
    return frame[:, top : top + high, left : left + wide]


def _only_box(height: int, width: int, spec: ViewSpec) -> Box:
    """The box of the only crop. A video with one view is in validation, where upstream rounds its place differently."""
    if spec.num_segments == 1 or spec.resize == "image":
        return center_box(height, width, spec.size)
    return crop_boxes(height, width, spec.size, 1)[0]
