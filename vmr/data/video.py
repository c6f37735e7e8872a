"""Reading frames of a video by number: the door, and the default reader behind it (PyAV with our own frame index)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vmr.data.frame_index import (
    CountingDecoder,
    SeekingDecoder,
    UnreachableFrameError,
    VideoFile,
    frame_times,
    scan_packets,
)
from vmr.errors import VideoError

READERS = ("pyav", "decord", "torchcodec")
_UNKNOWN_FRAME_S = 0.04  # for one-picture files that state neither a duration nor a rate


class FrameReader(Protocol):
    """What `VideoReader` needs of a decoding library."""

    timestamps_s: NDArray[np.float64]
    duration_s: float
    height: int
    width: int

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """The pictures at increasing, distinct `indices`, each (*size, 3) RGB."""

    def close(self) -> None:
        """Let go of the file."""


class VideoReader:
    """A video as numbered frames; a context manager.

    Frame i is the i-th picture that a plain decode of the file shows: pictures hidden by an edit list do not count, a
    rotation or mirror tag is applied, a sample aspect ratio is not. Damaged pictures that FFmpeg patches up are left as
    it gives them.

    num_frames; timestamps_s: (num_frames,) seconds from the first frame, increasing; duration_s: to the end of the last
    frame; fps: num_frames / duration_s; height, width: pixels, upright, of the first frame.

    path: a local file. reader: "pyav" (exact on everything in our test matrix), "decord" (the reader of the published
    VideoMamba numbers; wrong frames on open-GOP and edit-list files), "torchcodec". num_threads: decoder threads; one
    is best where several videos are decoded side by side. count_frames=True (pyav): find out how many frames there are
    by decoding them all, for a damaged file whose packets promise frames that do not come. Raises VideoError for what
    cannot be read, VmrError for an unknown or missing reader.
    """

    def __init__(
        self, path: str | os.PathLike[str], reader: str = "pyav", num_threads: int = 1, count_frames: bool = False
    ) -> None:
        self.path = os.fspath(path)
        self._reader = _open_reader(self.path, reader, num_threads, count_frames)
        self.timestamps_s = self._reader.timestamps_s
        self.num_frames = len(self.timestamps_s)
        self.duration_s = self._reader.duration_s
        self.fps = self.num_frames / self.duration_s
        self.height = self._reader.height
        self.width = self._reader.width

    def frames_at(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """Frames in the order asked, repeats included: uint8 RGB in [0, 255], (len(indices), 3, H, W).

        size: (H, W) to scale to while decoding (bicubic); None keeps the video's own. crop: (top, left, H, W), the part
        of the scaled picture to keep, in pixels; None keeps all of it. Raises IndexError for an index outside
        [0, num_frames), and VideoError, naming the frame, if the decoder does not deliver what the file promised:
        nothing is made up in its place.
        """
        asked = np.asarray(indices, np.int64).reshape(-1)
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

    def close(self) -> None:
        """Let go of the file; harmless when done already."""
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
    from vmr.data import readers

    readers.check_reader(reader)
    return (
        readers.DecordReader(path, num_threads) if reader == "decord" else readers.TorchCodecReader(path, num_threads)
    )


class PyAVReader:
    """The default reader: packets are listed on opening, pictures reached from the key frame before them."""

    def __init__(self, path: str, num_threads: int = 1, count_frames: bool = False) -> None:
        self._file = VideoFile(path, num_threads)
        try:
            if count_frames or not self._index_by_packets():
                self._index_by_counting()
        except BaseException:
            self._file.close()
            raise

    def _index_by_packets(self) -> bool:
        """Take the packets' word for the frames, if the first few pictures bear it out."""
        table = scan_packets(self._file)
        if table is None:
            return False
        decoder = SeekingDecoder(self._file, table)
        first = decoder.first_frames()
        if not first or first[0].pts is None:
            return False
        # A recording that begins between key frames lists pictures which cannot be decoded. Pictures come in the order
        # they are shown, so those before the first one that comes never will.
        shown = table.shown_pts[np.searchsorted(table.shown_pts, first[0].pts) :]
        if [frame.pts for frame in first] != shown[: len(first)].tolist():
            return False
        self._decoder: SeekingDecoder | CountingDecoder = decoder
        self._shown_pts = shown
        self._describe(first[0], frame_times(shown, self._file.stream.time_base, 0.0), table.last_duration)
        return True

    def _index_by_counting(self) -> None:
        self._decoder = decoder = CountingDecoder(self._file)
        times, first = decoder.all_pts()
        if first is None:
            raise VideoError(self._file.path, "no frame of its video can be decoded")
        rate = self._file.stream.average_rate
        self._describe(
            first, frame_times(times, self._file.stream.time_base, float(1 / rate) if rate else _UNKNOWN_FRAME_S)
        )

    def _describe(self, first: VideoFrame, timestamps_s: NDArray[np.float64], last_duration: int = 0) -> None:
        stream = self._file.stream
        last_s = float(last_duration * stream.time_base) if stream.time_base else 0.0
        if last_s <= 0 and len(timestamps_s) > 1:
            last_s = float(np.median(np.diff(timestamps_s)))
        if last_s <= 0:
            last_s = float(1 / stream.average_rate) if stream.average_rate else _UNKNOWN_FRAME_S
        self.timestamps_s = timestamps_s
        self.duration_s = float(timestamps_s[-1]) + last_s
        quarter_turns, _ = _orientation(first)
        sides = (first.height, first.width)
        self.height, self.width = sides[::-1] if quarter_turns % 2 else sides

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """The pictures at increasing, distinct `indices`, each (*size, 3) RGB."""
        for index in indices:
            yield upright_rgb(self._frame(index), size)

    def _frame(self, index: int) -> VideoFrame:
        if isinstance(self._decoder, SeekingDecoder):
            try:
                return self._decoder.frame(int(self._shown_pts[index]))
            except UnreachableFrameError:
                self._stop_seeking(index)
        return self._decoder.frame(index)

    def _stop_seeking(self, missing: int) -> None:
        """The packet list proved wrong. If counting finds as many frames, they are the same ones; else say so."""
        decoder = CountingDecoder(self._file)
        num_decoded = len(decoder.all_pts()[0])
        num_frames = len(self.timestamps_s)
        if num_decoded != num_frames:
            reason = f"frame {missing} cannot be decoded: the file lists {num_frames} frames and yields {num_decoded}"
            raise VideoError(self._file.path, reason)
        self._decoder = decoder

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def upright_rgb(frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A decoded picture turned upright and scaled to `size` = (H, W), bicubic; uint8 RGB (H, W, 3)."""
    quarter_turns, mirrored = _orientation(frame)
    height, width = size[::-1] if quarter_turns % 2 else size
    rgb = _scaled(frame, (height, width))
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.rot90(rgb, -quarter_turns) if quarter_turns else rgb


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
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
