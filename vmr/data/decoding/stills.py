"""Still pictures, and other frames in memory, with the same methods as a video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.pictures import Scaler, orientation, resized_rgb
from vmr.data.media import special_kind
from vmr.errors import VideoError


class Frames:
    """Frames in memory, or in a memory-mapped file, as a `FrameSource`.

    They have no times: the rate is infinite and the duration 0, so that no sampling rule trims them.

    Args:
        path: the file of the frames, for error messages.
        frames: uint8 RGB in [0, 255], (n, 3, H, W).

    Attributes:
        path: as given.
        num_frames: n.
        height: H, in pixels.
        width: W, in pixels.
        fps: frames per second: infinite.
        duration_s: seconds: 0.
    """

    fps = math.inf
    duration_s = 0.0

    def __init__(self, path: str, frames: NDArray[np.uint8]) -> None:
        self.path = path
        self._frames = frames
        self.num_frames, _, self.height, self.width = frames.shape

    def frames_at(
        self, indices: Sequence[int], size: tuple[int, int] | None = None, crop: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.uint8]:
        """See `VideoReader.frames_at`."""
        frames = self._frames[list(indices)]
        if size is not None:
            scaled = [resized_rgb(frame.transpose(1, 2, 0), size) for frame in frames]
            frames = np.stack(scaled).transpose(0, 3, 1, 2)
        top, left, height, width = crop or (0, 0, *frames.shape[2:])
        return frames[:, :, top : top + height, left : left + width]

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader.pictures`."""
        return (self._frames[index].transpose(1, 2, 0) for index in indices)


class NotAStillError(VideoError):
    """FFmpeg takes the file for something else than a still picture, such as a video."""


def read_still(path: str) -> NDArray[np.uint8]:
    """Read a still picture, turned upright.

    Args:
        path: a local file of any picture format that FFmpeg reads.

    Returns:
        One frame, uint8 RGB in [0, 255], (1, 3, H, W).

    Raises:
        NotAStillError: FFmpeg takes the file for something else.
        VideoError: the file is missing, damaged, or not a picture.
    """
    if special := special_kind(path):  # opening a fifo or a device could wait forever
        raise VideoError(path, f"is a {special}, not a picture")
    # With pattern_type "none", "%03d" in a name is part of the name. `video_file` says what the whitelist is for.
    options = {"protocol_whitelist": "file", "pattern_type": "none"}
    try:
        with av.open(f"file:{path}", options=options) as container:
            kind = container.format.name
            if kind != "image2" and not kind.endswith("_pipe"):
                raise NotAStillError(path, f"is not a picture (FFmpeg takes it for {kind!r})")
            stream = container.streams.video[0]
            stream.codec_context.options = {
                "err_detect": "explode"
            }  # else the missing part of a truncated JPEG would be grey
            frame = next(container.decode(stream))
    except FileNotFoundError:
        raise VideoError(path, "no such file") from None
    except (FFmpegError, StopIteration, IndexError):
        raise VideoError(path, "not a picture that FFmpeg can read") from None
    turned = orientation(frame)[0] % 2
    size = (frame.width, frame.height) if turned else (frame.height, frame.width)
    return Scaler().upright_rgb(frame, size).transpose(2, 0, 1)[None]
