"""What the packets of a video say without being decoded: where its pictures are, and whether something is missing."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.clock import HELD_S
from vmr.data.decoding.ffmpeg.damage import demuxer_errors, is_cut_off
from vmr.data.decoding.ffmpeg.video_file import VideoFile

# In these codecs the packets do not identify the pictures. Some packets of VP8 show no picture. In animations each
# picture is painted over the one before, although every packet may be marked as a key frame.
_COUNTED_CODECS = {"vp8", "gif", "apng", "webp"}
_MAX_REORDERED = 16  # no codec holds back more pictures than this
_HOLE_STEPS = 1.6  # a longer step in a broadcast lacks pictures; films made to 30 Hz have steps of 1 and 1.5


@dataclass(frozen=True)
class KeyFrame:
    """A picture at which decoding may start. Times are in ticks of the stream's clock.

    Attributes:
        pts: its presentation time.
        dts: its decoding time; the presentation time if the file has no decoding time.
        place: the number of its packet in the file, from 0.
    """

    pts: int
    dts: int
    place: int


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream, and the pictures that they should give. Times are in ticks of the stream's clock.

    Attributes:
        places: (presentation time, size in bytes) of each packet -> its number in the file, from 0.
        keys: the key frames that are shown, in file order, which is also their order in time.
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
        shown_places: the number of the packet of each of them, (num_frames,).
        num_reordered: before how many packets at most a picture is shown whose packet stands after them.
        last_duration: how long the last picture is shown; 0 if the file does not say.
    """

    places: dict[tuple[int, int], int]
    keys: list[KeyFrame]
    shown_pts: NDArray[np.int64]
    shown_places: NDArray[np.int64]
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
        times = [
            (pts, pts + duration) for pts, duration in zip(self.pts, self.durations, strict=True) if pts is not None
        ]
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
    has_hole = file.is_broadcast and _has_hole(packets, file)
    is_damaged |= has_hole and packets.has_corrupt
    is_counted = None in packets.pts or packets.has_corrupt or has_hole or is_damaged
    is_counted |= file.stream.codec_context.name in _COUNTED_CODECS
    table = None if is_counted else _table(packets, file)
    return file, PacketScan(table, len(packets.pts), has_times, packets.has_corrupt, is_damaged)


def _is_cut_off(packets: _Packets, file: VideoFile) -> bool:
    """Whether the file ends before the end that it states. Its sound may go on for longer than its pictures."""
    base = file.stream.time_base
    if base is None or not is_cut_off(float(packets.reach() * base), file.stated_s):
        return False
    return is_cut_off(file.reach_s(), file.stated_s)


def _has_hole(packets: _Packets, file: VideoFile) -> bool:
    """Whether a broadcast lacks pictures after its first key frame. After HELD_S, its clock may have jumped instead."""
    base = file.stream.time_base
    first_key = packets.is_key.index(True) if True in packets.is_key else 0
    times = [time for time in packets.pts[first_key:] if time is not None]
    steps = np.diff(np.unique([time for time in times if time >= times[0]]))
    if base is None or len(steps) == 0:
        return False
    return bool(np.any((steps > _HOLE_STEPS * np.median(steps)) & (steps * float(base) <= HELD_S)))


def _table(packets: _Packets, file: VideoFile) -> PacketTable | None:
    """Make the table, or return None if the packets do not identify the pictures."""
    pts = [time for time in packets.pts if time is not None]
    shown = [place for place, is_hidden in enumerate(packets.is_hidden) if not is_hidden]
    if not shown:
        return None
    unsorted = np.array([pts[place] for place in shown], np.int64)
    order = np.argsort(unsorted)
    shown_pts = unsorted[order]
    if np.any(np.diff(shown_pts) == 0):
        return None
    later = _num_shown_later(pts)
    key_places = [place for place in shown if packets.is_key[place]]
    # What stands before a key frame is shown before it, whatever the codec; and without B-frames nothing is reordered.
    if any(later[place] for place in key_places):
        return None
    if max(later) > (_MAX_REORDERED if file.stream.codec_context.has_b_frames else 0):
        return None
    dts = [pts[place] if time is None else time for place, time in enumerate(packets.dts)]
    return PacketTable(
        places={(time, size): place for place, (time, size) in enumerate(zip(pts, packets.sizes, strict=True))},
        keys=[KeyFrame(pts[place], dts[place], place) for place in key_places],
        shown_pts=shown_pts,
        shown_places=np.array(shown, np.int64)[order],
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
