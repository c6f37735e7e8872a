"""Where the frames of a video file lie, and how to reach any one of them exactly (FFmpeg through PyAV).

Frame i is, by definition, the i-th picture that a plain decode from the first byte shows. Both decoders here give that
picture; they differ in how fast they get there:

- `SeekingDecoder` reads the packets once without decoding (`scan_packets`), sorts their presentation times, and from
  then on starts at the key frame before the wanted picture. It trusts nothing it can check: the packet it starts with
  must be the one it listed, the packets after it must follow in the listed order, the first picture must be the key
  frame and coded by itself, and the wanted picture is known by its presentation time.
- `CountingDecoder` decodes from the start and counts. It serves files whose packets cannot name their pictures: no
  presentation times (H.264 or MPEG-4 in AVI), fields in packets of their own, damage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vmr.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Playlists and scripts name other files, "tty" draws any text file, "..._pipe" and "image2" are still pictures.
_NOT_VIDEOS = {"concat", "dash", "hls", "imf", "tty", "image2"}
# A packet of these need not be one picture: VP8 has invisible ones, animations paint each picture over the one before
# although every packet may call itself a key frame.
_COUNTED_CODECS = {"vp8", "gif", "apng", "webp"}
_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC
_PROBED_FRAMES = 4
# A title that is not UTF-8 must not make a video unreadable. PyAV 19 never fails on it and no longer takes the option.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_SEEK_PAYS_PACKETS = 8  # decoding fewer packets than this is cheaper than a seek


class TimeBase(Protocol):
    """Seconds per tick of a stream's clock, as a fraction; PyAV changed its own type for it in version 19."""

    @property
    def numerator(self) -> int:
        """Above the line."""

    @property
    def denominator(self) -> int:
        """Below it."""


class UnreachableFrameError(Exception):
    """The packets promise a frame that the decoder does not deliver."""


class VideoFile:
    """One open file and its video stream. Raises VideoError if there is none."""

    def __init__(self, path: str, num_threads: int) -> None:
        self.path = path
        self._num_threads = num_threads
        self.container: InputContainer
        self.stream: VideoStream
        self.reopen()

    def reopen(self) -> None:
        """Go back to the first byte. Unlike a seek this cannot fail on a file that was opened before."""
        self.close()
        self.container = _open_container(self.path)
        try:
            self.stream = _video_stream(self.container, self.path)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = self._num_threads
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        if hasattr(self, "container"):
            self.container.close()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The packets from here on. Where the file becomes unreadable, it ends."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return
            if packet.size:  # an empty one would tell the decoder that the file ends here
                yield packet

    def decode(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """The pictures of these packets, and those the decoder still holds at their end. A broken packet gives none."""
        for packet in packets:
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return self.stream.codec_context.decode(packet)
        except FFmpegError:
            return []


def _open_container(path: str) -> InputContainer:
    place = Path(path)
    try:
        if place.is_dir():
            raise VideoError(path, "is a folder, not a video file")
        if place.is_file() and place.stat().st_size == 0:
            raise VideoError(path, "is empty (0 bytes)")
        # "file:" and the whitelist keep a name like "http://..." or a playlist from reaching out of this machine.
        container: InputContainer = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, **_LENIENT)
    except FFmpegError as error:
        raise VideoError(path, _why_unopened(place, error)) from None
    except (OSError, ValueError) as error:
        raise VideoError(path, getattr(error, "strerror", None) or str(error)) from None
    name = container.format.name
    if name in _NOT_VIDEOS or name.endswith("_pipe"):
        container.close()
        raise VideoError(path, f"is not a video file (FFmpeg takes it for {name!r})")
    return container


