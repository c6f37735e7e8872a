"""Where the frames of a video file are, and how to reach any one of them exactly (FFmpeg through PyAV).

Frame i is, by definition, the i-th picture that a plain decode from the first byte shows. Both decoders here give that
picture. They differ in speed:

- `SeekingDecoder` uses a list of all packets, which `scan_packets` makes without decoding. To reach a picture, it
  starts at the key frame before it. It checks what it can: the packet that it starts with must be the listed one, the
  packets after it must follow in the listed order, the first picture must be the key frame and coded without reference
  to others, and from there on each picture must have the presentation time that is listed for its number.
- `CountingDecoder` decodes from the start and counts. It serves files whose packets do not identify their pictures:
  files without presentation times (H.264 or MPEG-4 in AVI), files with each field in its own packet, files in which
  some presentation times are wrong, and damaged files.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.damage import demuxer_errors, is_cut_off
from vmr.data.decoding.ffmpeg.video_file import VideoFile

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# In these codecs the packets do not identify the pictures. Some packets of VP8 show no picture. In animations each
# picture is painted over the one before, although every packet may be marked as a key frame.
_COUNTED_CODECS = {"vp8", "gif", "apng", "webp"}
_NUM_PROBED_FRAMES = 4
_MIN_PACKETS_TO_SEEK = 8  # decoding fewer packets than this is cheaper than a seek
_MAX_REORDERED = 16  # no codec holds back more pictures than this
_HOLE_STEPS = 5  # broadcasts have a constant rate: a step of more usual steps than this is a hole


class UnreachableFrameError(Exception):
    """The packets list a frame that the decoder does not deliver."""


@dataclass(frozen=True)
class KeyFrame:
    """A picture at which decoding may start. Times are in ticks of the stream's clock.

    Attributes:
        pts: its presentation time.
        dts: its decoding time; the presentation time if the file has no decoding time.
        place: the number of its packet in the file, from 0.
        has_leading: whether a packet after it is of a picture that is shown before it.
    """

    pts: int
    dts: int
    place: int
    has_leading: bool


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream, and the pictures that they should give. Times are in ticks of the stream's clock.

    Attributes:
        places: (presentation time, size in bytes) of each packet -> its number in the file, from 0.
        keys: the key frames that are shown, in file order, which is also their order in time.
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
        num_reordered: before how many packets at most a picture is shown whose packet stands after them.
        last_duration: how long the last picture is shown; 0 if the file does not say.
    """

    places: dict[tuple[int, int], int]
    keys: list[KeyFrame]
    shown_pts: NDArray[np.int64]
    num_reordered: int
    last_duration: int


@dataclass(frozen=True)
class PacketScan:
    """What the packets of a video say without being decoded.

    Attributes:
        table: where the pictures are; None if the packets do not identify them.
        num_packets: how many there are.
        has_times: whether every packet has a presentation time that the container states.
        has_corrupt: whether the container says that a packet is incomplete. So it does at each cut of a joined
            broadcast, where nothing is missing.
        is_damaged: whether packets are lost or the file is cut off.
    """

    table: PacketTable | None
    num_packets: int
    has_times: bool
    has_corrupt: bool
    is_damaged: bool


@dataclass
class _Packets:
    """The packets of a stream, as they are read."""

    pts: list[int | None]
    dts: list[int | None]
    sizes: list[int]
    durations: list[int]
    is_key: list[bool]
    is_hidden: list[bool]  # an edit list hides this picture, but others may be coded with reference to it
    has_corrupt: bool = False

    @classmethod
    def of(cls, file: VideoFile) -> _Packets:
        packets = cls([], [], [], [], [], [])
        for packet in file.packets():
            packets.pts.append(packet.pts)
            packets.dts.append(packet.dts)
            packets.sizes.append(packet.size)
            packets.durations.append(packet.duration or 0)
            packets.is_key.append(packet.is_keyframe)
            packets.is_hidden.append(packet.is_discard)
            packets.has_corrupt |= packet.is_corrupt
        return packets

    def reach(self) -> int:
        """Return the end of the last picture, in ticks from the first."""
        times = [(pts, pts + duration) for pts, duration in zip(self.pts, self.durations, strict=True) if pts is not None]
        return max(end for _, end in times) - min(start for start, _ in times) if times else 0


