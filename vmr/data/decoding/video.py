"""Reading frames of a video by number, with any of the readers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_path, whole_number
from vmr.data.decoding.ffmpeg.clock import moving_rate
from vmr.data.decoding.ffmpeg.reader import PyAVReader
from vmr.data.decoding.other_readers import DecordReader, TorchCodecReader, check_reader
from vmr.data.remark import Remark
from vmr.errors import VideoError

T = TypeVar("T")


class FrameReader(Protocol):
    """The interface to a decoding library that `VideoReader` uses.

    Attributes:
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: seconds from the first frame to the end of the last.
        height: of the upright first frame, in pixels.
        width: of the upright first frame, in pixels.
    """

    timestamps_s: NDArray[np.float64]
    duration_s: float
    height: int
    width: int

    @property
    def key_indices(self) -> NDArray[np.int64]:
        """See `VideoReader.key_indices`."""

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """See `VideoReader.remarks`."""

    @property
    def is_sound(self) -> bool:
        """See `VideoReader.is_sound`."""

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames.

        Args:
            indices: their numbers, increasing and without repeats, each in [0, num_frames).
            size: (H, W) to scale them to, in pixels; bicubic.

        Yields:
            Each frame upright, uint8 RGB in [0, 255], (H, W, 3).

        Raises:
            VideoError: a frame cannot be decoded.
        """

    def close(self) -> None:
        """Close the file."""


class VideoReader:
    """A video as numbered frames; a context manager.

    Frame i is the i-th picture that a plain decode of the file shows. Pictures that an edit list hides do not count. A
    rotation or mirror tag is applied, a sample aspect ratio is not. Damaged pictures are returned as FFmpeg repairs
    them; `remarks` says so.

    Times are those at which a player shows the frames. They are the file's own, except where these cannot be meant:
    where they go back, where the clock of a broadcast jumps by more than 10 s, and where the last frame would last for
    hours. `remarks` says so, too.

    Args:
        path: a local file.
        reader: "pyav" (exact on every kind of file that the tests generate), "decord" (the reader of the published
            VideoMamba numbers; it gives wrong frames for files with open GOPs or edit lists), "torchcodec", or
            "torchcodec-cuda" (on a GPU).
        num_threads: threads of the decoder; one is best when several videos are decoded at the same time.
        count_frames: find the number of frames by decoding all of them. This is for damaged files, whose packets list
            frames that cannot be decoded. Only "pyav" does so.

    Attributes:
        path: the file.
        num_frames: number of frames.
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: seconds from the first frame to the end of the last.
        fps: average frames per second, num_frames / duration_s; frames that are shown for more than 10 s do not count.
        height: of the upright first frame, in pixels.
        width: of the upright first frame, in pixels.

    Raises:
        VideoError: the file cannot be read.
        VmrError: the reader is unknown, or its package is missing.
    """

    def __init__(
        self, path: str | os.PathLike[str], reader: str = "pyav", num_threads: int = 1, count_frames: bool = False
    ) -> None:
        self.path = os.fspath(check_path("path", path))
        whole_number("num_threads", num_threads, at_least=0)
        self._reader = _open_reader(self.path, reader, num_threads, count_frames)
        self.timestamps_s = self._reader.timestamps_s
        self.num_frames = len(self.timestamps_s)
        self.duration_s = self._reader.duration_s
        self.fps = moving_rate(self.timestamps_s, self.duration_s)
        self.height = self._reader.height
        self.width = self._reader.width

    @property
    def key_indices(self) -> NDArray[np.int64]:
        """Numbers of the frames that the file marks as key frames, increasing, (n,); the first frame if it marks none.

        A key frame is coded without reference to other frames, so that it alone need be decoded.

        Raises:
            VmrError: the reader does not find them. "pyav" and "decord" always do.
        """
        return self._reader.key_indices

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was noticed so far: damage, and times that were mended. Only the reader "pyav" notices any.

        If a damaged frame was read, the whole file is decoded to say how much of it is damaged.
        """
        return self._reader.remarks

    @property
    def is_sound(self) -> bool:
        """Whether no frame that was read so far is damaged, and each was found without decoding the whole file."""
        return self._reader.is_sound

    def frames_at(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """Decode frames.

        Args:
            indices: their numbers, each in [0, num_frames), in any order, also with repeats.
            size: (H, W) to scale them to while decoding, in pixels (bicubic); None keeps the video's own size.
            crop: (top, left, H, W), the part of the scaled picture to keep, in pixels; None keeps all of it.

        Returns:
            uint8 RGB in [0, 255], (len(indices), 3, H, W), in the order of `indices`.

        Raises:
            IndexError: an index is outside [0, num_frames).
            VideoError: a frame that the file lists cannot be decoded. The message names it; no other frame replaces it.
        """
        given = np.asarray(indices, object).reshape(-1)
        asked = np.asarray([whole_number("an index", index, at_least=None) for index in given], np.int64)
        outside = asked[(asked < 0) | (asked >= self.num_frames)]
        if len(outside):
            raise IndexError(f"{self.path}: frame {outside[0]} of {self.num_frames}")
        scaled = size or (self.height, self.width)
        top, left, height, width = crop or (0, 0, *scaled)
        distinct, where = np.unique(asked, return_inverse=True)
        frames = np.empty((len(distinct), 3, height, width), np.uint8)
        for frame, rgb in zip(frames, self._reader.frames(distinct.tolist(), scaled), strict=True):
            frame[...] = rgb[top : top + height, left : left + width].transpose(2, 0, 1)
        return frames if np.array_equal(distinct, asked) else frames[where]

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames one after the other, so that those of a large video need not fit into memory together.

        Args:
            indices: their numbers, increasing and without repeats, each in [0, num_frames).

        Yields:
            Each frame in the video's own size, uint8 RGB in [0, 255], (H, W, 3).

        Raises:
            VideoError: a frame that the file lists cannot be decoded.
        """
        return self._reader.frames(list(indices), (self.height, self.width))

    def close(self) -> None:
        """Close the file. Does nothing if it is closed."""
        self._reader.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _open_reader(path: str, reader: str, num_threads: int, count_frames: bool) -> FrameReader:
    if reader == "pyav":
        return PyAVReader(path, num_threads, count_frames)
    check_reader(reader)
    if reader == "decord":
        return DecordReader(path, num_threads)
    return TorchCodecReader(path, num_threads, device="cuda" if reader.endswith("-cuda") else "cpu")


def with_video(path: str, reader: str, use: Callable[[VideoReader], T]) -> T:
    """Open a video, use it and close it; if frames are missing, count the frames and use it again.

    A damaged file may list frames that cannot be decoded. For the second call of `use`, the frames are counted by
    decoding all of them.

    Args:
        path: the video.
        reader: see `VideoReader`.
        use: a function of the open video. It may be called twice.

    Returns:
        The result of `use`.

    Raises:
        VideoError: the video cannot be read.
        VmrError: the reader is unknown, or its package is missing.
    """
    video = VideoReader(path, reader)
    try:
        return use(video)
    except VideoError:
        video.close()
        video = VideoReader(path, reader, count_frames=True)
        return use(video)
    finally:
        video.close()