def _why_unopened(place: Path, error: FFmpegError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if place.is_file() and _lacks_moov(place):
        return "mp4 without its index (moov): the recording or download did not finish"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return "not a video that FFmpeg can read"


def _lacks_moov(place: Path) -> bool:
    """Whether this is an mp4 whose top-level boxes end before a moov box."""
    size_of_file = place.stat().st_size
    with place.open("rb") as file:
        names = []
        position = 0
        while position + 8 <= size_of_file:
            file.seek(position)
            header = file.read(16)
            names.append(header[4:8])
            size = int.from_bytes(header[:4], "big")
            if size == 1:  # the real size follows in 64 bits
                size = int.from_bytes(header[8:16], "big")
            if size < 8:  # 0: up to the end of the file
                break
            position += size
    return names[:1] == [b"ftyp"] and b"moov" not in names


def _video_stream(container: InputContainer, path: str) -> VideoStream:
    # cover art calls itself a video stream; PyAV tells since 14.1
    streams = [s for s in container.streams.video if not int(getattr(s, "disposition", 0)) & _ATTACHED_PICTURE]
    if not streams:
        raise VideoError(path, "holds no video" + (", only sound" if container.streams.audio else ""))
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    if getattr(stream, "codec_context", None) is None:
        raise VideoError(path, "its video is in a format that this FFmpeg cannot decode")
    return stream


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream in file order, and the pictures they promise.

    places: (presentation time, size in bytes) of a packet -> its place in the file, from 0.
    key_pts, key_dts, key_places: the key frames that are shown, in file order, which is also their order in time.
    shown_pts: presentation times of the pictures, increasing, (num_frames,). Times are in units of the stream's time
    base. last_duration: of the last picture, 0 if the file does not say.
    """

    places: dict[tuple[int, int], int]
    key_pts: list[int]
    key_dts: list[int]
    key_places: list[int]
    shown_pts: NDArray[np.int64]
    last_duration: int


def scan_packets(file: VideoFile) -> PacketTable | None:
    """Read every packet of a freshly opened file. None if they do not tell one picture from another."""
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
        if packet.is_discard:  # an edit list hides it, though others may be coded from it
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
    """Reaches a picture from the key frame before it. Pictures are named by presentation time."""

    def __init__(self, file: VideoFile, table: PacketTable) -> None:
        self._file = file
        self._table = table
        self._frames: Iterator[VideoFrame] = iter(())
        self._last: VideoFrame | None = None  # the latest picture the decoder gave
        self._place = 0  # where the decoder will read next
        self._trust_keys = True
        self._restart()

    def first_frames(self) -> list[VideoFrame]:
        """The first few pictures of the file, to be compared with what the packets promise."""
        self._restart()
        frames = list(islice(self._frames, _PROBED_FRAMES))
        self._last = frames[-1] if frames else None
        return frames

    def frame(self, pts: int) -> VideoFrame:
        """The picture shown at `pts`. Raises UnreachableFrameError if the decoder has none for this time."""
        if self._last is not None and self._last.pts == pts:
            return self._last
        key = bisect_right(self._table.key_pts, pts) - 1 if self._trust_keys else -1
        frame = self._decode_to(pts) if self._is_ahead(pts, key) else None
        for start in (key, key - 1):
            if frame is None and start >= 0 and self._start_at_key(start):
                frame = self._decode_to(pts, proof=self._table.key_pts[start])
        if frame is None:
            self._restart()
            frame = self._decode_to(pts)
            if frame is not None and key >= 0:
                self._trust_keys = False  # the file calls pictures key frames that are none: never start there again
        if frame is None:
            raise UnreachableFrameError
        return frame

    def _is_ahead(self, pts: int, key: int) -> bool:
        """Whether going on from here costs no more than starting at the key frame."""
        if self._last is None or self._last.pts is None or self._last.pts > pts:
            return False
        return key < 0 or self._table.key_places[key] - self._place < _SEEK_PAYS_PACKETS

    def _decode_to(self, pts: int, proof: int | None = None) -> VideoFrame | None:
        """Go on decoding until the picture at `pts`; None if the decoder passes it by.

        proof: presentation time of the key frame the decoding began with. Nothing counts before that picture itself has
        come, coded without reference to others.
        """
        for frame in self._frames:
            self._last = frame
            if frame.pts is None:
                return None
            if proof is not None and frame.pts >= proof:
                if frame.pts > proof or not (frame.key_frame or frame.pict_type == av.video.frame.PictureType.I):
                    return None
                proof = None
            if frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None

    def _restart(self) -> None:
        self._file.reopen()
        self._read_from(0, self._file.packets())

    def _start_at_key(self, key: int) -> bool:
        """Make this key frame's packet the next to be decoded; False if no seek lands at or before it.

        Containers differ in which clock they seek by, and some land late; landing early costs only reading.
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
    """Reaches picture i by decoding from the start: always right, slow when going back."""

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
        """The presentation time of every picture, where the file has them, and the first picture."""
        self._restart()
        first = next(self._frames, None)
        times = [] if first is None else [first.pts, *(frame.pts for frame in self._frames)]
        self._restart()
        return times, first

    def frame(self, index: int) -> VideoFrame:
        """Picture `index`, from 0. Raises UnreachableFrameError past the last."""
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
    """Seconds since the first picture, (num_frames,); counted in steps of frame_s where the times make no sense."""
    if time_base is None or any(time is None for time in pts):
        return np.arange(len(pts), dtype=np.float64) * frame_s
    ticks = np.asarray(pts, np.int64)
    if np.any(np.diff(ticks) <= 0):
        return np.arange(len(pts), dtype=np.float64) * frame_s
    # multiply first, divide once: a frame at 4 s must not come out a hair before the window that begins at 4 s
    seconds: NDArray[np.float64] = (ticks - ticks[0]) * time_base.numerator / time_base.denominator
    return seconds
