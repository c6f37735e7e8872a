"""From a video file to the frames of its segments, in the shape a model takes (without torch: workers start fast).

A segment is the whole video, or a span of it in seconds. A `Segmenter` chooses the spans. It gets the length and size
of the video when the video is open.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.checks import whole_number
from vmr.data.decoding.resize import resize_bicubic
from vmr.data.decoding.sampling import Indices, check_rule, is_random, sample_indices, shown_in, window_indices
from vmr.data.decoding.stills import Frames, NotAStillError, read_still
from vmr.data.decoding.video import VideoReader
from vmr.data.media import IMAGE_SUFFIXES
from vmr.data.remark import Remark
from vmr.errors import VideoError, VmrError

RESIZES = ("crop", "stretch", "upstream")
_MAX_ASPECT_RATIO = 32  # the short side is scaled to the square's side, so a very long side would take very much memory
_SPANS_AT_ONCE = 16  # overlapping spans share their frames; more spans at once would only take more memory

Span = tuple[float, float]
"""Start and end of a segment, in seconds from the video's first frame."""


class WorkerMessageError(Exception):
    """A decoding process sent something that is not valid."""

    def __init__(self) -> None:
        super().__init__("the decoder sent an answer that is not valid")


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video that are known when it is open.

    Attributes:
        duration_s: seconds from the first frame to the end of the last.
        num_frames: how many frames it shows.
        height: in pixels, upright.
        width: in pixels, upright.
        path: the file, as it was given.
    """

    duration_s: float
    num_frames: int
    height: int
    width: int
    path: str = ""


class Segmenter(Protocol):
    """Cuts videos into spans. `vmr.retrieval.segments` has an implementation."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that the spans depend on, as a JSON object; it is part of the key of cached features."""

    def spans(self, video: VideoFacts) -> Sequence[Span]:
        """Return the spans of a video in order, at least one, each within [0, video.duration_s].

        Spans that show nothing new are left out later, see `read_segments`.
        """


class FrameSource(Protocol):
    """Numbered frames of one size, such as a `VideoReader`.

    Attributes:
        path: the file of the frames, for error messages.
        height: in pixels, upright.
        width: in pixels, upright.
    """

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
    """Which frames to take of each segment, and how large.

    Attributes:
        num_frames: frames of a segment, at least 1.
        size: side of the square pictures, in pixels.
        resize: "crop" scales the short side to `size` and keeps the middle `size` x `size`; "stretch" scales both sides
            to `size` whatever the aspect ratio; "upstream" stretches as the released VideoMamba models were evaluated,
            see `vmr.data.decoding.resize`.
        sampling: which frames of a whole video, see `sample_indices`; "fpsR" gives at most num_frames. Random rules are
            refused. A span always gives the middle frame of each of num_frames equal parts.

    Raises:
        VmrError: a value is unknown or out of range.
    """

    num_frames: int
    size: int
    resize: str = "crop"
    sampling: str = "middle"

    def __post_init__(self) -> None:
        for name in ("num_frames", "size"):
            whole_number(name, getattr(self, name))
        check_rule(self.sampling)
        random = is_random(self.sampling)
        wrong = {
            f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}": self.resize not in RESIZES,
            f"sampling {self.sampling!r} is for training: here a segment must give the same frames each time": random,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)


@dataclass(frozen=True)
class DecodedSegment:
    """The frames of a segment.

    Attributes:
        path: the video.
        start_s: where the segment starts, in seconds.
        end_s: where it ends.
        video: uint8 RGB in [0, 255], (T, 3, size, size).
    """

    path: str
    start_s: float
    end_s: float
    video: NDArray[np.uint8]


Segments = Generator[DecodedSegment, None, tuple[Remark, ...]]
"""The segments of a file; at the end, what was noticed about the file."""


@dataclass(frozen=True)
class SegmentsJob:
    """A job for a decoding process: all segments of one video.

    The segmenter stays in the parent process. The decoding process sends the `VideoFacts` there and gets the spans.

    Attributes:
        path: the video or picture.
        spec: which frames to take of each segment.
        reader: see `VideoReader`.
        segmenter: None makes one segment of the whole video.
    """

    kind: ClassVar[str] = "vmr.data.decoding.segments:serve_segments"

    path: str
    spec: FrameSpec
    reader: str = "pyav"
    segmenter: Segmenter | None = None

    def request(self) -> dict[str, Any]:
        """Return the job as JSON."""
        whole = self.segmenter is None
        return {"path": self.path, "spec": asdict(self.spec), "reader": self.reader, "whole": whole}

    def answer(self, question: dict[str, Any]) -> list[Span]:
        """Return the spans of a video.

        Args:
            question: the `VideoFacts`.

        Raises:
            WorkerMessageError: the question is not valid.
            VmrError: the segmenter gave no span, or one outside the video.
        """
        try:
            facts = VideoFacts(
                float(question["duration_s"]),
                *(int(question[name]) for name in ("num_frames", "height", "width")),
                path=self.path,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerMessageError from error
        spans = [] if self.segmenter is None else list(self.segmenter.spans(facts))
        if not spans:
            raise VmrError(f"{self.path}: the segmenter gave no span, but every video needs at least one")
        for start_s, end_s in spans:
            if not 0 <= start_s <= end_s <= facts.duration_s:
                raise VmrError(
                    f"{self.path}: the segmenter gave the span ({start_s}, {end_s}), but the video lasts from 0 to "
                    f"{facts.duration_s} s"
                )
        return [(float(start_s), float(end_s)) for start_s, end_s in spans]

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether a segment may have this shape."""
        num_frames, *picture = shape
        return 1 <= num_frames <= self.spec.num_frames and picture == [3, self.spec.size, self.spec.size]


def serve_segments(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `SegmentsJob` in a decoding process.

    Args:
        request: the result of `SegmentsJob.request`.
        ask: sends a question to the parent process, which calls `SegmentsJob.answer`, and returns the answer.

    Yields:
        The segments.

    Returns:
        As `read_segments`.

    Raises:
        VideoError: the video cannot be read.
    """
    segmenter = None if request["whole"] else _AskingSegmenter(ask)
    return read_segments(request["path"], FrameSpec(**request["spec"]), segmenter, request["reader"])


class _AskingSegmenter:
    """Stands for the parent's segmenter in a decoding process: it asks the parent for the spans."""

    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, ask: Callable[[dict[str, Any]], Any]) -> None:
        self._ask = ask

    def spans(self, video: VideoFacts) -> list[Span]:
        return [(start_s, end_s) for start_s, end_s in self._ask(asdict(video))]


