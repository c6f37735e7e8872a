"""The other decoding libraries behind `VideoReader`: decord and torchcodec, neither of which vmr depends on."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.frame_index import VideoFile, frame_times, scan_packets
from vmr.data.decoding.options import READERS
from vmr.data.decoding.pictures import resized_rgb
from vmr.errors import VideoError, VmrError

_FRAMES_PER_CALL = 16  # decoded at full size before they are scaled, so few at a time


def check_reader(reader: str) -> None:
    """Raise VmrError unless `reader` is one of READERS and its package can be imported."""
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
    except (ImportError, OSError, RuntimeError) as error:  # installed, but its native libraries are not
        raise VmrError(f"reader {package!r} does not load: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line)  # decord's clock and source line


class DecordReader:
    """Decord, which upstream VideoMamba reads with. It applies rotation itself."""

    def __init__(self, path: str, num_threads: int = 1) -> None:
        VideoFile(path, num_threads).close()  # says in one line what is wrong with a file that is no video
        self._path = path
        decord = _import("decord")
        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._video = decord.VideoReader(path, num_threads=num_threads)
            shown = np.asarray(self._video.get_frame_timestamp(range(len(self._video))), np.float64)  # (n, 2): from, to
            self.height, self.width = self._video[0].shape[:2]
        except self._errors as error:
            raise VideoError(path, f"decord cannot read it ({_first_line(error)})") from None
        if len(shown) == 0:
            raise VideoError(path, "decord finds no frame in it")
        self.timestamps_s: NDArray[np.float64] = shown[:, 0] - shown[0, 0]
        self.duration_s = len(shown) / float(self._video.get_avg_fps())

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """The pictures at increasing, distinct `indices`, each (*size, 3) RGB."""
        for start in range(0, len(indices), _FRAMES_PER_CALL):
            try:
                batch = self._video.get_batch(indices[start : start + _FRAMES_PER_CALL]).asnumpy()  # (n, H, W, 3)
            except self._errors as error:
                raise VideoError(self._path, f"decord stopped decoding ({_first_line(error)})") from None
            for rgb in batch:
                yield resized_rgb(rgb, size)

    def close(self) -> None:
        """Let go of the file."""
        self._video = None


class TorchCodecReader:
    """Torchcodec in its exact mode. It imports torch and needs the FFmpeg libraries of the system.

    device: "cpu", or "cuda" for the decoding units of a GPU, whose pictures then come back to be scaled; a build of
    torchcodec for CUDA is needed, and each decoding process takes a few hundred MB of the card.
    """

    def __init__(self, path: str, num_threads: int = 1, device: str = "cpu") -> None:
        file = VideoFile(path, num_threads)  # also says in one line what is wrong with a file that is no video
        try:
            table, time_base = scan_packets(file), file.stream.time_base
        finally:
            file.close()
        self._path = path
        _import("torchcodec")
        try:
            self._video = _import("torchcodec.decoders").VideoDecoder(
                path, seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=num_threads, device=device
            )
            about = self._video.metadata
            self.height, self.width = self._video[0].shape[:2]
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoError(path, f"torchcodec cannot read it ({_first_line(error)})") from None
        # Torchcodec tells when a frame is shown only after decoding it; the packets tell at once, if they agree on how
        # many.
        if table is not None and len(table.shown_pts) == about.num_frames:
            self.timestamps_s = frame_times(table.shown_pts, time_base, 1 / float(about.average_fps))
        else:
            self.timestamps_s = np.arange(about.num_frames) / float(about.average_fps)
        self.duration_s = max(float(about.duration_seconds), float(self.timestamps_s[-1]))

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """The pictures at increasing, distinct `indices`, each (*size, 3) RGB."""
        for start in range(0, len(indices), _FRAMES_PER_CALL):
            try:
                batch = self._video.get_frames_at(indices[start : start + _FRAMES_PER_CALL]).data.cpu().numpy()
            except (RuntimeError, IndexError) as error:
                raise VideoError(self._path, f"torchcodec stopped decoding ({_first_line(error)})") from None
            for rgb in batch:
                yield resized_rgb(rgb, size)

    def close(self) -> None:
        """Let go of the file."""
        self._video = None
