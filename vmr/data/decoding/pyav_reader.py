"""The default reader of `VideoReader`: FFmpeg through PyAV, with our own index of the frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vmr.data.decoding.frame_index import (
    CountingDecoder,
    SeekingDecoder,
    UnreachableFrameError,
    frame_times,
    scan_packets,
)
from vmr.data.decoding.pictures import orientation, upright_rgb
from vmr.data.decoding.video_file import VideoFile
from vmr.errors import VideoError

_DEFAULT_FRAME_S = 0.04  # used for files of one picture that state neither a duration nor a rate


class PyAVReader:
    """The default reader. It lists the packets on opening, and reaches pictures from the key frame before them.

    Args:
        path: a local file.
        num_threads: threads of the decoder.
        count_frames: find the frames by decoding all of them, and do not use the list of packets.

    Attributes:
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: seconds from the first frame to the end of the last.
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.

    Raises:
        VideoError: the file cannot be read, or none of its frames can be decoded.
    """

    def __init__(self, path: str, num_threads: int = 1, count_frames: bool = False) -> None:
        self._file = VideoFile(path, num_threads)
        try:
            if count_frames or not self._index_by_packets():
                self._index_by_counting()
        except BaseException:
            self._file.close()
            raise

    def _index_by_packets(self) -> bool:
        """Use the list of packets; return False if it does not agree with the first few pictures."""
        table = scan_packets(self._file)
        if table is None:
            return False
        decoder = SeekingDecoder(self._file, table)
        first = decoder.first_frames()
        if not first or first[0].pts is None:
            return False
        # A recording that begins between key frames lists pictures that cannot be decoded. The decoder gives pictures
        # in the order in which they are shown, so it never gives those before its first one.
        shown = table.shown_pts[np.searchsorted(table.shown_pts, first[0].pts) :]
        if [frame.pts for frame in first] != shown[: len(first)].tolist():
            return False
        self._decoder: SeekingDecoder | CountingDecoder = decoder
        self._shown_pts = shown
        self._set_properties(first[0], frame_times(shown, self._file.stream.time_base, 0.0), table.last_duration)
        return True

    def _index_by_counting(self) -> None:
        self._decoder = decoder = CountingDecoder(self._file)
        times, first = decoder.all_pts()
        if first is None:
            raise VideoError(self._file.path, "no frame of its video can be decoded")
        rate = self._file.stream.average_rate
        frame_s = float(1 / rate) if rate else _DEFAULT_FRAME_S
        self._set_properties(first, frame_times(times, self._file.stream.time_base, frame_s))

    def _set_properties(self, first: VideoFrame, timestamps_s: NDArray[np.float64], last_duration: int = 0) -> None:
        stream = self._file.stream
        last_s = float(last_duration * stream.time_base) if stream.time_base else 0.0
        if last_s <= 0 and len(timestamps_s) > 1:
            last_s = float(np.median(np.diff(timestamps_s)))
        if last_s <= 0:
            last_s = float(1 / stream.average_rate) if stream.average_rate else _DEFAULT_FRAME_S
        self.timestamps_s = timestamps_s
        self.duration_s = float(timestamps_s[-1]) + last_s
        quarter_turns, _ = orientation(first)
        sides = (first.height, first.width)
        self.height, self.width = sides[::-1] if quarter_turns % 2 else sides

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """See `FrameReader.frames`."""
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
        """Count the frames from now on, because the list of packets is wrong.

        If counting finds as many frames as are listed, they are the same frames. Else the missing frame is an error.
        """
        decoder = CountingDecoder(self._file)
        num_decoded = len(decoder.all_pts()[0])
        num_frames = len(self.timestamps_s)
        if num_decoded != num_frames:
            reason = f"frame {missing} cannot be decoded: the file lists {num_frames} frames and yields {num_decoded}"
            raise VideoError(self._file.path, reason)
        self._decoder = decoder

    def close(self) -> None:
        """Close the file."""
        self._file.close()
