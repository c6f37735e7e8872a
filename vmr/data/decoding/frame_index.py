"""Where the frames of a video file are, and how to reach any one of them exactly (FFmpeg through PyAV).

Frame i is, by definition, the i-th picture that a plain decode from the first byte shows. Both decoders here give that
picture. They differ in speed:

- `SeekingDecoder` uses a list of all packets, which `scan_packets` makes without decoding. To reach a picture, it
  starts at the key frame before it. It checks what it can: the packet that it starts with must be the listed one, the
  packets after it must follow in the listed order, the first picture must be the key frame and coded without reference
  to others, and the wanted picture must have the right presentation time.
- `CountingDecoder` decodes from the start and counts. It serves files whose packets do not identify their pictures:
  files without presentation times (H.264 or MPEG-4 in AVI), files with each field in its own packet, and damaged files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vmr.data.decoding.video_file import VideoFile

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# In these codecs the packets do not identify the pictures. Some packets of VP8 show no picture. In animations each
# picture is painted over the one before, although every packet may be marked as a key frame.
_COUNTED_CODECS = {"vp8", "gif", "apng", "webp"}
_NUM_PROBED_FRAMES = 4
_MIN_PACKETS_TO_SEEK = 8  # decoding fewer packets than this is cheaper than a seek


class TimeBase(Protocol):
    """Seconds per tick of a stream's clock, as a fraction. PyAV changed its own type for it in version 19."""

    @property
    def numerator(self) -> int:
        """Upper part of the fraction."""

    @property
    def denominator(self) -> int:
        """Lower part of the fraction."""


