"""The job of decoding the segments of a video in a decoding process, seen from both sides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from vmr.data.decoding.segments import (
    WHOLE,
    FrameSpec,
    Part,
    Segmenter,
    Segments,
    Span,
    VideoFacts,
    full_length_s,
    read_segments,
)
from vmr.errors import VmrError

# A long video is decoded in parts of so many seconds, but in few of them, by as many processes as there are. It does
# not depend on their number, so that vectors do not either. A part costs listing all packets of the file once more.
PART_S = 300
MAX_PARTS = 16


class WorkerMessageError(Exception):
    """A decoding process sent something that is not valid."""

    def __init__(self) -> None:
        super().__init__("the decoder sent an answer that is not valid")


@dataclass(frozen=True)
class SegmentsJob:
    """A job for a decoding process: all segments of one video, or those of a part of it.

    The segmenter stays in the parent process. The decoding process sends the `VideoFacts` there and gets the spans. The
    job of a long video thereby becomes that of its first part, and gives away jobs for the others.

    Attributes:
        path: the video or picture.
        spec: which frames to take of each segment.
        reader: see `VideoReader`.
        segmenter: None makes one segment of the whole video.
        share: is told the first part, and takes the jobs of the others; None if the video is not to be divided.
        known: what `answer` gave for the first part, with another "part"; None for the first part.
    """

    kind: ClassVar[str] = "vmr.data.decoding.segments_job:serve_segments"

    path: str
    spec: FrameSpec
    reader: str = "pyav"
    segmenter: Segmenter | None = None
    share: Callable[[Part, list[SegmentsJob]], None] | None = None
    known: Mapping[str, Any] | None = None

    def request(self) -> dict[str, Any]:
        """Return the job as JSON."""
        return {
            "path": self.path,
            "spec": asdict(self.spec),
            "reader": self.reader,
            "whole": self.segmenter is None,
            "needs_cuts": self.known is None and getattr(self.segmenter, "needs_cuts", False),
            "known": self.known,
        }

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the spans of a video, and the length of a full one.

        Args:
            question: the `VideoFacts`; or nothing, which only says that cuts are still being looked for.

        Raises:
            WorkerMessageError: the question is not valid.
            VmrError: the segmenter gave no span, or one outside the video.
        """
        if not question:
            return {}
        try:
            cuts_s = question["cuts_s"]
            facts = VideoFacts(
                float(question["duration_s"]),
                int(question["num_frames"]),
                int(question["height"]),
                int(question["width"]),
                None if cuts_s is None else tuple(float(cut_s) for cut_s in cuts_s),
                self.path,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerMessageError from error
        spans = [] if self.segmenter is None else list(self.segmenter.spans(facts))
        if self.segmenter is None or not spans:
            raise VmrError(f"{self.path}: the segmenter gave no span, but every video needs at least one")
        for start_s, end_s in spans:
            if not 0 <= start_s <= end_s <= facts.duration_s:
                raise VmrError(
                    f"{self.path}: the segmenter gave the span ({start_s}, {end_s}), but the video lasts from 0 to "
                    f"{facts.duration_s} s"
                )
        times = [(float(start_s), float(end_s)) for start_s, end_s in spans]
        answer: dict[str, Any] = {"spans": times, "window_s": full_length_s(self.segmenter, times)}
        first, *others = parts_of(times)
        if self.share is not None and others:
            self.share(first, [replace(self, known={**answer, "part": part}) for part in others])
            answer["part"] = first
        return answer

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether a segment may have this shape."""
        num_frames, *picture = shape
        return 1 <= num_frames <= self.spec.num_frames and picture == [3, self.spec.size, self.spec.size]


def parts_of(spans: Sequence[Span]) -> list[Part]:
    """Return the parts in which the spans of a video are decoded, in order; no part is without a span."""
    part_s = float(max(PART_S, math.ceil(max(end_s for _, end_s in spans) / MAX_PARTS)))  # whole seconds are exact
    places = sorted({int(start_s // part_s) for start_s, _ in spans})
    return [(place * part_s, (place + 1) * part_s) for place in places]


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
    segmenter = None if request["whole"] else _AskingSegmenter(ask, request["needs_cuts"], request["known"])
    return read_segments(request["path"], FrameSpec(**request["spec"]), segmenter, request["reader"])


class _AskingSegmenter:
    """Stands for the parent's segmenter in a decoding process: it asks the parent for the spans if it lacks them."""

    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, ask: Callable[[dict[str, Any]], Any], needs_cuts: bool, known: dict[str, Any] | None) -> None:
        self._ask, self.needs_cuts, self._known = ask, needs_cuts, known

    def still_looking(self) -> None:
        """Say that cuts are being looked for, so that the parent goes on waiting."""
        self._ask({})

    def spans(self, video: VideoFacts) -> list[Span]:
        answer = self._known or self._ask(asdict(video))
        self.window_s = answer["window_s"]
        start_s, stop_s = answer.get("part", WHOLE)
        self.part: Part = (start_s, stop_s)
        return [(start_s, end_s) for start_s, end_s in answer["spans"]]
