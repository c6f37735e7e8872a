"""Where the frames of a video file are, and how to reach any one of them exactly (FFmpeg through PyAV).

Frame i is, by definition, the i-th picture that a plain decode from the first byte shows. Both decoders here give that
picture. They differ in speed:

- `SeekingDecoder` uses a list of all packets, which `open_and_scan` makes without decoding. To reach a picture, it
  starts at the key frame before it. It checks what it can: the packet that it starts with must be the listed one, the
  packets after it must follow in the listed order, the first picture must be the key frame and coded without reference
  to others, and from there on each picture must have the presentation time that is listed for its number. If it knows
  which pictures are wanted, it leaves out others, see `skipping`; whenever something is not as expected, it goes back
  and decodes all.
- `CountingDecoder` decodes from the start and counts. It serves files whose packets do not identify their pictures:
  files without presentation times (H.264 or MPEG-4 in AVI), files with each field in its own packet, files in which
  some presentation times are wrong, and damaged files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.packets import PacketTable
from vmr.data.decoding.ffmpeg.skipping import MIN_PACKETS_TO_SEEK, Selection, can_skip
from vmr.data.decoding.ffmpeg.video_file import VideoFile

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NUM_PROBED_FRAMES = 4


class UnreachableFrameError(Exception):
    """The packets list a frame that the decoder does not deliver."""


def key_numbers(marked: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
    """Return the numbers of the pictures that a file marks as key frames; the first picture if it marks none."""
    return np.array(marked if len(marked) else [0], np.int64)


class SeekingDecoder:
    """Reaches a picture from the key frame before it. Pictures are identified by their presentation times.

    Args:
        file: the video.
        table: its packets, from `open_and_scan`.

    Attributes:
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
        key_indices: numbers of the key frames, increasing.
    """

    def __init__(self, file: VideoFile, table: PacketTable) -> None:
        self._file = file
        self._table = table
        self._frames: Iterator[VideoFrame] = iter(())
        self._ahead: deque[VideoFrame] = deque()  # pictures that were decoded and come next
        self._last: VideoFrame | None = None  # picture self._next - 1, if it was decoded
        self._next = 0  # number of the picture that the decoder gives next
        self._place = 0  # number of the packet that is decoded next
        self._num_broken = 0  # of the file, when decoding began
        self._keys_are_reliable = True
        self._selection: Selection | None = None  # the wanted pictures, if others may be left out
        self._leave_out_first(0)

    def _leave_out_first(self, count: int) -> None:
        self.shown_pts, self._shown_places = self._table.shown_pts[count:], self._table.shown_places[count:]
        self._keys = [key for key in self._table.keys if key.pts >= self.shown_pts[0]]
        self.key_indices: list[int] = np.searchsorted(self.shown_pts, [key.pts for key in self._keys]).tolist()
        self._can_skip = can_skip(self._file, self.shown_pts, self._table.num_reordered)

    def first_frame(self) -> VideoFrame | None:
        """Return the first picture, if the first few pictures are those of the table; else None.

        A recording that begins between key frames lists pictures that cannot be decoded. The decoder gives pictures in
        the order in which they are shown, so it never gives those before its first one. They are left out.
        """
        self._restart()
        first = self._decode_next()
        if first is None or first.pts is None or first.pts > self.shown_pts[-1]:
            return None
        self._leave_out_first(int(np.searchsorted(self.shown_pts, first.pts)))
        self._ahead.appendleft(first)
        num_probed = max(_NUM_PROBED_FRAMES, 4 * self._table.num_reordered if self._can_skip else 0)
        is_as_listed = self._gives_next(min(num_probed, len(self.shown_pts)))
        return self._go_on_to(0) if is_as_listed else None

    def want(self, indices: list[int]) -> None:
        """Say which pictures will be asked for next, so that others may be left out.

        Args:
            indices: their numbers, increasing. Others may still be asked for, but are reached more slowly.
        """
        if self._can_skip and indices:
            numbers = np.array(indices, np.int64)
            reordered = self._table.num_reordered
            self._selection = Selection(numbers, self._shown_places, self._keys, self.key_indices, reordered)

    def frame(self, index: int) -> VideoFrame:
        """Return a picture.

        Args:
            index: its number, from 0.

        Raises:
            UnreachableFrameError: the decoder does not give the listed pictures in the listed order.
        """
        if self._last is not None and self._next - 1 == index:
            return self._last
        key = bisect_right(self.key_indices, index) - 1 if self._keys_are_reliable else -1
        frame = self._go_on_to(index) if self._is_ahead(index, key) else None
        if frame is None and self._selection is not None:
            if key < 0:
                self._restart()
            frame = self._go_on_to(index) if key < 0 or self._start_at_key(key) else None
            if frame is None:
                self._can_skip, self._selection = False, None
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
        return key < 0 or self._keys[key].place - self._place < MIN_PACKETS_TO_SEEK

    def _go_on_to(self, index: int) -> VideoFrame | None:
        """Decode up to a picture; return None if a picture on the way is not the listed one."""
        while self._next <= index:
            frame = self._decode_next()
            number = self._number_of(frame)
            if number is None:
                self._last = None
                return None
            self._last, self._next = frame, number + 1
        return self._last if self._next - 1 == index else None

    def _number_of(self, frame: VideoFrame | None) -> int | None:
        """Return the number of the picture that the decoder gave; None if it is not one that may come next."""
        if frame is None or frame.pts is None:
            return None
        if frame.pts == self.shown_pts[self._next]:
            number = self._next
        elif self._selection is None:
            return None
        else:
            number = int(np.searchsorted(self.shown_pts, frame.pts))
            if number == len(self.shown_pts) or self.shown_pts[number] != frame.pts:
                return None
            if number < self._next or not self._selection.may_pass(self._next, number):
                return None
        # A damaged picture is repaired with the help of others, perhaps of those that were left out.
        is_doubtful = self._selection is not None and (frame.is_corrupt or self._file.num_broken > self._num_broken)
        return None if is_doubtful else number

    def _gives_next(self, count: int) -> bool:
        """Whether the next pictures of the decoder are the listed ones. They stay the next pictures."""
        self._ahead.extend(islice(self._frames, max(0, count - len(self._ahead))))
        listed: list[int] = self.shown_pts[self._next : self._next + count].tolist()
        return [frame.pts for frame in islice(self._ahead, count)] == listed

    def _decode_next(self) -> VideoFrame | None:
        return self._ahead.popleft() if self._ahead else next(self._frames, None)

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

        Pictures that refer to earlier ones may stand after the key frame and be shown before it. The decoder does not
        give them, or gives them first. If a time is wrong, the table may take such a picture for one after the key
        frame, or the other way round. Then the next pictures are not those of the table.
        """
        key = self._keys[number]
        self._next = self.key_indices[number]
        frame = self._decode_next()
        while frame is not None and frame.pts is not None and frame.pts < key.pts:
            frame = self._decode_next()
        if frame is None or frame.pts != key.pts:
            return False
        self._ahead.appendleft(frame)
        coded_alone = bool(frame.key_frame or frame.pict_type == av.video.frame.PictureType.I)
        return coded_alone and (self._selection is not None or self._gives_next(2 * self._table.num_reordered))

    def _place_of(self, packet: Packet[VideoStream]) -> int | None:
        return None if packet.pts is None else self._table.places.get((packet.pts, packet.size))

    def _read_from(self, place: int, packets: Iterator[Packet[VideoStream]]) -> None:
        self._place = place
        self._num_broken = self._file.num_broken
        self._last = None
        self._ahead.clear()
        self._frames = self._file.decode(self._in_listed_order(packets))

    def _in_listed_order(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        for packet in packets:
            place = self._place
            if self._place_of(packet) != place:
                return
            self._place += 1
            wanted = self._selection
            self._file.skip_unreferenced(wanted is not None and wanted.may_skip(place))
            yield packet
            if wanted is not None and wanted.ends_at(place):
                return


@dataclass(frozen=True)
class Survey:
    """What decoding a whole video showed.

    Attributes:
        first: the first picture; None if no picture can be decoded.
        pts: presentation time of every picture in ticks of the stream's clock; None where the file has none.
        is_intact: whether each picture was decoded without an error, (num_frames,).
        is_key: whether each is a key frame, (num_frames,).
        last_duration: how long the last picture is shown, in ticks; 0 if the file does not say.
        num_broken: how many packets gave an error, those before the first key frame aside.
    """

    first: VideoFrame | None
    pts: list[int | None]
    is_intact: NDArray[np.bool_]
    is_key: NDArray[np.bool_]
    last_duration: int
    num_broken: int


class CountingDecoder:
    """Reaches picture i by decoding from the start: always exact, but slow when it has to go back.

    Args:
        file: the video.
    """

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        self._file.num_threads = 1  # in several, a broken packet may take pictures of others with it
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
        is_intact, is_key, last_duration = [], [], 0
        for frame in self._frames:
            first = frame if first is None else first
            pts.append(frame.pts)
            is_intact.append(not frame.is_corrupt)
            is_key.append(bool(frame.key_frame))
            last_duration = frame.duration
        num_broken = self._file.num_broken
        self._restart()
        return Survey(first, pts, np.array(is_intact, np.bool_), np.array(is_key, np.bool_), last_duration, num_broken)

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
            frame = next(self._frames, None)
            if frame is None:
                raise UnreachableFrameError
            self._last, self._next = frame, self._next + 1
        if self._last is None:
            raise UnreachableFrameError
        return self._last
