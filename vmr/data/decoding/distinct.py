"""The distinct frames of a video, each of which has a number and is decoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import Indices
from vmr.data.decoding.squares import FrameSource, square_frames

Frame = NDArray[np.uint8]
Taken = tuple[tuple[int, ...], tuple[Frame, ...]]
"""The numbers of the frames of a span, and the frames."""


class DistinctFrames:
    """Numbers the frames of a video, from 0, and keeps those that are needed again.

    Args:
        resize: how frames are brought to a square, see `FrameSpec`.
        size: side of the square, in pixels.
        skip_still: which frames are as good as the one before them, see `FrameSpec`.
    """

    def __init__(self, resize: str, size: int, skip_still: float = 0.0) -> None:
        self._resize, self._size, self._skip_still = resize, size, skip_still
        self._numbers: dict[int, int] = {}  # index of a frame in the file -> its number
        self._kept: dict[int, Frame] = {}  # number -> frame
        self._count = 0
        self._last: tuple[int, Frame] | None = None  # the last that was given a number

    def take(self, video: FrameSource, wanted: Sequence[Indices]) -> list[Taken]:
        """Return the frames of some spans, of which only those are decoded that are not kept.

        Args:
            video: the source of the frames.
            wanted: for each span the indices of its frames in the file, (T,).

        Raises:
            VideoError: a frame cannot be decoded.
        """
        distinct = np.unique(np.concatenate(wanted))
        lacking = [index for index in distinct.tolist() if self._numbers.get(index) not in self._kept]
        if lacking:
            squares = square_frames(video, self._resize, self._size, np.array(lacking, np.int64))
            for index, frame in zip(lacking, squares, strict=True):
                self._put(index, frame)
        taken = []
        for indices in wanted:
            numbers = tuple(self._numbers[index] for index in indices.tolist())
            taken.append((numbers, tuple(self._kept[number] for number in numbers)))
        return taken

    def keep_only(self, wanted: Sequence[Indices]) -> None:
        """Give the memory of all frames back but of those of some spans."""
        numbers = {self._numbers.get(index) for indices in wanted for index in indices.tolist()}
        kept = {number: frame for number, frame in self._kept.items() if number in numbers}
        # A frame that is kept for long must not keep the array that it was decoded into.
        self._kept = {number: frame if frame.base is None else frame.copy() for number, frame in kept.items()}

    def forget_all(self) -> None:
        """Take every frame for a new one from now on, because indices mean other frames."""
        self._numbers.clear()
        self._kept.clear()
        self._last = None

    def _put(self, index: int, frame: Frame) -> None:
        number = self._numbers.get(index)
        if number is None and self._last is not None and self._is_still(self._last[1], frame):
            number, frame = self._last
        elif number is None:
            number, self._count = self._count, self._count + 1
            self._last = (number, frame)
        self._numbers[index], self._kept[number] = number, frame

    def _is_still(self, before: Frame, frame: Frame) -> bool:
        """Whether two frames are nearly the same."""
        if not self._skip_still:
            return False
        difference = np.maximum(before, frame) - np.minimum(before, frame)
        return float(difference.mean()) < 255 * self._skip_still