def open_and_scan(path: str, num_threads: int) -> tuple[VideoFile, PacketScan]:
    """Open a video, and list its packets without decoding them.

    Args:
        path: a local file.
        num_threads: threads of the decoder.

    Returns:
        The file, read to its end, and what its packets say. There is no table if a packet is damaged or has no
        presentation time, two pictures have the same time, the order of the times is not one in which a decoder shows
        pictures, or the codec is one of those that must be counted.

    Raises:
        VideoError: see `VideoFile`.
    """
    with demuxer_errors() as failed:
        file = VideoFile(path, num_threads)
        packets = _Packets.of(file)
    container = file.container.format.name
    has_times = None not in packets.pts and container != "avi"  # AVI has no times; FFmpeg makes some up
    is_damaged = container in failed or file.has_failed or _is_cut_off(packets, file)
    is_counted = None in packets.pts or packets.has_corrupt or is_damaged
    is_counted |= file.stream.codec_context.name in _COUNTED_CODECS
    table = None if is_counted else _table(packets, file)
    return file, PacketScan(table, len(packets.pts), has_times, packets.has_corrupt, is_damaged)


def _is_cut_off(packets: _Packets, file: VideoFile) -> bool:
    """Whether the file ends before the end that it states. Its sound may go on for longer than its pictures."""
    base = file.stream.time_base
    if base is None or not is_cut_off(float(packets.reach() * base), file.stated_s):
        return False
    return is_cut_off(file.reach_s(), file.stated_s)


def _table(packets: _Packets, file: VideoFile) -> PacketTable | None:
    """Make the table, or return None if the packets do not identify the pictures."""
    pts = [time for time in packets.pts if time is not None]
    shown = [place for place, is_hidden in enumerate(packets.is_hidden) if not is_hidden]
    if not shown:
        return None
    shown_pts = np.sort(np.array([pts[place] for place in shown], np.int64))
    steps = np.diff(shown_pts)
    has_hole = file.is_broadcast and len(steps) > 0 and steps.max() > _HOLE_STEPS * np.median(steps)
    if has_hole or np.any(steps == 0):
        return None
    later = _num_shown_later(pts)
    key_places = [place for place in shown if packets.is_key[place]]
    # What stands before a key frame is shown before it, whatever the codec; and without B-frames nothing is reordered.
    if any(later[place] for place in key_places):
        return None
    if max(later) > (_MAX_REORDERED if file.stream.codec_context.has_b_frames else 0):
        return None
    rank = np.searchsorted(np.sort(np.array(pts, np.int64)), pts).tolist()
    dts = [pts[place] if time is None else time for place, time in enumerate(packets.dts)]
    return PacketTable(
        places={(time, size): place for place, (time, size) in enumerate(zip(pts, packets.sizes, strict=True))},
        keys=[KeyFrame(pts[place], dts[place], place, rank[place] > place) for place in key_places],
        shown_pts=shown_pts,
        num_reordered=max(later),
        last_duration=packets.durations[max(shown, key=pts.__getitem__)],
    )


def _num_shown_later(pts: list[int]) -> list[int]:
    """For each packet, count the packets before it that are shown after it."""
    in_order: list[int] = []
    later = []
    for time in pts:
        later.append(len(in_order) - bisect_right(in_order, time))
        insort(in_order, time)
    return later


