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
    assert times([7, 8, 9, 10], 1) == ([0, 1, 2, 3], 4, None)


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
        moved({2: -9 * HOUR, 3: -5 * HOUR, 4: -7 * HOUR}),
        moved({3: 170}),  # of the ways to leave some out, the one after which the steps are as usual
        moved({3: 20, 4: 125}),
    ],
)
def test_a_few_pictures_with_times_of_their_own_lie_between_their_neighbours(pts):
    shown, duration, stated_s = times(pts)
    assert shown == STEADY and duration == 320
    assert stated_s == (max(pts) - min(pts) + 40) / 1000


@pytest.mark.parametrize(
    ("pts", "shown"),
    [
        # only the picture with the strange time is moved: 40 after 130, as usual
        ([0, 40, 80, 130, 2 * HOUR, 210, 250, 290], [0, 40, 80, 130, 170, 210, 250, 290]),
        ([0, 40, 80, 170, 160, 200, 330, 370], [0, 40, 80, 120, 160, 200, 330, 370]),
        ([0, 1, 11, 21, 11, 41, 51], [0, 1, 11, 21, 31, 41, 51]),  # a step of one tick is a step
        (
            [0, 40, 80, 20, 120],
            [0, 40, 80, 120, 220],
        ),  # 80 to 120 has no room for one between: the clock went back by 100
    ],
)
def test_pictures_with_right_times_keep_them(pts, shown):
    assert times(pts)[0] == shown


def test_a_step_of_10_s_is_no_jump():
    """Only a longer one is, and only in a broadcast."""
    assert times([0, 40, 80, 10_080, 10_120], clock=BROADCAST) == ([0, 40, 80, 10_080, 10_120], 10_160, None)
    mended = [0, 40, 80, 10_080, 10_120, 10_160, 10_200]
    assert times([*mended[:5], 10_100, 10_200], clock=BROADCAST)[0] == mended
    # one with a time of its own lies in the middle of the 10 s
    assert times([0, 40, 80, 90_000, 10_080, 10_120], clock=BROADCAST)[0] == [0, 40, 80, 5_080, 10_080, 10_120]
    assert times([0, 40, 80, 10_081, 10_121], clock=BROADCAST)[0] == [0, 40, 80, 120, 160]


def test_a_clock_that_runs_ahead_for_a_while():
    ahead = [time + (5 * HOUR if 2 <= number < 7 else 0) for number, time in enumerate(STEADY)]
    assert times(ahead)[:2] == (STEADY, 320)


AHEAD = [HOUR + 120, HOUR + 130, HOUR + 200, HOUR + 240]  # too many to be strange times, and their steps are kept


@pytest.mark.parametrize(
    ("pts", "shown"),
    [
        ([0, 40, 80, *AHEAD, 280, 320], [0, 40, 80, 120, 130, 200, 240, 280, 320]),
        ([0, *(HOUR + time for time in (40, 80, 120, 160)), 200, 240, 280], STEADY),  # ahead after the first picture
        # back to at most 10 s after it left: the hour is taken out; else the pictures may have been shown for it
        ([0, 40, 80, *AHEAD, 10_080], [0, 40, 80, 120, 130, 200, 240, 280]),
        ([0, 40, 80, *AHEAD, 10_081], [0, 40, 80, *AHEAD, HOUR + 280]),
        # ahead by no more than 10 s: pictures may be held for so long
        ([0, 40, 80, 10_080, 10_090, 10_160, 10_200, 280], [0, 40, 80, 10_080, 10_090, 10_160, 10_200, 10_240]),
        (
            [0, 40, 6_000, 12_000, 12_040, 12_080, 12_120, 6_010, 6_050],
            [0, 40, 6_000, 12_000, 12_040, 12_080, 12_120, 12_160, 12_200],
        ),
    ],
)
@pytest.mark.parametrize("start", [0, 20_000])
def test_a_clock_that_comes_back_to_where_it_was(pts, shown, start):
    assert times([start + time for time in pts])[0] == shown


def test_steps_that_are_not_usual_are_kept_when_a_clock_goes_back():
    part = [20_000, 20_070, 20_110, 20_150]
    assert times(part * 2)[0] == [0, 70, 110, 150, 190, 260, 300, 340]
    assert times(part * 3)[0] == [0, 70, 110, 150, 190, 260, 300, 340, 380, 450, 490, 530]


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
    assert times([7, 7, 7], 0, Clock(Fraction(1, 25), 25.0, is_broadcast=False)) == ([0, 40, 80], 120, 0.0)
    assert times([7, 7, 7], 0, Clock(Fraction(1, 25), 500.0, is_broadcast=False))[0] == [0, 40, 80]  # at least a tick


def test_how_long_a_picture_is_usually_shown():
    """The middle of the steps; where there are none, by the rate that the file states."""
    assert shown_times([0, 100, 130, 230], 0, FILE).frame_s == 0.1
    assert times([0, 100, 130, 230], 0) == ([0, 100, 130, 230], 330, None)
    assert shown_times([0], 0, Clock(Fraction(1, 1000), 10.0, is_broadcast=False)).frame_s == 0.1
    assert shown_times([None, 0], 0, Clock(Fraction(1, 1000), 10.0, is_broadcast=False)).frame_s == 0.1
    assert shown_times([0, 100, 200, 150, 400, 500], 0, FILE).frame_s == 0.1  # mended: 300 instead of 150


def test_a_clock_that_does_not_count_parts_of_a_second():
    """30000 / 1001 pictures a second, as television has them: one tick is 1001 / 30000 s."""
    shown = shown_times([5, 6, 7, 9], 2, Clock(Fraction(1001, 30_000), 29.97, is_broadcast=False))
    assert shown.timestamps_s.tolist() == [0, 1001 / 30_000, 2002 / 30_000, 4004 / 30_000]
    assert shown.duration_s == pytest.approx(6006 / 30_000)


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
    assert moving_rate(np.array([0.0, 10.0, 30.0]), 31.0) == pytest.approx(2 / 11)  # 10 s count, 20 s do not