class UnreachableFrameError(Exception):
    """The packets list a frame that the decoder does not deliver."""


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream, and the pictures that they should give. Times are in ticks of the stream's clock.

    The lists of key frames hold only key frames that are shown, in file order, which is also their order in time.

    Attributes:
        places: (presentation time, size in bytes) of each packet -> its number in the file, from 0.
        key_pts: presentation times of the key frames.
        key_dts: decoding times of the key frames; the presentation time if the file has no decoding time.
        key_places: numbers of the key frames' packets in the file.
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
        last_duration: how long the last picture is shown; 0 if the file does not say.
    """

    places: dict[tuple[int, int], int]
    key_pts: list[int]
    key_dts: list[int]
    key_places: list[int]
    shown_pts: NDArray[np.int64]
    last_duration: int


def scan_packets(file: VideoFile) -> PacketTable | None:
    """List the packets of a video without decoding them.

    Args:
        file: a file that was just opened; its packets are read to the end.

    Returns:
        The table, or None if the packets do not identify the pictures: a packet is damaged or has no presentation time,
        two pictures have the same time, key frames are not in order, or the codec is one of those that must be counted.
    """
    if file.stream.codec_context.name in _COUNTED_CODECS:
        return None
    places: dict[tuple[int, int], int] = {}
    shown: list[int] = []
    keys: list[tuple[int, int, int]] = []
    last_pts, last_duration = -(2**63), 0
    for place, packet in enumerate(file.packets()):
        if packet.pts is None or packet.is_corrupt:
            return None
        places[packet.pts, packet.size] = place
        if packet.is_discard:  # an edit list hides this picture, but others may be coded with reference to it
            continue
        shown.append(packet.pts)
        if packet.is_keyframe:
            keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts, place))
        if packet.pts > last_pts:
            last_pts, last_duration = packet.pts, packet.duration or 0
    key_pts = [pts for pts, _, _ in keys]
    if not shown or len(set(shown)) < len(shown) or any(b <= a for a, b in pairwise(key_pts)):
        return None
    return PacketTable(
        places=places,
        key_pts=key_pts,
        key_dts=[dts for _, dts, _ in keys],
        key_places=[place for _, _, place in keys],
        shown_pts=np.sort(np.array(shown, np.int64)),
        last_duration=last_duration,
    )


class SeekingDecoder:
    """Reaches a picture from the key frame before it. Pictures are identified by their presentation times.

    Args:
        file: the video.
        table: its packets, from `scan_packets`.
    """

    def __init__(self, file: VideoFile, table: PacketTable) -> None:
        self._file = file
        self._table = table
        self._frames: Iterator[VideoFrame] = iter(())
        self._last: VideoFrame | None = None  # the latest picture that the decoder gave
        self._place = 0  # number of the packet that is decoded next
        self._keys_are_reliable = True
        self._restart()

    def first_frames(self) -> list[VideoFrame]:
        """Return the first pictures of the file, up to four: the caller compares them with the table."""
        self._restart()
        frames = list(islice(self._frames, _NUM_PROBED_FRAMES))
        self._last = frames[-1] if frames else None
        return frames

    def frame(self, pts: int) -> VideoFrame:
        """Return a picture.

        Args:
            pts: its presentation time, in ticks of the stream's clock.

        Raises:
            UnreachableFrameError: the decoder gives no picture with this time.
        """
        if self._last is not None and self._last.pts == pts:
            return self._last
        key = bisect_right(self._table.key_pts, pts) - 1 if self._keys_are_reliable else -1
        frame = self._decode_to(pts) if self._is_ahead(pts, key) else None
        for start in (key, key - 1):
            if frame is None and start >= 0 and self._start_at_key(start):
                frame = self._decode_to(pts, expected_key=self._table.key_pts[start])
        if frame is None:
            self._restart()
            frame = self._decode_to(pts)
            if frame is not None and key >= 0:
                self._keys_are_reliable = False  # the file marks other pictures as key frames: do not start at them
        if frame is None:
            raise UnreachableFrameError
        return frame

    def _is_ahead(self, pts: int, key: int) -> bool:
        """Whether decoding further from the current position costs no more than a seek to the key frame."""
        if self._last is None or self._last.pts is None or self._last.pts > pts:
            return False
        return key < 0 or self._table.key_places[key] - self._place < _MIN_PACKETS_TO_SEEK

    def _decode_to(self, pts: int, expected_key: int | None = None) -> VideoFrame | None:
        """Decode until the picture at `pts`; return None if the decoder gives later pictures but not this one.

        `expected_key` is the presentation time of the key frame at which decoding started. That picture must come,
        coded without reference to others, before any picture is returned.
        """
        for frame in self._frames:
            self._last = frame
            if frame.pts is None:
                return None
            if expected_key is not None and frame.pts >= expected_key:
                coded_alone = frame.key_frame or frame.pict_type == av.video.frame.PictureType.I
                if frame.pts > expected_key or not coded_alone:
                    return None
                expected_key = None
            if frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None

    def _restart(self) -> None:
        self._file.reopen()
        self._read_from(0, self._file.packets())

    def _start_at_key(self, key: int) -> bool:
        """Make this key frame's packet the next one to be decoded; return False if no seek lands at or before it.

        Some containers seek by presentation time, others by decoding time, and some land too late. If a seek lands too
        early, only more packets are read.
        """
        table = self._table
        for target in (table.key_pts[key], table.key_dts[key], table.key_dts[max(key - 1, 0)]):
            try:
                self._file.container.seek(target, stream=self._file.stream)
            except FFmpegError:
                continue
            packets = self._file.packets()
            for packet in packets:
                place = self._place_of(packet)
                if place == table.key_places[key]:
                    self._read_from(place, chain([packet], packets))
                    return True
                if place is not None and place > table.key_places[key]:
                    break
        return False

    def _place_of(self, packet: Packet[VideoStream]) -> int | None:
        return None if packet.pts is None else self._table.places.get((packet.pts, packet.size))

    def _read_from(self, place: int, packets: Iterator[Packet[VideoStream]]) -> None:
        self._place = place
        self._last = None
        self._frames = self._file.decode(self._in_listed_order(packets))

    def _in_listed_order(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        for packet in packets:
            if self._place_of(packet) != self._place:
                return
            self._place += 1
            yield packet


class CountingDecoder:
    """Reaches picture i by decoding from the start: always exact, but slow when it has to go back.

    Args:
        file: the video.
    """

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        self._next = 0
        self._last: VideoFrame | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._restart()

    def _restart(self) -> None:
        self._file.reopen()
        self._next = 0
        self._last = None
        self._frames = self._file.decode(self._file.packets())

    def all_pts(self) -> tuple[list[int | None], VideoFrame | None]:
        """Decode the whole file.

        Returns:
            The presentation time of every picture in ticks of the stream's clock (None where the file has none), and
            the first picture, or None if no picture can be decoded.
        """
        self._restart()
        first = next(self._frames, None)
        times = [] if first is None else [first.pts, *(frame.pts for frame in self._frames)]
        self._restart()
        return times, first

    def frame(self, index: int) -> VideoFrame:
        """Return a picture.

        Args:
            index: its number, from 0.

        Raises:
            UnreachableFrameError: the file has no such picture.
        """
        if index < self._next - 1:
            self._restart()
        while self._next <= index:
            self._last = next(self._frames, None)
            if self._last is None:
                raise UnreachableFrameError
            self._next += 1
        if self._last is None:
            raise UnreachableFrameError
        return self._last


def frame_times(
    pts: list[int | None] | NDArray[np.int64], time_base: TimeBase | None, frame_s: float
) -> NDArray[np.float64]:
    """Convert presentation times to seconds.

    Args:
        pts: presentation times in ticks, (num_frames,), at least one.
        time_base: seconds per tick; None if unknown.
        frame_s: seconds per picture, which are used where times are missing or do not increase.

    Returns:
        Seconds since the first picture, increasing, (num_frames,).
    """
    if time_base is None or any(time is None for time in pts):
        return np.arange(len(pts), dtype=np.float64) * frame_s
    ticks = np.asarray(pts, np.int64)
    if np.any(np.diff(ticks) <= 0):
        return np.arange(len(pts), dtype=np.float64) * frame_s
    # Multiply first and divide once, so that rounding never puts a frame at 4 s before a window that begins at 4 s.
    seconds: NDArray[np.float64] = (ticks - ticks[0]) * time_base.numerator / time_base.denominator
    return seconds
