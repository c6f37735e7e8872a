"""From a decoded picture to upright RGB pixels of the size asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray


def upright_rgb(frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A decoded picture turned upright and scaled to `size` = (H, W), bicubic; uint8 RGB (H, W, 3)."""
    quarter_turns, mirrored = orientation(frame)
    height, width = size[::-1] if quarter_turns % 2 else size
    rgb = _scaled(frame, (height, width))
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.rot90(rgb, -quarter_turns) if quarter_turns else rgb


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Clockwise quarter turns (0 to 3), and whether to mirror left and right before them, from the display matrix.

    The matrix is nine 32-bit numbers (a b u / c d v / x y w); a point goes from (x, y) to (ax + cy, bx + dy), y
    downwards.
    """
    try:
        side_data = cast("Mapping[str, bytes]", frame.side_data)
    except ValueError:  # PyAV stumbles over any side data it has no name for, but still knows the angle
        return round(-frame.rotation / 90) % 4, False
    if "DISPLAYMATRIX" not in side_data:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.atan2(b, a) / (math.pi / 2)) % 4, mirrored


def resized_rgb(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An RGB picture (h, w, 3) scaled to `size` = (H, W) as `upright_rgb` scales."""
    if rgb.shape[:2] == size:
        return rgb
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return _scaled(frame, size)


def _scaled(frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    rgb = frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BICUBIC").to_ndarray()
    return cast("NDArray[np.uint8]", rgb)
