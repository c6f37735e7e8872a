"""How a browser can play a video: as it is, or in parts that are made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmr.retrieval.service.media.probing import Probe
from vmr.retrieval.storage.records import Video

Kind = Literal["file", "remuxed", "transcoded"]

_AT_ZERO_S = 0.05  # how far from 0 the first picture of a file may be that is played as it is
_MP4, _WEBM = "video/mp4", "video/webm"
# Container -> media type, codecs of pictures, codecs of sound that all current browsers play.
_PLAYABLE = {
    "mov,mp4,m4a,3gp,3g2,mj2": (_MP4, {"h264", "vp9", "av1"}, {"aac", "mp3", "opus", "flac", None}),
    "matroska,webm": (_WEBM, {"vp8", "vp9", "av1"}, {"opus", "vorbis", None}),
}
_PIXELS = {"yuv420p", "yuvj420p"}
_COPIED = {"h264", "vp9", "av1"}  # into mp4
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Containers that hold a time for each picture, and a table of key frames."""

_TIMED = {*INDEXED, "mpegts", "flv"}  # containers that hold a time for each picture
_SHORT_S = 60.0
_SHORT_PIXELS_S = 20e6  # length in seconds times pixels, such as 20 s of 1280x720
_TYPES = {
    ".mp4": _MP4, ".m4v": _MP4, ".webm": _WEBM, ".mov": "video/quicktime", ".qt": "video/quicktime",
    ".mkv": "video/matroska", ".avi": "video/x-msvideo", ".wmv": "video/x-ms-wmv", ".asf": "video/x-ms-asf",
    ".flv": "video/x-flv", ".ts": "video/mp2t", ".m2ts": "video/mp2t", ".mts": "video/mp2t", ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg", ".3gp": "video/3gpp", ".3g2": "video/3gpp2", ".ogv": "video/ogg", ".gif": "image/gif",
}  # fmt: skip


@dataclass(frozen=True)
class Playback:
    """What a browser is to play.

    Attributes:
        url: path below the address of the service; it supports ranges.
        kind: "file" for the file itself; "remuxed" for the same pictures in a new container, "transcoded" for pictures
            that were encoded again.
        note: one sentence for the viewer; None if there is nothing to say.
        offset_s: the player's `currentTime` is a time of the video, in seconds, plus this.
        until_s: the time of the video at which this part ends; to go on, ask again with it. None if it is the end of
            the video.
        media_type: of what the address gives.
    """

    url: str
    kind: Kind
    note: str | None
    offset_s: float
    until_s: float | None
    media_type: str


def has_clock(video: Video) -> bool:
    """Whether the times of a file are those of the video, and nothing in it is damaged."""
    return not video.remarks


def plays_as_it_is(video: Video, probe: Probe) -> str | None:
    """Tell whether browsers play a file right, with the same times.

    Args:
        video: as the index knows it.
        probe: what the file is.

    Returns:
        Its media type; None if browsers do not play it right.
    """
    media_type, codecs, sounds = _PLAYABLE.get(probe.container, ("", set(), set()))
    plays = probe.codec in codecs and probe.audio in sounds and probe.pixels in _PIXELS
    # With several streams, browsers choose by rules of their own.
    is_plain = probe.num_video == 1 and probe.is_cut_clean and not probe.is_mirrored and has_clock(video)
    plays &= media_type != _WEBM or video.path.lower().endswith(".webm")  # not every browser plays other Matroska files
    begins = abs(probe.first_s) <= _AT_ZERO_S and abs(probe.start_s) <= _AT_ZERO_S
    return media_type if plays and is_plain and begins else None


def can_be_copied(probe: Probe, has_clock: bool) -> bool:
    """Whether the pictures of a file can be put into an mp4 file as they are, and browsers play them there."""
    is_known = probe.codec in _COPIED and probe.pixels in _PIXELS and probe.container in _TIMED
    return has_clock and is_known and probe.is_cut_clean and not probe.is_mirrored


def can_seek(probe: Probe) -> bool:
    """Whether decoding can begin anew at each key frame, and gives the same pictures from there on."""
    return probe.codec in {"h264", "hevc", "vp9", "av1"} and probe.is_cut_clean


def is_short(video: Video, probe: Probe) -> bool:
    """Whether a whole video can probably be converted at once."""
    is_light = video.duration_s * video.width * video.height <= _SHORT_PIXELS_S
    return video.duration_s <= _SHORT_S and (is_light or can_be_copied(probe, has_clock(video)))


def note_of(kind: Kind, probe: Probe, is_smaller: bool) -> str | None:
    """Say in one sentence why a viewer does not see the file itself."""
    if kind == "transcoded":
        smaller = ", smaller than the original" if is_smaller else ""
        return f"Converted for the browser{smaller} ({probe.codec})."
    return "Repackaged for the browser, with the original pictures." if kind == "remuxed" else None


def media_type_of(path: str) -> str:
    """The media type of a file by the suffix of its name."""
    dot = path.rfind(".")
    return _TYPES.get(path[dot:].lower() if dot >= 0 else "", "application/octet-stream")
