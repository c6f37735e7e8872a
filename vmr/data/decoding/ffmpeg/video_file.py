"""An open video file, its stream and its packets (FFmpeg through PyAV), and the reasons why one cannot be opened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError

from vmr.data.decoding.ffmpeg.clock import Clock
from vmr.data.media import special_kind
from vmr.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Playlists and scripts name other files, "tty" draws any text file, "..._pipe" and "image2" are still pictures.
_NOT_VIDEOS = {"concat", "dash", "hls", "imf", "tty", "image2", "ico"}
# These containers state how long the video is. In the others FFmpeg estimates it.
_STATE_DURATION = {"avi", "asf", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
_LEAST_BYTES_PER_S = 1000  # of a video in which something moves
# A title that is not UTF-8 must not make a video unreadable. PyAV 19 never fails on it and no longer takes the option.
_METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_PICTURE_CODECS = {"bmp", "jpeg2000", "jpegls", "mjpeg", "png", "tiff", "webp"}


class NotAVideoError(VideoError):
    """FFmpeg does not take the file for a video, or finds no video in it."""


class VideoFile:
    """One open file and its video stream.

    Args:
        path: a local file.
        num_threads: threads of the decoder; 0 lets FFmpeg choose.

    Attributes:
        path: the file.
        num_threads: threads of the decoder, from the next `reopen` on.
        container: the file as PyAV sees it.
        stream: its video stream; FFmpeg chooses it if there are several. Cover art does not count.
        has_failed: whether reading has ended with an error since the file was opened.
        num_broken: how many packets could not be decoded since then, those before the first key frame aside.

    Raises:
        VideoError: the file is missing, unreadable, no video, or holds no video that FFmpeg can decode.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self.path = path
        self.num_threads = num_threads
        self.has_failed = False
        self.num_broken = 0
        self.container: InputContainer
        self.stream: VideoStream
        self.reopen()

    def reopen(self) -> None:
        """Go back to the first byte. Unlike a seek, this cannot fail on a file that was opened before.

        Raises:
            VideoError: as for the class.
        """
        self.close()
        self.has_failed, self.num_broken = False, 0
        self.container = _open_container(self.path)
        try:
            self.stream = _video_stream(self.container, self.path)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = self.num_threads
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
        """Close the file. Does nothing if it is closed."""
        if hasattr(self, "stream"):
            # Threads of the decoder that report damage wait for Python. PyAV frees the decoder while Python waits for
            # them, so both would wait for ever. Flushing it lets them end what they do, while Python goes on.
            self.stream.codec_context.flush_buffers()
        if hasattr(self, "container"):
            self.container.close()

    @property
    def is_broadcast(self) -> bool:
        """Whether the container is one in which the clock may start again at any place (MPEG-TS, MPEG-PS)."""
        return av.format.Flags.ts_discont in av.format.Flags(self.container.format.flags)

    @property
    def clock(self) -> Clock:
        """What the file says about its times."""
        rate = self.stream.average_rate
        return Clock(self.stream.time_base, float(rate) if rate else None, self.is_broadcast)

    @property
    def stated_s(self) -> float | None:
        """The duration that the container states, in seconds; None if it states none."""
        if self.container.format.name not in _STATE_DURATION:
            return None
        stream, stated = self.stream, 0.0
        if stream.frames and stream.average_rate and self.container.format.name == "avi":
            stated = float(stream.frames / stream.average_rate)  # AVI's duration is estimated if its index is missing
        elif stream.duration and stream.time_base:
            stated = float(stream.duration * stream.time_base)
        elif self.container.duration:
            stated = self.container.duration / av.time_base
        return stated or None

    @property
    def probable_s(self) -> float | None:
        """The duration that the container states, or that FFmpeg takes from its times without reading all of it.

        None if neither tells it: the file has no times, or says that more than a second passes in a kilobyte, as where
        the clock of a broadcast jumps.
        """
        if self.stated_s is not None:
            return self.stated_s
        has_times = av.format.Flags.no_timestamps not in av.format.Flags(self.container.format.flags)
        measured_s = (self.container.duration or 0) / av.time_base if has_times else 0.0
        return measured_s if 0 < measured_s * _LEAST_BYTES_PER_S <= self.container.size else None

    def reach_s(self) -> float:
        """Read all packets, also those of sound; return the end of the last one, in seconds from the first."""
        self.reopen()
        start_s, end_s = math.inf, 0.0
        try:
            for packet in self.container.demux():
                if packet.pts is not None:
                    start_s = min(start_s, float(packet.pts * packet.time_base))
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except FFmpegError:
            self.has_failed = True
        return max(0.0, end_s - start_s)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from the current position, in file order, up to the first that cannot be read."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self.has_failed = True
                return
            if packet.size:  # an empty packet would tell the decoder that the file ends here
                yield packet

    def skip_unreferenced(self, skips: bool) -> None:
        """Say whether pictures that no other is coded with reference to are passed over, from the next packet on."""
        self.stream.codec_context.skip_frame = "NONREF" if skips else "DEFAULT"

    def decode(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Decode packets.

        Args:
            packets: packets of this file's stream, in file order.

        Yields:
            Their pictures in the order in which they are shown, including those that the decoder returns only at the
            end. A broken packet gives no picture.
        """
        has_begun = False
        for packet in packets:
            has_begun |= packet.is_keyframe
            yield from self._decode(packet, has_begun)
        yield from self._decode(None, has_begun)

    def _decode(self, packet: Packet[VideoStream] | None, has_begun: bool) -> list[VideoFrame]:
        try:
            return self.stream.codec_context.decode(packet)
        except FFmpegError:
            self.num_broken += has_begun
            return []


def _open_container(path: str) -> InputContainer:
    file = Path(path)
    try:
        if special := special_kind(path):  # opening a fifo or a device could wait forever
            raise VideoError(path, f"is a {special}, not a video file")
        if file.is_file() and file.stat().st_size == 0:
            raise VideoError(path, "is empty (0 bytes)")
        # "file:" and the whitelist keep FFmpeg from opening network addresses, whatever a name or a playlist says.
        container: InputContainer = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, **_METADATA_OPTIONS)
    except FFmpegError as error:
        raise _not_opened(path, error) from None
    except (OSError, ValueError) as error:
        raise VideoError(path, getattr(error, "strerror", None) or str(error)) from None
    name = container.format.name
    if name in _NOT_VIDEOS or name.endswith("_pipe"):
        container.close()
        raise NotAVideoError(path, f"is not a video file (FFmpeg takes it for {name!r})")
    return container


def _not_opened(path: str, error: FFmpegError) -> VideoError:
    """Why FFmpeg could not open a file."""
    if isinstance(error, FileNotFoundError):
        return VideoError(path, "no such file")
    if isinstance(error, PermissionError):
        return VideoError(path, "no permission to read it")
    if Path(path).is_file() and _lacks_moov(Path(path)):
        return VideoError(path, "mp4 without its index (moov): the recording or download did not finish")
    if isinstance(error, OSError):
        return VideoError(path, f"cannot be read ({error.strerror})")
    return NotAVideoError(path, "not a video that FFmpeg can read")


def _lacks_moov(path: Path) -> bool:
    """Whether this is an mp4 file whose top-level boxes end before a moov box."""
    size_of_file = path.stat().st_size
    with path.open("rb") as file:
        names = []
        position = 0
        while position + 8 <= size_of_file:
            file.seek(position)
            header = file.read(16)
            names.append(header[4:8])
            size = int.from_bytes(header[:4], "big")
            if size == 1:  # the size is in the next 64 bits
                size = int.from_bytes(header[8:16], "big")
            if size < 8:  # 0: the box reaches to the end of the file
                break
            position += size
    return names[:1] == [b"ftyp"] and b"moov" not in names


def _video_stream(container: InputContainer, path: str) -> VideoStream:
    # Cover art counts as a video stream in FFmpeg.
    attached = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & attached]
    if not streams:
        raise NotAVideoError(path, "holds no video" + (", only sound" if container.streams.audio else ""))
    best = container.streams.best("video")
    streams.sort(key=lambda stream: best is None or stream.index != best.index)
    stream = next((s for s in streams if len(streams) > 1 and not _is_one_picture(path, s)), streams[0])
    if getattr(stream, "codec_context", None) is None:
        raise VideoError(path, "its video is in a format that this FFmpeg cannot decode")
    return stream


def _is_one_picture(path: str, stream: VideoStream) -> bool:
    """Whether this track is a cover that is not marked as one: a single picture, in a format of still pictures."""
    if stream.codec_context.name not in _PICTURE_CODECS:
        return False
    with _open_container(path) as container:
        track = container.streams.video[[s.index for s in container.streams.video].index(stream.index)]
        pictures = (packet for packet in container.demux(track) if packet.size)
        return len(list(islice(pictures, 2))) < 2