def read_segments(
    path: str | os.PathLike[str], spec: FrameSpec, segmenter: Segmenter | None = None, reader: str = "pyav"
) -> Segments:
    """Decode the segments of a video in order.

    Frames that several spans share are decoded once. Memory does not grow with the length of the video. A damaged file
    may list frames that cannot be decoded. Its frames are then counted by decoding all of them, and those that can be
    decoded are used.

    While a picture is held for long, spans may show nothing new: no frame begins in them, or none that the span before
    did not show. They are left out.

    Args:
        path: a video; a still picture is one segment, which repeats the picture.
        spec: which frames to take of each segment.
        segmenter: None makes one segment of the whole video.
        reader: see `VideoReader`.

    Yields:
        The segments.

    Returns:
        What was noticed about the file, see `VideoReader.remarks`.

    Raises:
        VideoError: the video cannot be read.
    """
    path = os.fspath(path)
    if path.lower().endswith(IMAGE_SUFFIXES):
        with contextlib.suppress(NotAStillError):  # a video may have any name
            still = square_frames(Frames(path, read_still(path)), spec.resize, spec.size, np.zeros(1, np.int64))
            yield DecodedSegment(path, 0.0, 0.0, np.repeat(still, spec.num_frames, axis=0))
            return ()
    video = VideoReader(path, reader)
    try:
        facts = VideoFacts(video.duration_s, video.num_frames, video.height, video.width)
        spans = None if segmenter is None else _with_new_frames(segmenter.spans(facts), video)
        for group in [None] if spans is None else _groups(spans):
            try:
                clips = _decode_group(video, spec, group)
            except VideoError:
                video.close()
                video = VideoReader(path, reader, count_frames=True)
                clips = _decode_group(video, spec, group)
            for (start_s, end_s), clip in zip(group or [(0.0, facts.duration_s)], clips, strict=True):
                yield DecodedSegment(path, start_s, end_s, clip)
        return video.remarks
    finally:
        video.close()


def _with_new_frames(spans: Sequence[Span], video: VideoReader) -> list[Span]:
    """Leave out spans in which no frame begins, or that go on from the span before and show no frame that is new."""
    kept = [spans[0]]
    _, last_stop = shown_in(video.timestamps_s, *spans[0])
    for span in spans[1:]:
        start, stop = shown_in(video.timestamps_s, *span)
        goes_on = span[0] >= kept[-1][0] and span[1] >= kept[-1][1]
        if start < stop and not (goes_on and stop <= last_stop):
            kept.append(span)
            last_stop = stop
    return kept


def _groups(spans: list[Span]) -> Iterator[list[Span]]:
    for start in range(0, len(spans), _SPANS_AT_ONCE):
        yield spans[start : start + _SPANS_AT_ONCE]


def _decode_group(video: VideoReader, spec: FrameSpec, spans: Sequence[Span] | None) -> list[NDArray[np.uint8]]:
    """Decode the frames of some spans, or of the whole video if `spans` is None."""
    if spans is None:
        indices = [sample_indices(spec.sampling, spec.num_frames, video)]
    else:
        indices = [window_indices(video.timestamps_s, spec.num_frames, *span) for span in spans]
    needed = np.unique(np.concatenate(indices))
    frames = square_frames(video, spec.resize, spec.size, needed)
    return [frames[np.searchsorted(needed, wanted)] for wanted in indices]


def square_frames(video: FrameSource, resize: str, size: int, indices: Indices) -> NDArray[np.uint8]:
    """Read frames of a video as `FrameSpec.resize` says.

    Sides and offsets are rounded as torchvision's Resize and CenterCrop do.

    Args:
        video: the source of the frames.
        resize: one of RESIZES.
        size: side of the result, in pixels.
        indices: numbers of the frames, (n,).

    Returns:
        uint8 RGB, (n, 3, size, size).

    Raises:
        VideoError: a picture is too narrow to crop a square from.
    """
    if resize == "stretch":
        return video.frames_at(indices.tolist(), (size, size))
    if resize == "upstream":
        return resize_bicubic(video.frames_at(indices.tolist()), (size, size))
    short, long = sorted((video.height, video.width))
    if long > _MAX_ASPECT_RATIO * short:
        raise VideoError(video.path, f"{video.width} x {video.height} pixels: too narrow to crop a square from")
    height, width = max(size, size * video.height // short), max(size, size * video.width // short)
    crop = (round((height - size) / 2), round((width - size) / 2), size, size)
    return video.frames_at(indices.tolist(), (height, width), crop)