class SeekingDecoder:
    """Reaches a picture from the key frame before it. Pictures are identified by their presentation times.

    Args:
        file: the video.
        table: its packets, from `scan_packets`.

    Attributes:
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
    """

    def __init__(self, file: VideoFile, table: PacketTable) -> None:
        self._file = file
        self._table = table
        self._frames: Iterator[VideoFrame] = iter(())
        self._last: VideoFrame | None = None  # picture self._next - 1, if it was decoded
        self._next = 0  # number of the picture that the decoder gives next
        self._place = 0  # number of the packet that is decoded next
        self._keys_are_reliable = True
        self._choose_frames(table.shown_pts)

    def _choose_frames(self, shown_pts: NDArray[np.int64]) -> None:
        self.shown_pts = shown_pts
        self._keys = [key for key in self._table.keys if key.pts >= shown_pts[0]]
        self._key_indices = np.searchsorted(shown_pts, [key.pts for key in self._keys]).tolist()

    def first_frame(self) -> VideoFrame | None:
        """Return the first picture, if the first few pictures are those of the table; else None.

        A recording that begins between key frames lists pictures that cannot be decoded. The decoder gives pictures in
        the order in which they are shown, so it never gives those before its first one. They are left out.
        """
        self._restart()
        first = next(self._frames, None)
        if first is None or first.pts is None or first.pts > self.shown_pts[-1]:
            return None
        self._choose_frames(self.shown_pts[np.searchsorted(self.shown_pts, first.pts) :])
        self._frames = chain([first], self._frames)
        is_as_listed = self._gives_next(min(_NUM_PROBED_FRAMES, len(self.shown_pts)))
        return self._go_on_to(0) if is_as_listed else None

    def frame(self, index: int) -> VideoFrame:
        """Return a picture.

        Args:
            index: its number, from 0.

        Raises:
            UnreachableFrameError: the decoder does not give the listed pictures in the listed order.
        """
        if self._last is not None and self._next - 1 == index:
            return self._last
        key = bisect_right(self._key_indices, index) - 1 if self._keys_are_reliable else -1
        frame = self._go_on_to(index) if self._is_ahead(index, key) else None
        for start in (key, key - 1):
            if frame is None and start >= 0 and self._start_at_key(start):
                frame = self._go_on_to(index)
        if frame is None:
            self._restart()
            frame = self._go_on_to(index)
            if frame is not None and key >= 0:
                self._keys_are_reliable = False  # the file marks other pictures as key frames: do not start at them
        if frame is None:
            raise UnreachableFrameError
        return frame

    def _is_ahead(self, index: int, key: int) -> bool:
        """Whether decoding further from the current position costs no more than a seek to the key frame."""
        if self._last is None or self._next > index:
            return False
        return key < 0 or self._keys[key].place - self._place < _MIN_PACKETS_TO_SEEK

    def _go_on_to(self, index: int) -> VideoFrame | None:
        """Decode up to a picture; return None if a picture on the way is not the listed one."""
        while self._next <= index:
            self._last = next(self._frames, None)
            if self._last is None or self._last.pts != self.shown_pts[self._next]:
                self._last = None
                return None
            self._next += 1
        return self._last

    def _gives_next(self, count: int) -> bool:
        """Whether the next pictures of the decoder are the listed ones. They stay the next pictures."""
        frames = list(islice(self._frames, count))
        self._frames = chain(frames, self._frames)
        listed = self.shown_pts[self._next : self._next + count].tolist()
        return [frame.pts for frame in frames] == listed

    def _restart(self) -> None:
        self._file.reopen()
        self._read_from(0, self._file.packets())
        self._next = 0

    def _start_at_key(self, number: int) -> bool:
        """Make this key frame the next picture; return False if the decoder does not give it.

        Some containers seek by presentation time, others by decoding time, and some land too late. If a seek lands too
        early, only more packets are read.
        """
        key, before = self._keys[number], self._keys[max(number - 1, 0)]
        for target in (key.pts, key.dts, before.dts):
            try:
                self._file.container.seek(target, stream=self._file.stream)
            except FFmpegError:
                continue
            packets = self._file.packets()
            for packet in packets:
                place = self._place_of(packet)
                if place == key.place:
                    self._read_from(place, chain([packet], packets))
                    return self._gives_key(number)
                if place is not None and place > key.place:
                    break
        return False

    def _gives_key(self, number: int) -> bool:
        """Whether the decoder gives this key frame, coded without reference to others, and makes it the next picture.

        If packets after it are listed as shown before it, they are of pictures that refer to earlier ones. The decoder
        does not give them, or gives them first. But a time may be wrong: then the picture is among the next ones.
        """
        key = self._keys[number]
        self._next = self._key_indices[number]
        frame = next((frame for frame in self._frames if frame.pts is None or frame.pts >= key.pts), None)
        if frame is None or frame.pts != key.pts:
            return False
        self._frames = chain([frame], self._frames)
        coded_alone = frame.key_frame or frame.pict_type == av.video.frame.PictureType.I
        return coded_alone and (not key.has_leading or self._gives_next(2 * self._table.num_reordered))

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


@dataclass(frozen=True)
class Survey:
    """What decoding a whole video showed.

    Attributes:
        first: the first picture; None if no picture can be decoded.
        pts: presentation time of every picture in ticks of the stream's clock; None where the file has none.
        is_intact: whether each picture was decoded without an error, (num_frames,).
        last_duration: how long the last picture is shown, in ticks; 0 if the file does not say.
        num_broken: how many packets gave an error, those before the first key frame aside.
    """

    first: VideoFrame | None
    pts: list[int | None]
    is_intact: NDArray[np.bool_]
    last_duration: int
    num_broken: int


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

    def survey(self) -> Survey:
        """Decode the whole file."""
        self._restart()
        first: VideoFrame | None = None
        pts: list[int | None] = []
        is_intact, last_duration = [], 0
        for frame in self._frames:
            first = frame if first is None else first
            pts.append(frame.pts)
            is_intact.append(not frame.is_corrupt)
            last_duration = frame.duration
        num_broken = self._file.num_broken
        self._restart()
        return Survey(first, pts, np.array(is_intact, np.bool_), last_duration, num_broken)

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
