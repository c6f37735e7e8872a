"""An open video file, its stream and its packets (FFmpeg through PyAV), and the reasons why one cannot be opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError

from vmr.data.media import special_kind
from vmr.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Playlists and scripts name other files, "tty" draws any text file, "..._pipe" and "image2" are still pictures.
_NOT_VIDEOS = {"concat", "dash", "hls", "imf", "tty", "image2", "ico"}
_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC
# A title that is not UTF-8 must not make a video unreadable. PyAV 19 never fails on it and no longer takes the option.
_METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class NotAVideoError(VideoError):
    """FFmpeg does not take the file for a video, or finds no video in it."""


class VideoFile:
    """One open file and its video stream.

    Args:
        path: a local file.
        num_threads: threads of the decoder; 0 lets FFmpeg choose.

    Attributes:
        path: the file.
        container: the file as PyAV sees it.
        stream: its video stream; FFmpeg chooses it if there are several. Cover art does not count.

    Raises:
        VideoError: the file is missing, unreadable, no video, or holds no video that FFmpeg can decode.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self.path = path
        self._num_threads = num_threads
        self.container: InputContainer
        self.stream: VideoStream
        self.reopen()

    def reopen(self) -> None:
        """Go back to the first byte. Unlike a seek, this cannot fail on a file that was opened before.

        Raises:
            VideoError: as for the class.
        """
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
        """Close the file. Does nothing if it is closed."""
        if hasattr(self, "container"):
            self.container.close()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from the current position, in file order, up to the first that cannot be read."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return
            if packet.size:  # an empty packet would tell the decoder that the file ends here
                yield packet

    def decode(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Decode packets.

        Args:
            packets: packets of this file's stream, in file order.

        Yields:
            Their pictures in the order in which they are shown, including those that the decoder returns only at the
            end. A broken packet gives no picture.
        """
        for packet in packets:
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return self.stream.codec_context.decode(packet)
        except FFmpegError:
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
    # Cover art counts as a video stream in FFmpeg. PyAV has the flag that tells them apart since 14.1.
    streams = [s for s in container.streams.video if not int(getattr(s, "disposition", 0)) & _ATTACHED_PICTURE]
    if not streams:
        raise NotAVideoError(path, "holds no video" + (", only sound" if container.streams.audio else ""))
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    if getattr(stream, "codec_context", None) is None:
        raise VideoError(path, "its video is in a format that this FFmpeg cannot decode")
    return stream
