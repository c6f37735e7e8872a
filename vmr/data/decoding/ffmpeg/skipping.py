"""What a decoder need not decode when only some pictures of a video are wanted.

No picture is coded with reference to a non-reference picture, so one that nobody wants can be passed over. So can all
that comes after the last wanted picture before a seek. Then the decoder gives fewer pictures than are listed, and only
the times of those that it gives can be compared with the list. So this is done only where the list is beyond doubt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.packets import KeyFrame
from vmr.data.decoding.ffmpeg.video_file import VideoFile

MIN_PACKETS_TO_SEEK = 8
"""Decoding fewer packets than this is cheaper than a seek."""

# FFmpeg's decoders of these codecs pass over single non-reference pictures. VP9's ignores the wish, and dav1d, which
# decodes AV1, passes over other pictures than those that are meant.
_CODECS = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
_HVCC_LAYERS = 21  # the byte of an hvcC box (ISO/IEC 14496-15) that holds the number of temporal layers


def can_skip(file: VideoFile, shown_pts: NDArray[np.int64], num_reordered: int) -> bool:
    """Tell whether pictures of a video may be passed over, and those that are decoded still be identified.

    Args:
        file: the video.
        shown_pts: presentation times of the pictures, increasing, (num_frames,).
        num_reordered: see `PacketTable`.

    Returns:
        Whether the codec allows it, and the times cannot be wrong: pictures follow each other at equal steps, so that
        none was moved, and they are reordered if the decoder expects it.
    """
    codec = file.stream.codec_context
    if codec.name not in _CODECS or not _is_even(shown_pts):
        return False
    if codec.name == "hevc" and not _has_one_layer(codec.extradata or b""):
        return False
    return num_reordered > 0 or not codec.has_b_frames


def _is_even(pts: NDArray[np.int64]) -> bool:
    """Whether times lie at equal steps, except for rounding to ticks."""
    return bool(np.all(np.abs(pts - np.linspace(pts[0], pts[-1], len(pts))) <= 1 + 1e-6))


def _has_one_layer(extradata: bytes) -> bool:
    """Whether HEVC has one temporal layer. A higher one may refer to non-reference pictures of a lower one."""
    is_hvcc = len(extradata) > _HVCC_LAYERS and extradata[0] == 1
    return is_hvcc and extradata[_HVCC_LAYERS] >> 3 & 7 == 1


class Selection:
    """The pictures that are wanted, and the packets that give them.

    The pictures just before and after a wanted one are decoded as well: as many as can change places with it. So its
    place among them is checked.

    Args:
        numbers: of the wanted pictures, increasing, at least one.
        places: the number in the file of each picture's packet, (num_frames,).
        keys: the key frames.
        key_indices: the number of each key frame, increasing.
        num_reordered: see `PacketTable`.
    """

    def __init__(
        self,
        numbers: NDArray[np.int64],
        places: NDArray[np.int64],
        keys: Sequence[KeyFrame],
        key_indices: Sequence[int],
        num_reordered: int,
    ) -> None:
        around = np.arange(-num_reordered, num_reordered + 1)
        near = np.clip(numbers[:, None] + around, 0, len(places) - 1)
        self._decoded: set[int] = set(places[near].ravel().tolist())
        starts = [bisect_right(key_indices, number) - 1 for number in numbers.tolist()]
        required: set[int] = set()
        self._ends: set[int] = set()
        end = None
        for number, start in zip(numbers.tolist(), starts, strict=True):
            first = max(number - num_reordered, key_indices[start] if start >= 0 else 0)
            required.update(range(first, number + 1))
            if end is not None and start >= 0 and keys[start].place - end - 1 >= MIN_PACKETS_TO_SEEK:
                self._ends.add(end)
            last = int(places[first : number + 1].max())
            end = last if end is None else max(end, last)  # a key frame may stand before pictures shown before it
        self._required = sorted(required)

    def may_skip(self, place: int) -> bool:
        """Tell whether the picture of this packet is not wanted."""
        return place not in self._decoded

    def ends_at(self, place: int) -> bool:
        """Tell whether the wanted pictures so far need no packet after this one, and the next is better sought."""
        return place in self._ends

    def may_pass(self, first: int, stop: int) -> bool:
        """Tell whether the decoder may give none of the pictures first, ..., stop - 1."""
        place = bisect_left(self._required, first)
        return place == len(self._required) or self._required[place] >= stop
