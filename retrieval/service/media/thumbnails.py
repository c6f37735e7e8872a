"""Pictures of moments, made in a process."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from vmr.data.decoding.sampling import shown_at
from vmr.data.decoding.video import VideoReader, with_video
from vmr.retrieval.service.media.probing import opened
from vmr.retrieval.service.media.sources import Source, named
from vmr.retrieval.service.processes import Pictures

_QUALITY = 80


def serve_thumbnails(request: dict[str, Any]) -> tuple[dict[str, Any], Pictures]:
    """Make pictures of a video: {"source", "moments": [[time in seconds, width in pixels], ...]} -> a JPEG for each.

    Raises:
        VideoError: the video, or a picture of it, cannot be read.
    """
    moments = request["moments"]

    def jpegs(video: VideoReader) -> list[bytes]:
        times_s = [time_s for time_s, _ in moments]
        indices = shown_at(video.timestamps_s, times_s).tolist()
        made = {}
        for place in sorted(range(len(moments)), key=indices.__getitem__):
            width = min(moments[place][1], video.width)
            size = (max(1, round(video.height * width / video.width)), width)
            (frame,) = video.frames_at([indices[place]], size)
            made[place] = _jpeg(frame.transpose(1, 2, 0))
        return [made[place] for place in range(len(moments))]

    with named(Source.from_json(request["source"])) as path:
        with opened(path):
            pass
        return {}, [np.frombuffer(jpeg, np.uint8) for jpeg in with_video(path, "pyav", jpegs)]


def _jpeg(rgb: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
