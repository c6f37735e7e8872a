"""When pictures are shown: the times that a file states, and what is made of those that cannot be meant.

The numbers beside the asserts are worked by hand: the clock counts in thousandths, and a picture usually takes 40.
"""

from fractions import Fraction

import numpy as np
import pytest

from vmr.data.decoding.ffmpeg.clock import Clock, moving_rate, shown_times

FILE = Clock(Fraction(1, 1000), 25.0, is_broadcast=False)
BROADCAST = Clock(Fraction(1, 1000), 25.0, is_broadcast=True)
HOUR = 3_600_000
STEADY = [0, 40, 80, 120, 160, 200, 240, 280]


def times(pts, last_duration=40, clock=FILE):
    shown = shown_times(pts, last_duration, clock)
    assert np.all(np.diff(shown.timestamps_s, append=shown.duration_s) > 0)
    return [round(1000 * time) for time in shown.timestamps_s], round(1000 * shown.duration_s), shown.stated_s


def moved(changes):
    return [changes.get(number, time) for number, time in enumerate(STEADY)]


def test_times_that_increase_are_kept_from_the_first_picture_on():
    assert times([500, 540, 700, 5700]) == ([0, 40, 200, 5200], 5240, None)


@pytest.mark.parametrize(
    "pts",
    [
        moved({3: 120 + 2 * HOUR}),
        moved({3: 120 - 2 * HOUR}),
        moved({3: 260}),
        moved({3: 20}),
        moved({3: 80}),  # the time of the picture before
        moved({3: 9 * HOUR, 4: 9 * HOUR + 40}),
        moved({2: 9 * HOUR, 3: 5 * HOUR, 4: 7 * HOUR}),
        moved({1: -5 * HOUR, 6: 3 * HOUR}),
    ],
)
def test_a_few_pictures_with_times_of_their_own_lie_between_their_neighbours(pts):
    shown, duration, stated_s = times(pts)
    assert shown == STEADY and duration == 320
    assert stated_s == (max(pts) - min(pts) + 40) / 1000


def test_a_clock_that_runs_ahead_for_a_while():
    ahead = [time + (5 * HOUR if 2 <= number < 7 else 0) for number, time in enumerate(STEADY)]
    assert times(ahead)[:2] == (STEADY, 320)


@pytest.mark.parametrize("jump", [-STEADY[-1], -50 * HOUR])
@pytest.mark.parametrize("clock", [FILE, BROADCAST])
def test_a_clock_that_goes_back_goes_on_after_the_usual_step(jump, clock):
    joined = STEADY + [time + 320 + jump for time in STEADY]
    assert times(joined, clock=clock)[:2] == ([40 * number for number in range(16)], 640)


def test_only_the_clock_of_a_broadcast_jumps_ahead():
    joined = STEADY + [time + 320 + 10 * HOUR for time in STEADY]
    assert times(joined, clock=BROADCAST)[:2] == ([40 * number for number in range(16)], 640)
    assert times(joined, clock=FILE) == ([time - joined[0] for time in joined], 640 + 10 * HOUR, None)  # a pause
    shorter = STEADY + [time + 320 + 9_000 for time in STEADY]  # 9 s: the signal was gone
    assert times(shorter, clock=BROADCAST) == (shorter, 9_640, None)


def test_a_last_picture_is_shown_as_long_as_stated_within_reason():
    assert times(STEADY, 3_000) == (STEADY, 3_280, None)
    assert times(STEADY, 10_000) == (STEADY, 10_280, None)
    assert times(STEADY, 10_001) == (STEADY, 320, pytest.approx(10.281))  # 0.28 s and 10.001 s
    assert times(STEADY, 0) == (STEADY, 320, None)
    assert times([0, 60_000, 120_000], 60_000) == ([0, 60_000, 120_000], 180_000, None)  # slides of a minute
    assert times([0], 90_000) == ([0], 90_000, None)


def test_without_times_all_pictures_take_equally_long():
    assert times([0, None, 7]) == ([0, 40, 80], 120, None)
    assert times([3, 2, 1], clock=Clock(None, 10.0, is_broadcast=False)) == ([0, 100, 200], 300, None)
    assert times([None, None], clock=Clock(None, None, is_broadcast=False)) == ([0, 40], 80, None)


def test_times_that_are_all_the_same():
    assert times([7, 7, 7, 7, 7]) == ([0, 40, 80, 120, 160], 200, 0.04)


def test_any_times_become_times_that_increase():
    random = np.random.default_rng(0)
    for _ in range(300):
        pts = random.integers(-1000, 1000, random.integers(1, 12)).tolist()
        times(pts, int(random.integers(-5, 50)), random.choice([FILE, BROADCAST]))


def test_the_rate_counts_the_time_in_which_pictures_change():
    steady = np.arange(50) / 25
    assert moving_rate(steady, 2.0) == 25.0
    assert moving_rate(np.append(steady, 1800.0), 1800.04) == pytest.approx(25.0)  # 49 steps and the last picture
    assert moving_rate(np.array([0.0, 60.0, 120.0]), 180.0) == pytest.approx(1 / 60)  # slides: every one is held
    assert moving_rate(np.array([0.0, 10.0]), 20.0) == pytest.approx(0.1)
