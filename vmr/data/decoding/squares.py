"""Square pictures of the frames of a video, as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.resize import resize_bicubic, resize_bilinear, resize_pillow
from vmr.data.decoding.sampling import Indices
from vmr.errors import VideoError

RESIZES = ("crop", "stretch", "upstream", "video", "image")
IMAGE_SHARE = 0.875
"""Of the short side of a scaled picture that its middle shows, as ImageNet is evaluated."""
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

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader.pictures`."""


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
    scaled = int(size / IMAGE_SHARE) if resize == "image" else size  # the short side
    height, width = max(scaled, scaled * video.height // short), max(scaled, scaled * video.width // short)
    top, left = round((height - size) / 2), round((width - size) / 2)
    if resize == "crop":
        return video.frames_at(indices.tolist(), (height, width), (top, left, size, size))
    whole = (
        resize_pillow(rgb.transpose(2, 0, 1), (height, width))
        if resize == "image"
        else resize_bilinear(rgb, (height, width)).transpose(2, 0, 1)
        for rgb in video.pictures(indices.tolist())
    )
    return np.stack([picture[:, top : top + size, left : left + size] for picture in whole])
