"""Resizing as for the released models, with the arithmetic of the libraries that they were tested with.

Shapes: H x W pixels in, h x w out. Along each axis, an output pixel is the weighted sum of K input pixels (the taps).

- Retrieval: bicubic on 8-bit RGB at full resolution, as torchvision does it.
- Classes of videos: bilinear, as OpenCV's INTER_LINEAR does it.
- Classes of images: bicubic with antialiasing, as Pillow does it.

torchvision resizes tensors in float32 and rounds once. Its default was no antialiasing when the released models were
evaluated: K is then 4, however much smaller the picture becomes. FFmpeg, which resizes in all other cases, widens its
filter instead. On a textured picture, the two differ by three grey levels on average.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

_OPENCV_ONE = 1 << 11  # the weight 1 in OpenCV's arithmetic
_LINES_AT_ONCE = 32  # so that what is computed of them stays in the processor's cache
_PILLOW_BITS = 22  # of the weight 1 in Pillow's


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
    values: NDArray[Any] = frames
    for axis, wanted in ((-2, size[0]), (-1, size[1])):
        index, weight = _taps(frames.shape[axis], wanted, antialias)
        values = _weighted_sum(values, axis, index, weight.astype(np.float32))
    rounded: NDArray[np.uint8] = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def resize_bilinear(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a picture with OpenCV's INTER_LINEAR arithmetic, bit for bit. There is no antialiasing.

    OpenCV takes the average of each 2 x 2 pixels if the picture becomes exactly half as large.

    Args:
        picture: uint8 in [0, 255], (H, W, C).
        size: (h, w) of the result, in pixels.

    Returns:
        uint8 in [0, 255], (h, w, C).

    Raises:
        VmrError: `picture` is not uint8, or has another number of axes.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3:
        raise VmrError(f"a picture to resize must be uint8 (H, W, C), got {picture.dtype} {picture.shape}")
    (height, width, channels), (h, w) = picture.shape, size
    if (height, width) == (2 * h, 2 * w):
        fours: NDArray[np.int32] = picture.reshape(h, 2, w, 2, channels).sum(axis=(1, 3), dtype=np.int32)
        return ((fours + 2) >> 2).astype(np.uint8)
    columns, across = _opencv_taps(width, w)
    is_beyond = (columns < 0) | (columns >= width - 1)
    across[is_beyond] = (_OPENCV_ONE, 0)  # only along this axis
    columns = columns.clip(0, width - 1)
    left, right = (_of_channels(np.minimum(columns + k, width - 1) * channels, channels, 1) for k in range(2))
    left_weight, right_weight = (_of_channels(across[:, k], channels, 0) for k in range(2))
    lines, down = _opencv_taps(height, h)
    needed, places = np.unique((lines[:, None] + np.arange(2)).clip(0, height - 1), return_inverse=True)
    places = places.reshape(h, 2)  # of the two lines of each output line among the needed ones
    flat = picture.reshape(height, width * channels)
    out = np.empty((h, w * channels), np.uint8)
    for start in range(0, h, _LINES_AT_ONCE):
        some, weight = places[start : start + _LINES_AT_ONCE], down[start : start + _LINES_AT_ONCE]
        rows = flat.take(needed[some[0, 0] : some[-1, 1] + 1], axis=0)
        mixed = rows.take(left, axis=1) * left_weight
        mixed += rows.take(right, axis=1) * right_weight
        mixed >>= 4
        upper, lower = (mixed.take(some[:, k] - some[0, 0], axis=0) * weight[:, k, None] >> 16 for k in range(2))
        upper += lower
        upper += 2
        out[start : start + _LINES_AT_ONCE] = upper >> 2
    return out.reshape(h, w, channels)


def _of_channels(values: NDArray[Any], channels: int, step: int) -> NDArray[Any]:
    """Repeat each value for each channel of a pixel, `step` larger from one channel to the next."""
    repeated: NDArray[Any] = values[:, None] + step * np.arange(channels, dtype=values.dtype)
    return repeated.reshape(-1)


def resize_pillow(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize frames as Pillow resizes a picture with BICUBIC, bit for bit. The filter is wider for smaller results.

    The rows are resized first, and rounded to 8 bits before the columns are, as Pillow 10 does it. Pillow 13 begins
    with the columns of some pictures, whose pixels then differ.

    Args:
        frames: uint8 in [0, 255], (..., H, W).
        size: (h, w) of the result, in pixels.

    Returns:
        uint8 in [0, 255], (..., h, w).
    """
    for axis, wanted in ((-1, size[1]), (-2, size[0])):
        if frames.shape[axis] != wanted:
            index, weight = _taps(frames.shape[axis], wanted, antialias=True)
            total = _weighted_sum(frames, axis, index, np.rint(weight * (1 << _PILLOW_BITS)).astype(np.int32))
            frames = ((total + (1 << (_PILLOW_BITS - 1))) >> _PILLOW_BITS).clip(0, 255).astype(np.uint8)
    return frames


def _weighted_sum(x: NDArray[Any], axis: int, index: NDArray[np.int64], weight: NDArray[Any]) -> NDArray[Any]:
    """Compute each output line along `axis` as the weighted sum of its K input lines, in the type of the weights."""
    shape = [1] * x.ndim
    shape[axis] = -1
    out: NDArray[Any] = np.take(x, index[:, 0], axis) * weight[:, 0].reshape(shape)
    for k in range(1, index.shape[1]):
        out += np.take(x, index[:, k], axis) * weight[:, k].reshape(shape)
    return out


def _taps(length: int, wanted: int, antialias: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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
    return index.clip(0, length - 1), weight


def _opencv_taps(length: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the first input pixel of each output pixel, (wanted,), and its weight and that of the next, (wanted, 2).

    Both may be beyond the border.
    """
    scale = 1 / (wanted / length)
    centre = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(centre)
    share = centre - first
    weights = np.rint(np.stack([1 - share, share], axis=1) * np.float32(_OPENCV_ONE)).astype(np.int32)
    return first.astype(np.int64), weights


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """The cubic convolution kernel of Keys (1981); 0 for distances of 2 or more."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
