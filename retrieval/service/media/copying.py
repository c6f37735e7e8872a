"""Parts of a video in a new mp4 file, copied without decoding them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import av

from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.retrieval.service.media.sound import Sound

if TYPE_CHECKING:
    from av.packet import Packet

_ENOUGH_BYTES = 32 * 2**20  # of a part, unless it is shorter than this:
_LEAST_S = 15
_STEPS_BACK_S = (0.0, 1.0, 5.0, 20.0)  # a broadcast has no index, so that a seek may end behind the wanted place


class CannotCopyError(Exception):
    """The packets cannot be copied as they are, so that the part must be encoded."""


@dataclass(frozen=True)
class Part:
    """A part of a video as a file for a browser.

    Attributes:
        mp4: the file; its first picture is shown at 0.
        start_s: the time of the first picture, in seconds of the video.
        until_s: where it ends; None if that is the end of the video.
        is_smaller: whether its pictures are smaller than those of the video.
    """

    mp4: memoryview
    start_s: float
    until_s: float | None
    is_smaller: bool = False


def copy_part(
    file: VideoFile, first_s: float, span: tuple[float, float], max_bytes: int, slack_s: float | None = None
) -> Part:
    """Copy pictures and sound of a span.

    Args:
        file: the video.
        first_s: when its first picture is shown, by its own clock.
        span: the span, in seconds of the video.
        max_bytes: the part may end before the span does so that it holds no more than this.
        slack_s: how much earlier the part may begin, and how much later it may end; None for any time earlier, and an
            end before or behind the end of the span, as the packets have it.

    Raises:
        CannotCopyError: no key frame is where the part would have to begin, or the packets are not in order.
        FFmpegError: the packets do not fit into an mp4 file.
    """
    base = file.stream.time_base
    if base is None:
        raise CannotCopyError
    start, end = (Fraction(time_s + first_s).limit_denominator(10**6) for time_s in span)
    key = _seek_key(file, start, base)
    start_s = float(key * base) - first_s
    if slack_s is not None and abs(start_s - span[0]) > slack_s:
        raise CannotCopyError
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        copier = _Copier(file, target, key, end)
        until = copier.copy(max_bytes, whole=slack_s is not None)
    until_s = None if until is None else float(until * base) - first_s
    if slack_s is not None and until_s is not None and until_s > span[1] + slack_s:
        raise CannotCopyError
    return Part(out.getbuffer(), start_s, until_s)


def _seek_key(file: VideoFile, start: Fraction, base: Fraction) -> int:
    """Go to the last key frame that is shown at or before a time; return its time in ticks."""
    wanted = round(start / base)
    for back_s in (*_STEPS_BACK_S, None):
        place = None if back_s is None else start - Fraction(back_s)
        _seek(file, place, base)
        near = takewhile(lambda packet: packet.dts is None or packet.dts <= wanted, _pictures(file))
        keys = [packet.pts for packet in near if packet.is_keyframe and not packet.is_discard]
        passed = [key for key in keys if key is not None and key <= wanted]
        if passed:
            _seek(file, place, base)
            return passed[-1]
    raise CannotCopyError


def _seek(file: VideoFile, time: Fraction | None, base: Fraction) -> None:
    if time is None or time <= 0:
        file.reopen()
    else:
        file.container.seek(int(time / base), stream=file.stream)


def _pictures(file: VideoFile) -> Iterator[Packet[Any]]:
    for packet in file.packets():
        if packet.pts is None:
            raise CannotCopyError
        yield packet


def _times(packet: Packet[Any]) -> tuple[int, int]:
    if packet.pts is None or packet.dts is None:
        raise CannotCopyError
    return packet.pts, packet.dts


class _Copier:
    """Copies packets into a container.

    Args:
        file: the video, at or before the first packet.
        target: the container.
        key: time of the first picture in ticks.
        end: where the part is to end, by the file's own clock, in seconds.
    """

    def __init__(self, file: VideoFile, target: Any, key: int, end: Fraction) -> None:
        self._file, self._target, self._key = file, target, key
        self._base = file.stream.time_base or Fraction(1)
        self._end = round(end / self._base)
        self._video = target.add_stream_from_template(file.stream)
        self._sound = Sound.of(file.container, target, key * self._base, end)
        self._has_begun, self._last_dts, self._shown_until = False, -(2**62), key

    def copy(self, max_bytes: int, whole: bool) -> int | None:
        """Copy what is shown before the end.

        Args:
            max_bytes: how much is copied at most.
            whole: whether every picture before the end is wanted, although a few behind it come with them.

        Returns:
            Where the part ends, in ticks; None if that is the end of the video.
        """
        size = 0
        for packet in self._packets():
            size += packet.size if self._has_begun else 0
            if packet.size and packet.stream.index != self._file.stream.index:
                if self._sound is not None and self._has_begun:
                    self._sound.add(packet)
            elif packet.size and (self._is_after_end(packet, whole) or (self._is_enough(size) and not whole)):
                return self._finish()
            elif packet.size:
                self._copy_picture(packet)
            if size > max_bytes:
                raise CannotCopyError
        if not self._has_begun:
            raise CannotCopyError
        self._finish()
        return None

    def _packets(self) -> Iterator[Packet[Any]]:
        """The packets of pictures and sound; before the first decoding time of a picture, make up those that lack."""
        streams = [self._file.stream, *([] if self._sound is None else [self._sound.stream])]
        first: list[Packet[Any]] = []
        dts: int | None = None
        packets = iter(self._file.container.demux(streams))
        for packet in packets:
            first.append(packet)
            if packet.stream.index == self._file.stream.index and packet.dts is not None:
                dts = packet.dts
                break
        for packet in reversed(first):
            if dts is not None and packet.stream.index == self._file.stream.index and packet.dts is None:
                dts -= packet.duration or 1
                packet.dts = dts
        yield from first
        yield from packets

    def _is_after_end(self, packet: Packet[Any], whole: bool) -> bool:
        """Whether no packet from here on shows something before the end; or if all are not wanted, few of them."""
        pts, dts = _times(packet)
        return dts >= self._end and (pts >= self._end or not whole)

    def _is_enough(self, size: int) -> bool:
        return size > _ENOUGH_BYTES and (self._shown_until - self._key) * self._base > _LEAST_S

    def _copy_picture(self, packet: Packet[Any]) -> None:
        pts, dts = _times(packet)
        if dts <= self._last_dts:
            raise CannotCopyError
        self._last_dts = dts
        self._has_begun |= pts == self._key and packet.is_keyframe
        if self._has_begun and pts >= self._key:  # others refer to pictures before the key frame
            self._shown_until = max(self._shown_until, pts + (packet.duration or 0))
            packet.pts, packet.dts = pts - self._key, dts - self._key
            packet.stream = self._video
            self._target.mux(packet)

    def _finish(self) -> int:
        if self._sound is not None:
            self._sound.finish()
        return self._shown_until
