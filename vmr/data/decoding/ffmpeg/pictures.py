"""Turning and scaling: from a decoded picture to upright RGB pixels of a given size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class Scaler:
    """Scales pictures with FFmpeg's bicubic filter, one after the other. It is not safe to use from two threads.

    One filter serves all pictures, in the caller's thread. PyAV's own `VideoFrame.reformat` makes a filter with threads
    for each picture.
    """

    def __init__(self) -> None:
        self._filter = VideoReformatter()

    def upright_rgb(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Turn a decoded picture upright and scale it.

        Args:
            frame: the picture, of any pixel format.
            size: (H, W) of the result, in pixels.

        Returns:
            uint8 RGB in [0, 255], (H, W, 3).
        """
        quarter_turns, mirrored = orientation(frame)
        height, width = size[::-1] if quarter_turns % 2 else size
        rgb = self.rgb(frame, (height, width))
        if mirrored:
            rgb = rgb[:, ::-1]
        return np.rot90(rgb, -quarter_turns) if quarter_turns else rgb

    def rgb(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Scale a picture as it is stored.

        Args:
            frame: the picture, of any pixel format.
            size: (H, W) of the result, in pixels.

        Returns:
            uint8 RGB in [0, 255], (H, W, 3).
        """
        height, width = size
        scaled = self._filter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1
        )
        return cast("NDArray[np.uint8]", scaled.to_ndarray())


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Read from a picture's display matrix how to turn it upright.

    The matrix is nine 32-bit numbers (a b u / c d v / x y w). It moves a point (x, y) to (ax + cy, bx + dy), with y
    downwards.

    Args:
        frame: a decoded picture.

    Returns:
        The number of clockwise quarter turns, 0 to 3, and whether to swap left and right before turning.
    """
    # `frame.side_data` would keep the picture in memory until the garbage collector runs: the two refer to each other.
    try:
        side_data = cast("Mapping[str, bytes]", SideDataContainer(frame))  # type: ignore[call-arg]
    except ValueError:  # PyAV fails on side data of an unknown kind, but still gives the angle
        return round(-frame.rotation / 90) % 4, False
    if "DISPLAYMATRIX" not in side_data:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.atan2(b, a) / (math.pi / 2)) % 4, mirrored


def resized_rgb(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale an RGB picture as a `Scaler` does.

    Args:
        rgb: uint8 RGB, (h, w, 3).
        size: (H, W) of the result, in pixels.

    Returns:
        uint8 RGB in [0, 255], (H, W, 3); the picture itself if it has this size.
    """
    if rgb.shape[:2] == size:
        return rgb
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return Scaler().rgb(frame, size)
