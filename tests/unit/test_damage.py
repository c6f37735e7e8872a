"""When a video is called damaged, and what is said about it. The numbers are worked by hand."""

import threading

import av.logging
import numpy as np
import pytest

from vmr.data.decoding.ffmpeg.clock import ShownTimes
from vmr.data.decoding.ffmpeg.damage import damage_remark, demuxer_errors, is_cut_off, remarks_of
from vmr.data.remark import Remark

# One picture a second; after the third, some are missing.
TIMES = ShownTimes(np.array([0.0, 1.0, 2.0, 10.0]), 11.0, 1.0)


@pytest.mark.parametrize(
    ("reached_s", "stated_s", "expected"),
    [
        (9.75, 10.0, False),  # a quarter of a second may be missing
        (9.74, 10.0, True),
        (98.0, 100.0, False),  # or 2 %
        (97.9, 100.0, True),
        (0.0, 0.25, False),
        (11.0, 10.0, False),
        (0.0, None, False),
    ],
)
def test_a_video_that_ends_before_its_end(reached_s, stated_s, expected):
    assert is_cut_off(reached_s, stated_s) is expected


@pytest.mark.parametrize(
    ("is_intact", "stated_s", "text"),
    [
        # shown for 1, 1, 8 and 1 s, of which at most two steps count: 1 + 2 + 1
        ([True, False, True, True], None, "read with damage: 4.0 of 11.0 s"),
        ([True, True, True, True], 12.5, "read with damage: 5.0 of 12.5 s"),
        ([True, True, False, True], 9.0, "read with damage: 3.0 of 11.0 s"),
        ([False] * 4, None, "read with damage: 0.0 of 11.0 s"),
    ],
)
def test_how_much_of_a_damaged_video_is_read(is_intact, stated_s, text):
    assert damage_remark(TIMES, np.array(is_intact), stated_s) == Remark("damage", text)


def test_how_much_of_a_quick_or_short_video_is_read():
    quick = ShownTimes(np.array([0.0, 0.5, 1.0, 5.0]), 5.5, 0.5)
    # 0.5 + 0.5 + 2 * 0.5 + 0.5
    assert damage_remark(quick, np.ones(4, np.bool_), None).text == "read with damage: 2.5 of 5.5 s"
    short = ShownTimes(np.array([0.0, 0.1]), 0.2, 0.1)
    assert damage_remark(short, np.ones(2, np.bool_), None).text == "read with damage: 0.2 of 0.2 s"


def test_what_there_is_to_know_about_a_video():
    damage = Remark("damage", "read with damage: 4.0 of 11.0 s")
    mended = ShownTimes(TIMES.timestamps_s, 11.0, 1.0, stated_s=3_600.04)
    went_back = ShownTimes(TIMES.timestamps_s, 11.0, 1.0, stated_s=11.04)
    assert remarks_of(TIMES, None) == ()
    assert remarks_of(TIMES, damage) == (damage,)
    times = Remark("times", "times mended: shown for 11.0 s, stated as 3600.0 s")
    assert remarks_of(mended, damage) == (damage, times)
    assert remarks_of(went_back, None) == (Remark("times", "times mended: shown for 11.0 s, some go back"),)


@pytest.fixture(params=[None, av.logging.WARNING, av.logging.FATAL])
def level(request):
    """The level of PyAV's log, as a program may have set it, and its way with repeated lines."""
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(request.param)
    av.logging.set_skip_repeated(True)
    yield request.param
    av.logging.set_level(before[0])
    av.logging.set_skip_repeated(before[1])


def test_the_names_of_what_logs_errors(level):
    with demuxer_errors() as names:
        for priority, name in ((av.logging.ERROR, "a"), (av.logging.WARNING, "b"), (av.logging.FATAL, "c")):
            av.logging.log(priority, name, "broken")
        assert names == set()
    assert names == {"a", "c"}
    with demuxer_errors() as names:
        av.logging.log(av.logging.ERROR, "a", "broken")
    assert names == {"a"}  # the same line again


def test_the_log_is_as_before_afterwards(level):
    with demuxer_errors():
        assert av.logging.get_level() == (av.logging.WARNING if level == av.logging.WARNING else av.logging.ERROR)
        assert not av.logging.get_skip_repeated()
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == (level, True)
    with pytest.raises(KeyError), demuxer_errors():
        raise KeyError
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == (level, True)


def test_the_log_is_as_before_when_the_last_of_two_threads_is_done(level):
    entered, may_leave = threading.Event(), threading.Event()

    def watch():
        with demuxer_errors():
            entered.set()
            may_leave.wait(20)

    thread = threading.Thread(target=watch)
    with demuxer_errors() as names:
        thread.start()
        assert entered.wait(20)
    assert not av.logging.get_skip_repeated()  # the other thread watches still
    may_leave.set()
    thread.join()
    assert names == set()
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == (level, True)
