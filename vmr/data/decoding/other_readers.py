"""The optional readers of `VideoReader`: decord and torchcodec, which vmr does not depend on."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.clock import shown_times
from vmr.data.decoding.ffmpeg.frame_index import key_numbers
from vmr.data.decoding.ffmpeg.packets import open_and_scan
from vmr.data.decoding.ffmpeg.pictures import resized_rgb
from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.data.decoding.options import READERS
from vmr.data.remark import Remark
from vmr.errors import VideoError, VmrError

_FRAMES_PER_CALL = 16  # few, because frames are held at full size until they are scaled


def check_reader(reader: str) -> None:
    """Check that a reader can be used.

    Args:
        reader: its name.

    Raises:
        VmrError: it is not one of READERS, or its package cannot be imported.
    """
    if reader not in READERS:
        raise VmrError(f"no video reader {reader!r}: choose {', '.join(READERS)}")
    if reader != "pyav":
        _import(reader.removesuffix("-cuda"))


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise VmrError(f"reader {package!r} lacks {error.name}: pip install {error.name}") from None
        raise VmrError(f"reader {package!r} needs a package: pip install {package}") from None
    except (ImportError, OSError, RuntimeError) as error:  # the package is installed, but its native libraries are not
        raise VmrError(f"reader {package!r} does not load: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line)  # the error message without decord's time and source line


class DecordReader:
    """Reads with decord, as upstream VideoMamba does. Decord applies rotation itself.

    Args:
        path: a local file.
        num_threads: threads of the decoder.

    Attributes:
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: the number of frames divided by the average rate, in seconds.
        key_indices: numbers of the key frames, increasing; at least one.
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        remarks: none; this reader does not notice damage.
        is_sound: true, for the same reason.

    Raises:
        VideoError: the file cannot be read.
        VmrError: the package is missing.
    """

    remarks: tuple[Remark, ...] = ()
    is_sound = True

    def __init__(self, path: str, num_threads: int = 1) -> None:
        VideoFile(path, num_threads).close()  # raises an error of one line if the file is no video
        self._path = path
        decord = _import("decord")
        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._video = decord.VideoReader(path, num_threads=num_threads)
            shown = np.asarray(
                self._video.get_frame_timestamp(range(len(self._video))), np.float64
            )  # (n, 2): start, end
            self.key_indices = key_numbers(self._video.get_key_indices())
            self.height, self.width = self._video[0].shape[:2]
        except self._errors as error:
            raise VideoError(path, f"decord cannot read it ({_first_line(error)})") from None
        if len(shown) == 0:
            raise VideoError(path, "decord finds no frame in it")
        self.timestamps_s: NDArray[np.float64] = shown[:, 0] - shown[0, 0]
        self.duration_s = len(shown) / float(self._video.get_avg_fps())

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """See `FrameReader.frames`."""
        for start in range(0, len(indices), _FRAMES_PER_CALL):
            try:
                batch = self._video.get_batch(indices[start : start + _FRAMES_PER_CALL]).asnumpy()  # (n, H, W, 3)
            except self._errors as error:
                raise VideoError(self._path, f"decord stopped decoding ({_first_line(error)})") from None
            for rgb in batch:
                yield resized_rgb(rgb, size)

    def close(self) -> None:
        """Close the file."""
        self._video = None


class TorchCodecReader:
    """Reads with torchcodec in its exact mode. It imports torch and needs the FFmpeg libraries of the system.

    Args:
        path: a local file.
        num_threads: threads of the decoder.
        device: "cpu", or "cuda" to decode on a GPU; frames are then copied to the CPU and scaled there. This needs a
            build of torchcodec for CUDA, and each decoding process takes a few hundred MB of GPU memory.

    Attributes:
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: seconds from the first frame to the end of the last.
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        remarks: none; this reader does not notice damage.
        is_sound: true, for the same reason.

    Raises:
        VideoError: the file cannot be read.
        VmrError: the package is missing.
    """

    remarks: tuple[Remark, ...] = ()
    is_sound = True

    def __init__(self, path: str, num_threads: int = 1, device: str = "cpu") -> None:
        file, scan = open_and_scan(path, num_threads)  # also raises an error of one line if the file is no video
        table, clock = scan.table, file.clock
        file.close()
        self._path = path
        _import("torchcodec")
        try:
            self._video = _import("torchcodec.decoders").VideoDecoder(
                path, seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=num_threads, device=device
            )
            metadata = self._video.metadata
            self.height, self.width = self._video[0].shape[:2]
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoError(path, f"torchcodec cannot read it ({_first_line(error)})") from None
        # Torchcodec knows the time of a frame only after decoding it. The packets hold the times without decoding. They
        # are used if they list as many frames as torchcodec does.
        # So do the packets know the key frames.
        self._key_indices: NDArray[np.int64] | None = None
        if table is not None and len(table.shown_pts) == metadata.num_frames:
            self.timestamps_s = shown_times(table.shown_pts, table.last_duration, clock).timestamps_s
            self._key_indices = key_numbers(np.searchsorted(table.shown_pts, [key.pts for key in table.keys]))
        else:
            self.timestamps_s = np.arange(metadata.num_frames) / float(metadata.average_fps)
        self.duration_s = max(float(metadata.duration_seconds), float(self.timestamps_s[-1]))

    @property
    def key_indices(self) -> NDArray[np.int64]:
        """Numbers of the key frames, increasing; at least one.

        Raises:
            VmrError: the packets do not say which they are.
        """
        if self._key_indices is None:
            raise VmrError(f"{self._path}: reader 'torchcodec' finds no key frames in it; reader 'pyav' does")
        return self._key_indices

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """See `FrameReader.frames`."""
        for start in range(0, len(indices), _FRAMES_PER_CALL):
            try:
                batch = self._video.get_frames_at(indices[start : start + _FRAMES_PER_CALL]).data.cpu().numpy()
            except (RuntimeError, IndexError) as error:
                raise VideoError(self._path, f"torchcodec stopped decoding ({_first_line(error)})") from None
            for rgb in batch:
                yield resized_rgb(rgb, size)

    def close(self) -> None:
        """Close the file."""
        self._video = None
