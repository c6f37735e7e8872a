"""The windows into which a video is cut."""

from itertools import pairwise

import numpy as np
import pytest

from vmr.data.decoding.segments import VideoFacts
from vmr.errors import VmrError
from vmr.retrieval.segments import FixedWindows, SegmentOptions, ShotWindows, WithWholeVideo, window_segmenter


def spans(duration_s: float, window_s: float, stride_s: float | None = None) -> list[tuple[float, float]]:
    return FixedWindows(window_s, stride_s).spans(VideoFacts(duration_s, num_frames=100, height=90, width=160))


def test_windows_cover_the_video_and_none_lies_inside_the_one_before():
    assert spans(10, 8, 4) == [(0, 8), (4, 10)]
    assert spans(12, 8, 4) == [(0, 8), (4, 12)]
    assert spans(12.5, 8, 4) == [(0, 8), (4, 12), (8, 12.5)]
    assert spans(9, 3) == [(0, 3), (3, 6), (6, 9)]
    assert spans(5, 8, 4) == [(0, 5)]
    assert spans(8, 8, 4) == [(0, 8)]


def test_window_starts_do_not_drift():
    many = spans(60.0, 0.3, 0.1)
    assert len(many) == 598  # the last starts at 59.7 and ends with the video
    assert many[597] == (pytest.approx(59.7, abs=1e-12), 60.0)


@pytest.mark.parametrize(
    ("window_s", "stride_s", "message"),
    [
        (0.0, None, "window_s must be positive and finite"),
        (-1.0, None, "window_s must be positive and finite"),
        (float("inf"), 4.0, "window_s must be positive and finite"),
        (8.0, 9.0, "stride_s must be positive and at most window_s, or frames are left out"),
        (8.0, 0.0, "stride_s must be positive and at most window_s, or frames are left out"),
        (8.0, -1.0, "stride_s must be positive and at most window_s, or frames are left out"),
        ("8", None, "window_s is '8', but must be a number"),
        (8.0, "4", "stride_s is '4', but must be a number"),
    ],
)
@pytest.mark.parametrize("make", [FixedWindows, window_segmenter])
def test_windows_that_make_no_sense_are_refused(make, window_s, stride_s, message):
    with pytest.raises(VmrError) as caught:
        make(window_s, stride_s)
    assert str(caught.value) == message


def test_half_a_window_is_the_usual_stride():
    assert window_segmenter(8) == FixedWindows(8.0, 4.0)
    assert window_segmenter(8, 2) == FixedWindows(8.0, 2.0)
    assert window_segmenter(8, 8).settings == {"window_s": 8.0, "stride_s": 8.0}
    assert window_segmenter(None) is None
    with pytest.raises(VmrError) as caught:
        window_segmenter(None, 4.0)
    assert str(caught.value) == "stride_s needs window_s: give both or none"


def shots(lengths_s, window_s=8.0, min_s=None):
    """The lengths of the windows of a video of such shots; they follow each other from 0 to its end."""
    edges = np.cumsum([0.0, *lengths_s]).tolist()
    facts = VideoFacts(edges[-1], 100, 90, 160, tuple(edges[1:-1]))
    found = ShotWindows(window_s, min_s).spans(facts)
    assert (found[0][0], found[-1][1]) == (0.0, edges[-1])
    assert all(before[1] == after[0] for before, after in pairwise(found))
    return [round(end_s - start_s, 3) for start_s, end_s in found]


@pytest.mark.parametrize(
    ("lengths_s", "windows"),
    [
        ([5], [5]),
        ([5, 3, 8], [5, 3, 8]),
        ([20], [6.667] * 3),
        ([8.1, 16], [4.05, 4.05, 8, 8]),
        ([5, 1, 3, 20], [5, 4, 6.667, 6.667, 6.667]),  # the example of the docstring
        ([3, 1, 5], [4, 5]),
        ([3, 1, 3], [4, 3]),  # of equal neighbours the earlier
        ([1, 5, 1.5], [7.5]),  # a shot of 6 s and one of 1.5 s; no window of two is that
        ([0.5] * 6, [3]),
        ([1, 0.5], [1.5]),
        ([1], [1]),
        ([2, 2], [2, 2]),  # a quarter of the window is long enough
    ],
)
def test_short_shots_are_joined_and_long_ones_split(lengths_s, windows):
    assert shots(lengths_s) == windows


