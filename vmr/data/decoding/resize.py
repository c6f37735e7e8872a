"""Resizing as for the released models: bicubic on 8-bit RGB at full resolution, with torchvision's arithmetic.

Shapes: H x W pixels in, h x w out. Along each axis, an output pixel is the weighted sum of K input pixels (the taps).

torchvision resizes tensors in float32 and rounds once. Its default was no antialiasing when the released models were
evaluated: K is then 4, however much smaller the picture becomes. FFmpeg, which resizes in all other cases, widens its
filter instead. On a textured picture, the two differ by three grey levels on average.
"""

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

Taps = tuple[NDArray[np.int64], NDArray[np.float32]]


def resize_bicubic(frames: NDArray[np.uint8], size: tuple[int, int], *, antialias: bool = False) -> NDArray[np.uint8]:
    """Resize frames with torchvision's bicubic arithmetic. The aspect ratio is not kept.

    Args:
        frames: uint8 in [0, 255], (..., H, W).
        size: (h, w) of the result, in pixels.
        antialias: whether to widen the filter when the picture becomes smaller, as torchvision's `antialias=True` does.

    Returns:
        uint8 in [0, 255], (..., h, w).

    Raises:
        VmrError: `frames` is not uint8, or has fewer than two axes.
    """
    if frames.dtype != np.uint8 or frames.ndim < 2:
        raise VmrError(f"frames to resize must be uint8 (..., H, W), got {frames.dtype} {frames.shape}")
    rows = _weighted_sum(frames, -2, _taps(frames.shape[-2], size[0], antialias))  # (..., h, W)
    both = _weighted_sum(rows, -1, _taps(frames.shape[-1], size[1], antialias))  # (..., h, w)
    return np.rint(both).clip(0, 255).astype(np.uint8)


def _weighted_sum(x: NDArray[np.generic], axis: int, taps: Taps) -> NDArray[np.float32]:
    """Compute each output line along `axis` as the weighted sum of its K input lines."""
    index, weight = taps
    shape = [1] * x.ndim
    shape[axis] = -1
    out: NDArray[np.float32] = np.float32(0) * np.take(x, index[:, 0], axis)
    for k in range(index.shape[1]):
        out += np.take(x, index[:, k], axis) * weight[:, k].reshape(shape)
    return out


def _taps(length: int, wanted: int, antialias: bool) -> Taps:
    """Return the indices of the input pixels of each output pixel, and their weights: both (wanted, K).

    The centre of a pixel is half a pixel from its corners. Without antialiasing, pixels beyond the border have the
    value of the border's pixel. With antialiasing, they are left out, and the weights are those of Pillow.
    """
    scale = length / wanted
    centre = (np.arange(wanted) + 0.5) * scale - 0.5
    stretch = max(scale, 1.0) if antialias else 1.0
    reach = int(np.ceil(2 * stretch))
    index = np.floor(centre).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weight = _cubic((index - centre[:, None]) / stretch, -0.5 if antialias else -0.75)
    if antialias:
        weight = np.where((index >= 0) & (index < length), weight, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    return index.clip(0, length - 1), weight.astype(np.float32)


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """The cubic convolution kernel of Keys (1981); 0 for distances of 2 or more."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
