"""The sound of a part of a video, copied into an mp4 file or encoded again."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

if TYPE_CHECKING:
    from av.packet import Packet

COPIED = {"aac", "mp3", "opus", "flac"}
"""Codecs that browsers play from an mp4 file."""

_RATE = 48_000  # samples per second
_BITS_PER_S = 128_000


class Sound:
    """The first sound of a file, on its way into a container.

    Args:
        stream: the sound.
        target: the container.
        origin_s: what becomes time 0, by the file's own clock.
        until_s: sound that begins at or behind this time, by the same clock, is left out.

    Attributes:
        stream: as given.
    """

    def __init__(self, stream: Any, target: Any, origin_s: Fraction, until_s: Fraction) -> None:
        self.stream = stream
        self._target, self._origin_s, self._until_s = target, origin_s, until_s
        self._is_copied = stream.codec_context.codec.canonical_name in COPIED
        self._last_dts: int | None = None
        if self._is_copied:
            self._out = target.add_stream_from_template(stream)
        else:
            self._out = target.add_stream("aac", rate=_RATE, layout="stereo")
            self._out.bit_rate = _BITS_PER_S

    @classmethod
    def of(cls, container: Any, target: Any, origin_s: Fraction, until_s: Fraction) -> Sound | None:
        """The first sound of an open file, see the class; None if it has none that can be decoded."""
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        return cls(streams[0], target, origin_s, until_s) if streams else None

    def add(self, packet: Packet[Any]) -> None:
        """Take the next packet of the stream; one that cannot be decoded is left out."""
        base = packet.time_base
        if packet.pts is None or packet.dts is None or base is None:
            return
        if not self._origin_s <= packet.pts * base < self._until_s:
            return
        if not self._is_copied:
            self._encode(packet)
        elif self._last_dts is None or packet.dts > self._last_dts:
            self._last_dts = packet.dts
            origin = round(self._origin_s / base)
            packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
            packet.stream = self._out
            self._target.mux(packet)

    def finish(self) -> None:
        """Write what is left."""
        if not self._is_copied:
            self._encode(None)
            self._target.mux(self._out.encode(None))

    def _encode(self, packet: Packet[Any] | None) -> None:
        try:
            frames = self.stream.codec_context.decode(packet)
        except FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._origin_s / frame.time_base)
                if frame.pts >= 0:
                    self._target.mux(self._out.encode(frame))
