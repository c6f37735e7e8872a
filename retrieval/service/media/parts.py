"""Parts of a video for a browser, made in a process: copied where that is right, encoded again otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from av.error import FFmpegError

from vmr.data.decoding.video import VideoReader, with_video
from vmr.errors import VideoError
from vmr.retrieval.service.media.copying import CannotCopyError, Part, copy_part
from vmr.retrieval.service.media.encoding import GOOD, QUICK, SMALL, encode_part
from vmr.retrieval.service.media.playback import can_be_copied
from vmr.retrieval.service.media.probing import opened, probe_of
from vmr.retrieval.service.media.sources import Source, named
from vmr.retrieval.service.processes import Pictures

COPY_SLACK_S = 0.1
"""How far the ends of a clip that is cut without encoding may be from those that were asked for, in seconds."""


def serve_part(request: dict[str, Any]) -> tuple[dict[str, Any], Pictures]:
    """Make a part of a video as an mp4 file.

    Args:
        request: "source"; "span", in seconds of the video; "is_clip", whether its ends are to be exact;
            "width", pixels that are enough for a preview, or None; "has_clock", whether the times of the file are those of the video, and no picture is damaged; "max_bytes".

    Returns:
        "is_copied"; "is_smaller", "start_s" and "until_s", see `Part`; and the bytes of the file.

    Raises:
        VideoError: the video cannot be read, or the part would be too large.
    """
    span, is_clip, has_clock = tuple(request["span"]), request["is_clip"], request["has_clock"]
    with named(Source.from_json(request["source"])) as path:
        with opened(path) as file:
            probe = probe_of(file)
            if can_be_copied(probe, has_clock):
                try:
                    slack_s = COPY_SLACK_S if is_clip else None
                    part = copy_part(file, probe.first_s, span, request["max_bytes"], slack_s)
                    return _answer(part, True)
                except (CannotCopyError, FFmpegError, ValueError):  # the latter from PyAV, for a codec without a muxer
                    pass
        first_s = probe.first_s if probe.container != "avi" else 0.0  # FFmpeg makes up the times of an AVI
        width = request["width"]
        effort = replace(SMALL, max_width=width) if width is not None else GOOD if is_clip else QUICK

        def encoded(video: VideoReader) -> Part:
            return encode_part(video, first_s if has_clock else None, span, probe.aspect, effort, request["max_bytes"])

        return _answer(_with_threads(path, encoded) if has_clock else with_video(path, "pyav", encoded), False)


def _with_threads(path: str, encoded: Callable[[VideoReader], Part]) -> Part:
    """Decode with several threads, which is faster; but they repair damage in another way."""
    try:
        with VideoReader(path, num_threads=0) as video:
            return encoded(video)
    except VideoError:
        return with_video(path, "pyav", encoded)


def _answer(part: Part, is_copied: bool) -> tuple[dict[str, Any], Pictures]:
    values = {name: getattr(part, name) for name in ("is_smaller", "start_s", "until_s")} | {"is_copied": is_copied}
    return values, [np.frombuffer(part.mp4, np.uint8)]
