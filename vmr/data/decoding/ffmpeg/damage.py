"""What is noticed about a video that can be read, but is not as it should be: damage, and times that were mended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av.logging
import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.ffmpeg.clock import ShownTimes
from vmr.data.remark import Remark

_MISSING_S = 0.25  # a video that ends earlier than stated by more than this, and by more than 2 %, is cut off
_MISSING_SHARE = 0.02


def remarks_of(times: ShownTimes, damage: Remark | None) -> tuple[Remark, ...]:
    """Collect what there is to know about a video.

    Args:
        times: when its pictures are shown.
        damage: the result of `damage_remark`.
    """
    remarks = [] if damage is None else [damage]
    if times.stated_s is not None:
        shown, stated = f"{times.duration_s:.1f} s", f"{times.stated_s:.1f} s"
        stated = "some go back" if stated == shown else f"stated as {stated}"
        remarks.append(Remark("times", f"times mended: shown for {shown}, {stated}"))
    return tuple(remarks)


def damage_remark(times: ShownTimes, is_intact: NDArray[np.bool_], stated_s: float | None) -> Remark:
    """Say how much of a damaged video could be read.

    Args:
        times: when the pictures that could be decoded are shown.
        is_intact: whether each was decoded without an error, (num_frames,).
        stated_s: the duration that the container states; None if it states none.
    """
    steps = np.diff(times.timestamps_s, append=times.duration_s)
    # Before a hole, the last picture is not shown for the time of those that are lost.
    readable_s = float(np.minimum(steps, 2 * times.frame_s)[is_intact].sum())
    return Remark("damage", f"read with damage: {readable_s:.1f} of {max(times.duration_s, stated_s or 0):.1f} s")


def is_cut_off(reached_s: float, stated_s: float | None) -> bool:
    """Tell whether a video ends clearly before the end that its container states."""
    return stated_s is not None and stated_s - reached_s > max(_MISSING_S, _MISSING_SHARE * stated_s)


_log_lock = threading.Lock()
_log_users: list[tuple[int | None, bool]] = []  # the settings of PyAV's log before each `demuxer_errors`


@contextmanager
def demuxer_errors() -> Iterator[set[str]]:
    """Watch what FFmpeg logs as errors while this thread opens and reads files.

    Some containers go on after lost bytes without any other sign than a line in the log. PyAV's log is off by default,
    and its settings hold for the whole process. They are put back when the last thread stops watching.

    Yields:
        The names of the demuxers and codecs that logged an error; empty until the end.
    """
    names: set[str] = set()
    with _log_lock:
        level = av.logging.get_level()
        _log_users.append((level, av.logging.get_skip_repeated()))
        if level is None or level < av.logging.ERROR:
            av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)  # else the second of two files with the same error would pass
    try:
        with av.logging.Capture() as lines:
            yield names
        names.update(name for level, name, _ in lines if level <= av.logging.ERROR)
    finally:
        with _log_lock:
            before, skipped = _log_users[0]
            _log_users.pop()
            if not _log_users:
                av.logging.set_level(before)
                av.logging.set_skip_repeated(skipped)