def test_how_short_a_shot_may_be_can_be_said():
    assert shots([5, 1, 3], min_s=0.5) == [5, 1, 3]
    assert shots([5, 3, 4], min_s=4) == [5, 7]
    assert shots([5, 4, 4], window_s=4.0) == [2.5, 2.5, 4, 4]


def test_cuts_outside_a_video_are_no_cuts():
    facts = VideoFacts(10.0, 100, 90, 160, (0.0, 4.0, 10.0, 11.0))
    assert ShotWindows(8.0).spans(facts) == [(0.0, 4.0), (4.0, 10.0)]
    assert ShotWindows(20.0).spans(VideoFacts(10.0, 100, 90, 160)) == [(0.0, 10.0)]


@pytest.mark.parametrize(("window_s", "min_s"), [(8.0, 0), (8.0, 9.0), (0, None), (float("inf"), None), ("8", None)])
def test_shots_that_make_no_sense_are_refused(window_s, min_s):
    with pytest.raises(VmrError, match=r"^(min_s|window_s) (must|is)"):
        ShotWindows(window_s, min_s)


def test_a_whole_video_comes_last_where_there_are_several_windows():
    with_whole = WithWholeVideo(FixedWindows(8.0, 4.0))
    assert with_whole.spans(VideoFacts(10.0, 100, 90, 160)) == [(0, 8), (4, 10), (0.0, 10.0)]
    assert with_whole.spans(VideoFacts(8.0, 100, 90, 160)) == [(0, 8)]
    assert (with_whole.window_s, with_whole.needs_cuts) == (8.0, False)
    assert WithWholeVideo(ShotWindows(8.0)).needs_cuts
    assert with_whole.settings == {"parts": "FixedWindows", "window_s": 8.0, "stride_s": 4.0}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, FixedWindows(8.0, 4.0)),
        ({"window_s": 6, "stride_s": 2}, FixedWindows(6.0, 2.0)),
        ({"whole_video": True}, WithWholeVideo(FixedWindows(8.0, 4.0))),
        ({"window_s": None}, None),
        ({"segments": "whole", "whole_video": True}, None),
    ],
)
def test_options_are_a_segmenter(options, expected):
    assert SegmentOptions(**options).segmenter() == expected


def test_shots_are_a_segmenter():
    pytest.importorskip("scenedetect")
    assert SegmentOptions("shots", 6.0).segmenter() == ShotWindows(6.0)
    assert SegmentOptions("shots", whole_video=True).segmenter() == WithWholeVideo(ShotWindows(8.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": "none"}, "segments must be one of fixed, shots, whole, not 'none'"),
        ({"frames": "some"}, "frames must be one of all, keyframes, not 'some'"),
        ({"segments": "shots", "stride_s": 4.0}, "stride_s is for fixed windows: shots do not overlap"),
        ({"segments": "shots", "window_s": None}, "shots need window_s, the length that no window exceeds"),
        ({"segments": "whole", "stride_s": 4.0}, "stride_s needs window_s: give both or none"),
        ({"window_s": None, "stride_s": 4.0}, "stride_s needs window_s: give both or none"),
        ({"skip_still": 1.0}, "skip_still is 1.0: expected a number in [0, 1)"),
        ({"skip_still": -0.1}, "skip_still is -0.1: expected a number in [0, 1)"),
        ({"whole_video": 1}, "whole_video is 1, but must be bool"),
        ({"window_s": 0}, "window_s must be positive and finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(VmrError) as caught:
        SegmentOptions(**options)
    assert str(caught.value) == message
