"""When each picture is shown: the times that a file states, mended where they cannot be meant.

A player shows pictures one after the other. So a time that lies before the picture before it is not meant, and neither
is a clock that jumps by hours where two recordings were joined, nor a last picture that lasts for hours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HELD_S = 10.0
"""A picture that is shown for longer than this is held: nothing moves, and the time does not count for the rate."""

_MAX_OUTLIERS = 3  # how many pictures in a row may have a wrong time before it is taken for a jump of the clock
_DEFAULT_FRAME_S = 0.04  # used where a file states neither times nor a rate


class TimeBase(Protocol):
    """Seconds per tick of a stream's clock, as a fraction."""

    @property
    def numerator(self) -> int:
        """Upper part of the fraction."""

    @property
    def denominator(self) -> int:
        """Lower part of the fraction."""


@dataclass(frozen=True)
class Clock:
    """What a file says about its times.

    Attributes:
        time_base: seconds per tick; None if the file has no clock.
        rate: pictures per second that the file states; None if it states none.
        is_broadcast: whether the container is one in which the clock may start again at any place (MPEG-TS and
            MPEG-PS). There a step of more than HELD_S seconds is a jump of the clock, as players take it. In all other
            containers a picture may be shown for any time.
    """

    time_base: TimeBase | None
    rate: float | None
    is_broadcast: bool


@dataclass(frozen=True)
class ShownTimes:
    """When the pictures of a video are shown.

    Attributes:
        timestamps_s: when each is shown, seconds since the first, increasing, (num_frames,).
        duration_s: seconds from the first picture to the end of the last.
        frame_s: how long a picture is usually shown, in seconds.
        stated_s: the duration in seconds by the file's own times, if they had to be mended; else None.
    """

    timestamps_s: NDArray[np.float64]
    duration_s: float
    frame_s: float
    stated_s: float | None = None


def moving_rate(timestamps_s: NDArray[np.float64], duration_s: float) -> float:
    """Average pictures per second while the picture changes.

    Args:
        timestamps_s: when each picture is shown, in seconds, increasing, (num_frames,).
        duration_s: the end of the last one.

    Returns:
        Pictures per second. Those that are held for more than HELD_S seconds do not count, unless all are.
    """
    shown_s = np.diff(timestamps_s, append=duration_s)
    moving = shown_s <= HELD_S
    if moving.all() or not moving.any():
        return len(shown_s) / duration_s
    return float(moving.sum() / shown_s[moving].sum())


def shown_times(pts: Sequence[int | None] | NDArray[np.int64], last_duration: int, clock: Clock) -> ShownTimes:
    """Work out when pictures are shown.

    Args:
        pts: their presentation times in ticks, in the order in which they are shown, (num_frames,), at least one. If
            one is None, all pictures are taken to be shown equally long.
        last_duration: how many ticks the file says that the last picture is shown; 0 if it does not say.
        clock: the rest of what the file says.

    Returns:
        The times.
    """
    frame_s = 1 / clock.rate if clock.rate else _DEFAULT_FRAME_S
    base = clock.time_base
    if base is None or any(time is None for time in pts):
        return ShownTimes(np.arange(len(pts), dtype=np.float64) * frame_s, len(pts) * frame_s, frame_s)
    ticks_per_s = base.denominator / base.numerator
    stated = np.asarray(pts, np.int64)
    ticks = _mended(stated, round(HELD_S * ticks_per_s), max(1, round(frame_s * ticks_per_s)), clock.is_broadcast)
    # Multiply first and divide once, so that rounding never puts a frame at 4 s before a window that begins at 4 s.
    times: NDArray[np.float64] = (ticks - ticks[0]) * base.numerator / base.denominator
    steps = np.diff(times)
    frame_s = float(np.median(steps)) if len(steps) else frame_s
    last_s = last_duration / ticks_per_s
    is_meant = len(steps) == 0 or last_s <= max(HELD_S, float(steps.max()))
    duration_s = float(times[-1]) + (last_s if is_meant and last_s > 0 else frame_s)
    if is_meant and ticks is stated:
        return ShownTimes(times, duration_s, frame_s)
    return ShownTimes(times, duration_s, frame_s, float(stated.max() - stated.min()) / ticks_per_s + last_s)


def _mended(stated: NDArray[np.int64], held: int, usual: int, jumps: bool) -> NDArray[np.int64]:
    """Return times that increase; `stated` itself if it does.

    A few pictures with times of their own get times between those of their neighbours. Where the clock jumps, it goes
    on after the usual step.

    Args:
        stated: times in ticks, (n,).
        held: HELD_S in ticks.
        usual: the usual step, for a file that has no step that fits.
        jumps: whether a step of more than `held` is a jump.
    """
    longest = held if jumps else 2**62
    steps = np.diff(stated)
    fits = (steps > 0) & (steps <= longest)
    if fits.all():
        return stated
    if not fits.any():
        return np.arange(len(stated)) * usual
    usual = int(np.median(steps[fits]))
    kept, times, offset = [0], [int(stated[0])], 0
    index = 1
    while index < len(stated):
        upcoming = [int(time) + offset for time in stated[index : index + _MAX_OUTLIERS + 1]]
        if not 0 < upcoming[0] - times[-1] <= longest:
            before, after = _outliers(times, upcoming, longest, usual)
            if before or after:
                del kept[len(kept) - before :], times[len(times) - before :]
                index += after
            else:
                _close_gap_before(times, upcoming[0], held, usual)
                offset += times[-1] + usual - upcoming[0]
        kept.append(index)
        times.append(int(stated[index]) + offset)
        index += 1
    places = np.arange(len(stated))
    mended = np.round(np.interp(places, kept, times)).astype(np.int64)
    ticks: NDArray[np.int64] = np.maximum.accumulate(mended - places) + places
    return ticks


def _outliers(times: list[int], upcoming: list[int], longest: int, usual: int) -> tuple[int, int]:
    """Count the pictures whose times must be left out, so that the others follow each other.

    Returns:
        How many of the last ones in `times`, and how many of the first ones in `upcoming`: of all ways that leave out
        few, the one whose gap is nearest to the usual steps. 0, 0 if there is none.
    """
    gaps = {}
    for count in range(1, _MAX_OUTLIERS + 1):
        if count < len(times):
            gaps[count, 0] = upcoming[0] - times[-1 - count]
        if count < len(upcoming):
            gaps[0, count] = upcoming[count] - times[-1]
    wanted = {left_out: (sum(left_out) + 1) * usual for left_out in gaps}
    fitting = [left_out for left_out, gap in gaps.items() if wanted[left_out] < 2 * gap and gap <= longest]
    return min(fitting, key=lambda left_out: abs(gaps[left_out] - wanted[left_out]), default=(0, 0))


def _close_gap_before(times: list[int], upcoming: int, held: int, usual: int) -> None:
    """If the clock went ahead earlier and now comes back to where it was, take out the step by which it went ahead."""
    place = bisect_right(times, upcoming)
    if 0 < place < len(times) and times[place] - times[place - 1] > held >= upcoming - times[place - 1]:
        ahead = times[place] - times[place - 1] - usual
        times[place:] = [time - ahead for time in times[place:]]
