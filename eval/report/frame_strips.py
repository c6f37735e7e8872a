"""A few frames of a video side by side, as a JPEG that a page can hold. Needs pillow; imports no torch."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.errors import MissingExtraError, VideoError

NUM_FRAMES = 4
SIZE = 112  # pixels a side
QUALITY = 72


@dataclass(frozen=True)
class Strip:
    """The frames of a video as a data URI; where there are none `uri` is empty and `reason` says why."""

    video: str
    uri: str = ""
    reason: str = ""


class FrameStrips:
    """Strips of videos by id, each made once. videos: id -> file; others have no strip."""

    def __init__(self, videos: Mapping[str, Path], num_frames: int = NUM_FRAMES) -> None:
        self._videos = videos
        self._frames = FrameSpec(min(num_frames, NUM_FRAMES), SIZE)
        self._made: dict[str, Strip] = {}

    def of(self, video: str) -> Strip:
        """The strip of a video: the middles of equal parts of it, each cropped to a square."""
        if video not in self._made:
            self._made[video] = self._make(video)
        return self._made[video]

    def _make(self, video: str) -> Strip:
        path = self._videos.get(video)
        if path is None or not path.is_file():
            return Strip(video, reason="no such file")
        try:
            (segment,) = read_segments(path, self._frames)
        except VideoError as error:
            return Strip(video, reason=error.reason)
        frames = segment.video.transpose(0, 2, 3, 1)  # (T, H, W, 3)
        return Strip(video, uri=_jpeg(np.concatenate(list(frames), axis=1)))


def _jpeg(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as a data URI."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "report") from error
    out = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(out.getvalue()).decode()}"
