"""Square pictures of the frames of a video, as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.resize import resize_bicubic
from vmr.data.decoding.sampling import Indices
from vmr.errors import VideoError

RESIZES = ("crop", "stretch", "upstream")
MAX_ASPECT_RATIO = 32
"""Of pictures whose short side is scaled to a square's side: a very long side would take very much memory."""


class FrameSource(Protocol):
    """Numbered frames of one size, such as a `VideoReader`.

    Attributes:
        path: the file of the frames, for error messages.
        height: in pixels, upright.
        width: in pixels, upright.
    """

    path: str
    height: int
    width: int

    def frames_at(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """See `VideoReader.frames_at`."""


def square_frames(video: FrameSource, resize: str, size: int, indices: Indices) -> NDArray[np.uint8]:
    """Read frames of a video as `FrameSpec.resize` says.

    Sides and offsets are rounded as torchvision's Resize and CenterCrop do.

    Args:
        video: the source of the frames.
        resize: one of RESIZES.
        size: side of the result, in pixels.
        indices: numbers of the frames, (n,).

    Returns:
        uint8 RGB, (n, 3, size, size).

    Raises:
        VideoError: a picture is too narrow to crop a square from.
    """
    if resize == "stretch":
        return video.frames_at(indices.tolist(), (size, size))
    if resize == "upstream":
        return resize_bicubic(video.frames_at(indices.tolist()), (size, size))
    short, long = sorted((video.height, video.width))
    if long > MAX_ASPECT_RATIO * short:
        raise VideoError(video.path, f"{video.width} x {video.height} pixels: too narrow to crop a square from")
    height, width = max(size, size * video.height // short), max(size, size * video.width // short)
    crop = (round((height - size) / 2), round((width - size) / 2), size, size)
    return video.frames_at(indices.tolist(), (height, width), crop)
