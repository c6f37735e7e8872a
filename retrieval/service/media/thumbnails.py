"""Pictures of moments, made in a process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vmr.data.decoding.ffmpeg.pictures import Scaler, orientation
from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.data.decoding.sampling import shown_at
from vmr.data.decoding.video import VideoReader, with_video
from vmr.retrieval.service.media.playback import INDEXED, can_seek
from vmr.retrieval.service.media.probing import opened, probe_of
from vmr.retrieval.service.media.sources import Source, named
from vmr.retrieval.service.processes import Pictures

_QUALITY = 80
_LARGE_BYTES = 64 * 2**20  # listing the packets of a file takes a millisecond for each megabyte, or a disk's time
_ROUNDING_S = Fraction(1, 10**6)  # as `shown_at`

Moment = tuple[float, int]
"""A time in seconds of the video, and the width of a picture in pixels."""


class _NotReachedError(Exception):
    """A seek did not end where it should."""


def serve_thumbnails(request: dict[str, Any]) -> tuple[dict[str, Any], Pictures]:
    """Make pictures of a video, as `VideoReader` gives them.

    Args:
        request: "source"; "moments", see `Moment`; "has_clock", whether the times of the file are those of the video,
            and no picture is damaged.

    Returns:
        A JPEG for each moment.

    Raises:
        VideoError: the video, or a picture of it, cannot be read.
    """
    source, moments = Source.from_json(request["source"]), [(time_s, width) for time_s, width in request["moments"]]
    with named(source) as path:
        with opened(path) as file:
            if source.size > _LARGE_BYTES and request["has_clock"]:
                try:
                    return {}, list(_sought(file, moments))
                except _NotReachedError:
                    pass
        return {}, with_video(path, "pyav", lambda video: list(_read(video, moments)))


def _read(video: VideoReader, moments: Sequence[Moment]) -> Iterator[NDArray[np.uint8]]:
    indices = shown_at(video.timestamps_s, [time_s for time_s, _ in moments]).tolist()
    for index, (_, width) in zip(indices, moments, strict=True):
        (frame,) = video.frames_at([index], _size(video.height, video.width, width))
        yield _jpeg(frame.transpose(1, 2, 0))


def _sought(file: VideoFile, moments: Sequence[Moment]) -> Iterator[NDArray[np.uint8]]:
    """Go to each moment without listing the packets of the file, where that gives the same pictures.

    Raises:
        _NotReachedError: it does not.
    """
    probe, base = probe_of(file), file.stream.time_base
    if base is None or probe.container not in INDEXED or not can_seek(probe):
        raise _NotReachedError
    scaler = Scaler()
    for time_s, width in moments:
        last = (Fraction(time_s) + Fraction(probe.first_s).limit_denominator(10**6) + _ROUNDING_S) / base
        file.container.seek(int(last), stream=file.stream)
        shown = None
        for frame in file.decode(file.packets()):
            if frame.pts is None or frame.is_corrupt or (shown is None and not frame.key_frame):
                raise _NotReachedError
            if frame.pts > last:
                break
            shown = frame
        if shown is None:
            raise _NotReachedError
        turns, _ = orientation(shown)
        height, wide = (shown.width, shown.height) if turns % 2 else (shown.height, shown.width)
        yield _jpeg(scaler.upright_rgb(shown, _size(height, wide, width)))
        file.stream.codec_context.flush_buffers()


def _size(height: int, width: int, wanted: int) -> tuple[int, int]:
    """The size of a picture that is no wider than wanted, nor than it is stored."""
    wanted = min(wanted, width)
    return max(1, round(height * wanted / width)), wanted


def _jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return np.frombuffer(file.getvalue(), np.uint8)
