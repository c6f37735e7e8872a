"""The default reader of `VideoReader`: FFmpeg through PyAV, with our own index of the frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.clock import shown_times
from vmr.data.decoding.ffmpeg.damage import damage_remark, remarks_of
from vmr.data.decoding.ffmpeg.frame_index import CountingDecoder, SeekingDecoder, UnreachableFrameError, key_numbers
from vmr.data.decoding.ffmpeg.packets import PacketScan, open_and_scan
from vmr.data.decoding.ffmpeg.pictures import Scaler, orientation
from vmr.data.remark import Remark
from vmr.errors import VideoError


class PyAVReader:
    """The default reader. It lists the packets on opening, and reaches pictures from the key frame before them.

    Args:
        path: a local file.
        num_threads: threads of the decoder.
        count_frames: find the frames by decoding all of them, and do not use the list of packets.

    Attributes:
        timestamps_s: seconds from the first frame, increasing, (num_frames,).
        duration_s: seconds from the first frame to the end of the last.
        key_indices: numbers of the key frames, increasing; at least one.
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.

    Raises:
        VideoError: the file cannot be read, or none of its frames can be decoded.
    """

    def __init__(self, path: str, num_threads: int = 1, count_frames: bool = False) -> None:
        self._file, scan = open_and_scan(path, num_threads)
        self._scaler = Scaler()
        self._damage: Remark | None = None
        self._gave_damaged = False
        try:
            decoder = None if count_frames or scan.table is None else SeekingDecoder(self._file, scan.table)
            first = None if decoder is None else decoder.first_frame()
            if decoder is None or scan.table is None or first is None:
                first = self._count(scan)
            else:
                self._decoder: SeekingDecoder | CountingDecoder = decoder
                self._times = shown_times(decoder.shown_pts, scan.table.last_duration, self._file.clock)
                self.key_indices = key_numbers(decoder.key_indices)
        except BaseException:
            self._file.close()
            raise
        self.timestamps_s, self.duration_s = self._times.timestamps_s, self._times.duration_s
        quarter_turns, _ = orientation(first)
        sides = (first.height, first.width)
        self.height, self.width = sides[::-1] if quarter_turns % 2 else sides

    def _count(self, scan: PacketScan) -> VideoFrame:
        """Find the pictures by decoding all of them; return the first."""
        self._decoder = CountingDecoder(self._file)
        survey = self._decoder.survey()
        if survey.first is None:
            raise VideoError(self._file.path, "no frame of its video can be decoded")
        # Where packets have no times, a picture gets that of some packet.
        pts = survey.pts if scan.has_times else [None] * len(survey.pts)
        self._times = shown_times(pts, survey.last_duration, self._file.clock)
        self.key_indices = key_numbers(np.flatnonzero(survey.is_key))
        has_lost = scan.has_corrupt and len(survey.pts) < scan.num_packets
        if scan.is_damaged or has_lost or survey.num_broken or not survey.is_intact.all():
            self._damage = damage_remark(self._times, survey.is_intact, self._file.stated_s)
        return survey.first

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was noticed so far; if a damaged picture was read, the whole file is decoded to say more."""
        if self._damage is None and self._gave_damaged:
            survey = CountingDecoder(self._file).survey()
            times = shown_times(survey.pts, survey.last_duration, self._file.clock)
            self._damage = damage_remark(times, survey.is_intact, self._file.stated_s)
        return remarks_of(self._times, self._damage)

    @property
    def is_sound(self) -> bool:
        """See `VideoReader.is_sound`."""
        return isinstance(self._decoder, SeekingDecoder) and not self._gave_damaged

    def frames(self, indices: list[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """See `FrameReader.frames`."""
        if isinstance(self._decoder, SeekingDecoder):
            self._decoder.want(indices)
        for index in indices:
            frame = self._frame(index)
            self._gave_damaged |= frame.is_corrupt
            yield self._scaler.upright_rgb(frame, size)

    def _frame(self, index: int) -> VideoFrame:
        if isinstance(self._decoder, SeekingDecoder):
            try:
                return self._decoder.frame(index)
            except UnreachableFrameError:
                self._stop_seeking(index)
        return self._decoder.frame(index)

    def _stop_seeking(self, missing: int) -> None:
        """Count the frames from now on, because the list of packets is wrong.

        If counting finds as many frames as are listed, they are the same frames. Else the missing frame is an error.
        """
        decoder = CountingDecoder(self._file)
        num_decoded = len(decoder.survey().pts)
        num_frames = len(self.timestamps_s)
        if num_decoded != num_frames:
            reason = f"frame {missing} cannot be decoded: the file lists {num_frames} frames and yields {num_decoded}"
            raise VideoError(self._file.path, reason)
        self._decoder = decoder

    def close(self) -> None:
        """Close the file."""
        self._file.close()
