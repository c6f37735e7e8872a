"""From a video file to the frames of its segments, in the shape a model takes (without torch: workers start fast).

A segment is the whole video, or a span of it in seconds. A `Segmenter` chooses the spans. It gets the length and size
of the video when the video is open. The frames of all spans of a video lie on one grid, see `grid_indices`, so that
spans that overlap share frames. Each frame has a number in its video and is decoded once.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.checks import real_number, whole_number
from vmr.data.decoding.distinct import DistinctFrames
from vmr.data.decoding.sampling import Indices, check_rule, grid_indices, is_random, sample_indices, shown_in
from vmr.data.decoding.squares import RESIZES, square_frames
from vmr.data.decoding.stills import Frames, NotAStillError, read_still
from vmr.data.decoding.video import VideoReader
from vmr.data.media import IMAGE_SUFFIXES
from vmr.data.remark import Remark
from vmr.errors import VideoError, VmrError

_SPANS_AT_ONCE = 4  # so that the first of them are embedded while the next are decoded

Span = tuple[float, float]
"""Start and end of a segment, in seconds from the video's first frame."""

Part = tuple[float, float]
"""A part of a long video, which is decoded as a job of its own: the spans that begin in [start, stop), in seconds."""

WHOLE: Part = (0.0, math.inf)

Frame = NDArray[np.uint8]
"""RGB in [0, 255], (3, size, size)."""


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video that are known when it is open.

    Attributes:
        duration_s: seconds from the first frame to the end of the last.
        num_frames: how many frames it shows.
        height: in pixels, upright.
        width: in pixels, upright.
        cuts_s: when new shots begin, in seconds, increasing; None if the segmenter does not ask for it.
        path: the file, as it was given.
    """

    duration_s: float
    num_frames: int
    height: int
    width: int
    cuts_s: tuple[float, ...] | None = None
    path: str = ""


class Segmenter(Protocol):
    """Cuts videos into spans. `vmr.retrieval.segments` has implementations.

    A segmenter may have two attributes more. `window_s` is the length of a full span in seconds, which the grid of
    frames follows; without it, that is the longest span. `needs_cuts` says whether `VideoFacts.cuts_s` is wanted; to
    find the cuts, all frames are decoded. In a decoding process it may also have a `part` of the video, to which
    `read_segments` keeps.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that the spans depend on, as a JSON object; it is part of the key of cached features."""

    def spans(self, video: VideoFacts) -> Sequence[Span]:
        """Return the spans of a video in order, at least one, each within [0, video.duration_s].

        Spans that show nothing new are left out later, see `read_segments`.
        """


def full_length_s(segmenter: Segmenter, spans: Sequence[Span]) -> float:
    """Return the length of a full span of a segmenter in seconds; 0 if each of its spans is a moment."""
    longest_s = max(end_s - start_s for start_s, end_s in spans)
    return float(getattr(segmenter, "window_s", longest_s))


@dataclass(frozen=True)
class FrameSpec:
    """Which frames to take of each segment, and how large.

    Attributes:
        num_frames: frames of a segment, at least 1.
        size: side of the square pictures, in pixels.
        resize: "crop" scales the short side to `size` and keeps the middle `size` x `size`; "stretch" scales both sides
            to `size` whatever the aspect ratio; "upstream" stretches as the released VideoMamba models were evaluated,
            see `vmr.data.decoding.resize`; "video" and "image" crop the middle as classifiers are evaluated, see
            `vmr.data.views.spec.ViewSpec`.
        sampling: which frames of a whole video, see `sample_indices`; "fpsR" gives at most num_frames. Random rules are
            refused. A span always gives frames at equal distances, see `grid_indices`.
        keyframes: take the nearest key frame in place of each frame, which is fast and not exact.
        skip_still: a frame whose pixels, in [0, 1], differ on average by less than this from the last frame before it
            that was not left out, is left out, and that one is given in its place; 0 leaves out none.

    Raises:
        VmrError: a value is unknown or out of range.
    """

    num_frames: int
    size: int
    resize: str = "crop"
    sampling: str = "middle"
    keyframes: bool = False
    skip_still: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_frames", "size"):
            whole_number(name, getattr(self, name))
        check_rule(self.sampling)
        random = is_random(self.sampling)
        wrong = {
            f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}": self.resize not in RESIZES,
            f"sampling {self.sampling!r} is for training: here a segment must give the same frames each time": random,
            f"skip_still is {self.skip_still}: expected a number in [0, 1)": not (
                0 <= real_number("skip_still", self.skip_still) < 1
            ),
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
        frames: T frames in order, uint8 RGB in [0, 255], (3, size, size).
        numbers: the number of each among the distinct frames of the video, from 0: segments that overlap share some,
            and a frame that is given several times has one number.
        part: the part of the video that it belongs to; each part numbers its frames by itself.
    """

    path: str
    start_s: float
    end_s: float
    frames: tuple[Frame, ...]
    numbers: tuple[int, ...]
    part: Part = WHOLE

    @property
    def video(self) -> NDArray[np.uint8]:
        """All frames in one array, uint8 (T, 3, size, size)."""
        return np.stack(self.frames)


