"""What a browser needs to know about a file: its container, its streams, and where its first picture stands."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from vmr.data.decoding.ffmpeg.pictures import orientation
from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.errors import VideoError
from vmr.retrieval.service.media.sources import Source, named
from vmr.retrieval.service.processes import Pictures

_EXAMINED = 1000  # packets, and the key frames among them, that are looked at
_KEYS_EXAMINED = 5
_IDR = 5  # the type of a unit of a picture after which nothing refers to what is before it
_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_MAX_PIXELS = 100_000_000  # of a picture: 8K has 33 million


@dataclass(frozen=True)
class Probe:
    """What a file is.

    Attributes:
        container: as FFmpeg names it.
        codec: of its pictures, as FFmpeg names it.
        pixels: the format of its pixels, as FFmpeg names it.
        num_video: how many video streams there are, with covers.
        audio: codec of its first sound; None if there is none.
        first_s: when the first picture is shown, by the file's own clock.
        start_s: when its first stream begins, by the same clock.
        is_cut_clean: whether the first pictures after key frames refer to nothing before these. Else, browsers fail to
            go to a time in the middle.
        is_mirrored: whether a tag says to mirror the pictures.
        aspect: width of an upright pixel divided by its height.
    """

    container: str
    codec: str
    pixels: str
    num_video: int
    audio: str | None
    first_s: float
    start_s: float
    is_cut_clean: bool
    is_mirrored: bool
    aspect: float


def serve_probe(request: dict[str, Any]) -> tuple[dict[str, Any], Pictures]:
    """Look at a file, in a process: {"source"} -> a `Probe` as JSON.

    Raises:
        VideoError: it cannot be read.
    """
    with named(Source.from_json(request["source"])) as path, opened(path) as file:
        return asdict(probe_of(file)), []


@contextlib.contextmanager
def opened(path: str) -> Any:
    """Open a video, and refuse one whose pictures are too large.

    Yields:
        The `VideoFile`.

    Raises:
        VideoError: it cannot be read.
    """
    file = VideoFile(path, num_threads=1)
    with contextlib.closing(file):
        width, height = file.stream.codec_context.width, file.stream.codec_context.height
        if width * height > _MAX_PIXELS:
            raise VideoError(path, f"its pictures of {width}x{height} pixels are too large")
        yield file


def probe_of(file: VideoFile) -> Probe:
    """Look at an open file, from its first byte.

    Raises:
        VideoError: no picture of it can be decoded.
    """
    stream, container = file.stream, file.container
    first = next(islice(file.decode(file.packets()), 1), None)
    if first is None:
        raise VideoError(file.path, "no frame of its video can be decoded")
    turns, mirrored = orientation(first)
    audio = next((audio.codec_context for audio in container.streams.audio if audio.codec_context is not None), None)
    first_s = 0.0 if first.pts is None else float(first.pts * (first.time_base or stream.time_base or Fraction(0)))
    aspect = float(stream.sample_aspect_ratio or 1)
    return Probe(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        pixels=stream.codec_context.pix_fmt or "",
        num_video=len(container.streams.video),
        audio=None if audio is None else audio.codec.canonical_name,
        first_s=first_s,
        start_s=(container.start_time or 0) / 1_000_000,
        is_cut_clean=stream.codec_context.name != "h264" or _is_cut_clean(file),
        is_mirrored=mirrored,
        aspect=1 / aspect if turns % 2 else aspect,
    )


def _is_cut_clean(file: VideoFile) -> bool:
    """Whether the first key frames of an H.264 video are such that decoding can begin anew at each (IDR)."""
    extradata = file.stream.codec_context.extradata or b""
    length_bytes = (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 4 else 0
    file.reopen()
    keys = (packet for packet in islice(file.packets(), _EXAMINED) if packet.is_keyframe)
    return all(_IDR in _unit_types(bytes(packet), length_bytes) for packet in islice(keys, _KEYS_EXAMINED))


def _unit_types(data: bytes, length_bytes: int) -> set[int]:
    """The types of the units of an H.264 packet; units follow lengths of so many bytes, or start codes if that is 0."""
    if not length_bytes:
        return {match[1][0] & 31 for match in _START_CODE.finditer(data)}
    types, place = set(), 0
    while place + length_bytes < len(data):
        types.add(data[place + length_bytes] & 31)
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
    return types
