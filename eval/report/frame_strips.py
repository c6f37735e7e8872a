"""A few frames of a video side by side, as a JPEG that a page can hold. Needs pillow; imports no torch."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.views.spec import ViewSpec
from vmr.data.views.view_job import read_views
from vmr.errors import MissingExtraError, VideoError

NUM_FRAMES = 4
SIZE = 112  # pixels a side
QUALITY = 72


@dataclass(frozen=True)
class Strip:
    """Some frames of a video.

    Attributes:
        video: id of the video.
        uri: the picture as a data URI; empty if there is none.
        reason: why there is no picture.
    """

    video: str
    uri: str = ""
    reason: str = ""


class FrameStrips:
    """Strips of videos by id, each made once."""

    def __init__(self, videos: Mapping[str, Path], num_frames: int = NUM_FRAMES) -> None:
        """Store the files of the videos; none is opened.

        Args:
            videos: id of a video -> its file; other videos have no strip.
            num_frames: frames of a strip, at most NUM_FRAMES.
        """
        self._videos = videos
        self._frames = FrameSpec(min(num_frames, NUM_FRAMES), SIZE)
        self._made: dict[str, Strip] = {}

    def of(self, video: str) -> Strip:
        """Return the strip of a video: the middle frames of equal parts of it, each cropped to a square.

        Args:
            video: id of the video.
        """
        if video not in self._made:
            self._made[video] = self._make(video)
        return self._made[video]

    def _make(self, video: str) -> Strip:
        path = self._videos.get(video)
        if path is None or not path.exists():
            return Strip(video, reason="no such file")
        try:
            frames = self._read(path)
        except VideoError as error:
            return Strip(video, reason=error.reason)
        return Strip(video, uri=_jpeg(np.concatenate(list(frames.transpose(0, 2, 3, 1)), axis=1)))

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """The frames (T, 3, S, S) of a file, or of a folder of numbered pictures."""
        frames: NDArray[np.uint8]
        if path.is_dir():
            frames = read_views(str(path), ViewSpec(self._frames.num_frames, SIZE))[0]
            return frames
        (segment,) = read_segments(path, self._frames)
        frames = segment.video
        return frames


def _jpeg(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as a data URI."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "report") from error
    out = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(out.getvalue()).decode()}"
