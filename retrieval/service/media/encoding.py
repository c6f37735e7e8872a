"""Parts of a video in a new mp4 file that every browser plays, encoded again.

The pictures are those of `VideoReader`, at the times that it gives, so that every file that can be searched can be
watched, with the same times.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.data.decoding.sampling import shown_at, shown_in
from vmr.data.decoding.video import VideoReader
from vmr.errors import VideoError
from vmr.retrieval.service.media.copying import Part
from vmr.retrieval.service.media.sound import Sound

_TICKS_PER_S = 90_000
_AT_ONCE = 8  # pictures that are decoded together
_KEY_EVERY = 25  # pictures: a browser seeks faster, and the file is larger


@dataclass(frozen=True)
class Effort:
    """How much is put into a part.

    Attributes:
        preset: of x264.
        crf: of x264; lower is better and larger.
        max_height: pixels; larger pictures are scaled.
        max_width: pixels, likewise.
        max_pictures: of all pictures, every second, third, ... is taken so that there are no more.
        seconds: after so long, encoding ends, so that the part is shorter; None for no limit.
        least_s: seconds of the video that are encoded however long it takes.
    """

    preset: str
    crf: int
    max_height: int
    max_width: int
    max_pictures: int
    seconds: float | None = None
    least_s: float = 0.0


QUICK = Effort("ultrafast", 26, 480, 960, 1800, seconds=3.0, least_s=5.0)
"""For somebody who waits for it to play."""

GOOD = Effort("superfast", 22, 720, 1440, 40_000)
"""For a file to keep."""

SMALL = Effort("ultrafast", 28, 480, 960, 40_000)
"""For a preview."""


def encode_part(
    video: VideoReader, first_s: float | None, span: tuple[float, float], aspect: float, effort: Effort, max_bytes: int
) -> Part:
    """Encode pictures and sound of a span; the first picture is the one that is shown when the span begins.

    Args:
        video: the video.
        first_s: when its first picture is shown, by its own clock; None if that clock cannot be trusted, so that there
            is no sound.
        span: the span, in seconds of the video.
        aspect: width of an upright pixel divided by its height.
        effort: how much is put into it.
        max_bytes: of the part.

    Raises:
        VideoError: the pictures cannot be read, or the part would have too many bytes.
    """
    indices = _chosen(video, span, effort.max_pictures)
    ends_s = [*video.timestamps_s[indices[1:]].tolist(), min(span[1], video.duration_s)]
    out, until_s, began_s = io.BytesIO(), None, time.monotonic()
    with av.open(out, "w", format="mp4") as target:
        pictures = _Pictures(target, _size(video, aspect, _scale(video, aspect, effort)), effort)
        with _sound(video.path, target, first_s, span) as sound:
            for start in range(0, len(indices), _AT_ONCE):
                some = slice(start, start + _AT_ONCE)
                times_s = video.timestamps_s[indices[some]] - span[0]
                pictures.add(video.frames_at(indices[some], pictures.size), times_s, ends_s[some][-1] - span[0])
                sound(ends_s[some][-1])
                if out.tell() > max_bytes:
                    raise VideoError(video.path, f"more than {max_bytes >> 20} MiB would be needed: ask for less of it")
                late = effort.seconds is not None and time.monotonic() - began_s > effort.seconds
                if late and ends_s[some][-1] - span[0] >= effort.least_s and start + _AT_ONCE < len(indices):
                    until_s = ends_s[some][-1]
                    break
            pictures.finish()
            sound(None)
    is_end = until_s is None and span[1] >= video.duration_s
    until_s = None if is_end else until_s or span[1]
    return Part(out.getbuffer(), span[0], until_s, is_smaller=_scale(video, aspect, effort) < 1)


def _chosen(video: VideoReader, span: tuple[float, float], max_pictures: int) -> list[int]:
    """The pictures of a span: the one that is shown at its start, and those that begin later."""
    (first,) = shown_at(video.timestamps_s, [span[0]]).tolist()
    _, stop = shown_in(video.timestamps_s, *span)
    indices = range(first, max(stop, first + 1))
    return list(indices[:: -(-len(indices) // max_pictures)])


def _scale(video: VideoReader, aspect: float, effort: Effort) -> float:
    return min(1.0, effort.max_height / video.height, effort.max_width / (video.width * aspect))


def _size(video: VideoReader, aspect: float, scale: float) -> tuple[int, int]:
    """Height and width of the pictures in pixels, even, with square pixels."""
    sides = (video.height * scale, video.width * aspect * scale)
    return max(2, 2 * round(sides[0] / 2)), max(2, 2 * round(sides[1] / 2))


class _Pictures:
    """Pictures on their way into a container."""

    def __init__(self, target: Any, size: tuple[int, int], effort: Effort) -> None:
        self.size, self._target = size, target
        options = {"preset": effort.preset, "crf": str(effort.crf), "bf": "0"}
        self._stream = target.add_stream("libx264", rate=_KEY_EVERY, options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        self._stream.codec_context.gop_size = _KEY_EVERY
        self._stream.codec_context.colorspace = Colorspace.SMPTE170M
        self._ends: dict[int, int] = {}  # of pictures that were not written yet, by their times, in ticks
        self._last = -1

    def add(self, frames: NDArray[np.uint8], times_s: NDArray[np.float64], end_s: float) -> None:
        """Take pictures (n, 3, H, W) and their times, (n,), of which the last is shown until `end_s`."""
        ticks = []
        for time_s in times_s.tolist():
            self._last = max(self._last + 1, round(time_s * _TICKS_PER_S))
            ticks.append(self._last)
        ends = [*ticks[1:], max(self._last + 1, round(end_s * _TICKS_PER_S))]
        for rgb, tick, end in zip(frames, ticks, ends, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
            picture.pts, picture.time_base = tick, Fraction(1, _TICKS_PER_S)
            self._ends[tick] = end
            self._write(picture)

    def finish(self) -> None:
        """Write what is left."""
        self._write(None)

    def _write(self, picture: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            packet.duration = self._ends.pop(packet.pts) - packet.pts
            self._target.mux(packet)


@contextmanager
def _sound(
    path: str, target: Any, first_s: float | None, span: tuple[float, float]
) -> Iterator[Callable[[float | None], None]]:
    """Put the sound of a video into a container.

    Yields:
        A function that takes the sound up to a time, in seconds of the video; None writes what is left.
    """
    if first_s is None:
        yield lambda until_s: None
        return
    with closing(VideoFile(path, num_threads=1)) as file:
        origin_s, end_s = (Fraction(time_s + first_s).limit_denominator(10**6) for time_s in span)
        sound = Sound.of(file.container, target, origin_s, end_s)
        if sound is None:
            yield lambda until_s: None
            return
        if origin_s > 0:
            file.container.seek(int(origin_s / sound.stream.time_base), stream=sound.stream)
        packets = file.container.demux(sound.stream)

        def put(until_s: float | None) -> None:
            with suppress(FFmpegError):  # better without the rest of the sound than not at all
                if until_s is None:
                    sound.finish()
                    return
                until = Fraction(until_s + first_s)
                for packet in packets:
                    sound.add(packet)
                    if packet.pts is not None and packet.pts * packet.time_base >= until:
                        return

        yield put
