"""Resizing as the released models saw it: bicubic on 8-bit RGB at full resolution, by torchvision's arithmetic.

Shapes: H x W pixels in, h x w out, K taps, the input pixels that one output pixel is made of.

torchvision resizes tensors in float32 and rounds once. Without antialiasing, which was its default when the released
models were evaluated, a pixel is made of 4 neighbours a side however much the picture shrinks; FFmpeg, which resizes
for every other rule, widens its filter instead. The two differ by three grey levels on average on a textured picture.
"""

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

Taps = tuple[NDArray[np.int64], NDArray[np.float32]]


def resize_bicubic(frames: NDArray[np.uint8], size: tuple[int, int], *, antialias: bool = False) -> NDArray[np.uint8]:
    """frames: uint8 (..., H, W) in [0, 255] -> the same, (..., h, w) with `size` = (h, w); no aspect ratio is kept."""
    if frames.dtype != np.uint8 or frames.ndim < 2:
        raise VmrError(f"frames to resize must be uint8 (..., H, W), got {frames.dtype} {frames.shape}")
    rows = _weighted_sum(frames, -2, _taps(frames.shape[-2], size[0], antialias))  # (..., h, W)
    both = _weighted_sum(rows, -1, _taps(frames.shape[-1], size[1], antialias))  # (..., h, w)
    return np.rint(both).clip(0, 255).astype(np.uint8)


def _weighted_sum(x: NDArray[np.generic], axis: int, taps: Taps) -> NDArray[np.float32]:
    """Every output line along `axis` as the weighted sum of its K input lines."""
    index, weight = taps
    shape = [1] * x.ndim
    shape[axis] = -1
    out: NDArray[np.float32] = np.float32(0) * np.take(x, index[:, 0], axis)
    for k in range(index.shape[1]):
        out += np.take(x, index[:, k], axis) * weight[:, k].reshape(shape)
    return out


def _taps(length: int, wanted: int, antialias: bool) -> Taps:
    """Which of `length` input pixels make each of `wanted` output pixels, and with what weight: (wanted, K) each.

    Pixel centres are half a pixel from the corners. Without antialiasing pixels beyond the border repeat the last one;
    with it they are left out, and the weights are those of Pillow.
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
    """Keys' cubic convolution kernel (1981), zero from a distance of 2 on."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
