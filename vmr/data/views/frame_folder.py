"""A video as a folder of numbered pictures, such as img_00001.jpg, with the same methods as a video."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.stills import Frames, read_still
from vmr.data.media import IMAGE_SUFFIXES
from vmr.errors import VideoError

_NUMBERED = re.compile(r"(.*?)(\d+)(\.[^.]+)")
_MAX_NAMED = 5  # missing pictures, in a message


class FrameFolder:
    """The pictures of a folder as numbered frames. Only those that are asked for are read.

    All pictures have one name but for their numbers, which begin with 0 or 1 and have no gap. The first one is frame 0.
    Other files do not matter. There are no times, as in `Frames`.

    Args:
        path: the folder.

    Attributes:
        path: as given.
        num_frames: how many pictures it has.
        height: of the first picture, in pixels; all others must be as large.
        width: likewise.
        fps: frames per second: infinite.
        duration_s: seconds: 0.

    Raises:
        VideoError: the folder cannot be read, or has no pictures, two kinds of names, or a gap; or the first picture is
            damaged.
    """

    fps = math.inf
    duration_s = 0.0

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._files = _numbered_files(self.path)
        self.num_frames = len(self._files)
        _, _, self.height, self.width = self._read(0).shape

    def frames_at(
        self, indices: Sequence[int], size: tuple[int, int] | None = None, crop: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.uint8]:
        """See `VideoReader.frames_at`."""
        distinct, where = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        read = [Frames(self.path, self._read(index)).frames_at([0], size, crop) for index in distinct.tolist()]
        return np.concatenate(read)[where]

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader.pictures`."""
        return (self._read(index)[0].transpose(1, 2, 0) for index in indices)

    def _read(self, index: int) -> NDArray[np.uint8]:
        file = self._files[index]
        try:
            picture = read_still(str(Path(self.path) / file))
        except VideoError as error:
            raise VideoError(self.path, f"{file}: {error.reason}") from None
        height, width = picture.shape[2:]
        if index and (height, width) != (self.height, self.width):
            raise VideoError(
                self.path, f"{file} has {width} x {height} pixels, and the first picture {self.width} x {self.height}"
            )
        return picture


def are_frames(names: Iterable[str]) -> bool:
    """Tell whether the files of a folder are the frames of one video, by their names.

    They are if all are pictures of one kind of name with a number, which begin with 0 or 1. A gap does not matter here:
    such a video is refused when it is read.

    Args:
        names: of the videos and pictures in the folder.
    """
    matches = [_NUMBERED.fullmatch(name) for name in names]
    numbered = [match for match in matches if match is not None and match[3].lower() in IMAGE_SUFFIXES]
    is_one_kind = len({(match[1], match[3]) for match in numbered}) == 1
    return is_one_kind and len(numbered) == len(matches) and min(int(match[2]) for match in numbered) <= 1


def _numbered_files(folder: str) -> list[str]:
    """The names of the pictures of a folder in the order of their numbers."""
    try:
        names = [file.name for file in Path(folder).iterdir()]
    except OSError as error:
        raise VideoError(folder, error.strerror or "cannot be read") from None
    files: dict[int, str] = {}
    shapes = set()
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is not None and match[3].lower() in IMAGE_SUFFIXES:
            other = files.setdefault(int(match[2]), name)
            if other != name:
                raise VideoError(
                    folder, f"has two pictures number {int(match[2])}: {' and '.join(sorted([other, name]))}"
                )
            shapes.add((match[1], match[3]))
    if not files:
        raise VideoError(folder, "has no numbered pictures, such as img_00001.jpg")
    if len(shapes) > 1:
        both = " and ".join(f"{before}*{suffix}" for before, suffix in sorted(shapes)[:2])
        raise VideoError(folder, f"has pictures of several kinds, {both}: keep one kind")
    missing = [number for number in range(1, max(files)) if number not in files][: _MAX_NAMED + 1]
    if missing:
        named = ", ".join(map(str, missing[:_MAX_NAMED])) + (", ..." if len(missing) > _MAX_NAMED else "")
        raise VideoError(folder, f"lacks pictures before {files[max(files)]}: number {named}")
    return [files[number] for number in sorted(files)]