@dataclass(frozen=True)
class FileEnd:
    """What is known about a file when it has been read.

    Attributes:
        remarks: what was noticed, see `VideoReader.remarks`.
        width: in pixels, upright; 0 if it was not looked at.
        height: in pixels, upright.
        is_unsound: whether this was a part of a file that must be decoded as a whole; it was not read to its end.
    """

    remarks: tuple[Remark, ...] = ()
    width: int = 0
    height: int = 0
    is_unsound: bool = False


Segments = Generator[DecodedSegment, None, FileEnd]
"""The segments of a file; at the end, what was noticed about the file."""


def read_segments(
    path: str | os.PathLike[str], spec: FrameSpec, segmenter: Segmenter | None = None, reader: str = "pyav"
) -> Segments:
    """Decode the segments of a video in order.

    Frames that spans near each other share are decoded once. Memory does not grow with the length of the video. A
    damaged file may list frames that cannot be decoded. Its frames are then counted by decoding all of them, and those
    that can be decoded are used.

    While a picture is held for long, spans may show nothing new: no frame begins in them, or none that the span before
    did not show. They are left out.

    A part of a video is read only while `VideoReader.is_sound`: what is known about other files changes on the way, and
    parts would not fit together.

    Args:
        path: a video; a still picture is one segment, which repeats the picture.
        spec: which frames to take of each segment.
        segmenter: None makes one segment of the whole video.
        reader: see `VideoReader`.

    Yields:
        The segments.

    Returns:
        What was noticed about the file.

    Raises:
        VideoError: the video cannot be read.
    """
    path = os.fspath(path)
    if path.lower().endswith(IMAGE_SUFFIXES):
        with contextlib.suppress(NotAStillError):  # a video may have any name
            return (yield from _read_picture(path, spec))
    video = VideoReader(path, reader)  # with one thread: several repair damage in another way, and not in one way only
    try:
        frames = DistinctFrames(spec.resize, spec.size, spec.skip_still)
        try:
            spans, window_s = _spans_of(video, segmenter)
        except VideoError:  # whoever looks for cuts reads all frames
            video = _counted(video, reader)
            spans, window_s = _spans_of(video, segmenter)
        part: Part = getattr(segmenter, "part", WHOLE)
        for group, later in _groups([span for span in spans if part[0] <= span[0] < part[1]]):
            try:
                taken = frames.take(video, _indices(video, spec, segmenter, group, window_s))
                if part != WHOLE and not video.is_sound:
                    return FileEnd(is_unsound=True)
            except VideoError:
                if part != WHOLE:
                    return FileEnd(is_unsound=True)
                video = _counted(video, reader)
                frames.forget_all()
                taken = frames.take(video, _indices(video, spec, segmenter, group, window_s))
            for (start_s, end_s), (numbers, pictures) in zip(group, taken, strict=True):
                yield DecodedSegment(path, start_s, end_s, pictures, numbers)
            frames.keep_only(_indices(video, spec, segmenter, later, window_s))
        return FileEnd(video.remarks, video.width, video.height)
    finally:
        video.close()


def _read_picture(path: str, spec: FrameSpec) -> Segments:
    picture = Frames(path, read_still(path))
    (square,) = square_frames(picture, spec.resize, spec.size, np.zeros(1, np.int64))
    yield DecodedSegment(path, 0.0, 0.0, (square,) * spec.num_frames, (0,) * spec.num_frames)
    return FileEnd((), picture.width, picture.height)


def _counted(video: VideoReader, reader: str) -> VideoReader:
    """Open a damaged video again, and find its frames by decoding all of them."""
    video.close()
    return VideoReader(video.path, reader, count_frames=True)


def _spans_of(video: VideoReader, segmenter: Segmenter | None) -> tuple[list[Span], float]:
    """The spans of a video that show something new, and the length of a full one."""
    if segmenter is None:
        return [(0.0, video.duration_s)], video.duration_s
    cuts_s = None
    if getattr(segmenter, "needs_cuts", False):
        from vmr.data.decoding.cuts import shot_cuts

        cuts_s = shot_cuts(video, getattr(segmenter, "still_looking", lambda: None))
    facts = VideoFacts(video.duration_s, video.num_frames, video.height, video.width, cuts_s, video.path)
    spans = segmenter.spans(facts)
    return _with_new_frames(spans, video), full_length_s(segmenter, spans) or video.duration_s


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


def _groups(spans: list[Span]) -> Iterator[tuple[list[Span], list[Span]]]:
    """Yield spans that are decoded together, and the later ones whose frames are worth keeping until then.

    These are the next ones, which overlap with them, and the last one, which may be the whole video.
    """
    for start in range(0, len(spans), _SPANS_AT_ONCE):
        stop = start + _SPANS_AT_ONCE
        yield spans[start:stop], [*spans[stop : stop + _SPANS_AT_ONCE], *spans[stop:][-1:]]


def _indices(
    video: VideoReader, spec: FrameSpec, segmenter: Segmenter | None, spans: Sequence[Span], window_s: float
) -> Sequence[Indices]:
    """The numbers of the frames of some spans in the file."""
    keys = video.key_indices if spec.keyframes else None
    if segmenter is not None:
        return list(grid_indices(video.timestamps_s, video.duration_s, spec.num_frames, spans, window_s, keys))
    indices = sample_indices(spec.sampling, spec.num_frames, video)
    if keys is not None:
        indices = keys[np.abs(keys[:, None] - indices).argmin(axis=0)]
    return [indices] * len(spans)
