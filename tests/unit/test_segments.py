"""The windows into which a video is cut."""

import pytest

from vmr.data.decoding.segments import VideoFacts
from vmr.errors import VmrError
from vmr.retrieval.segments import FixedWindows, window_segmenter


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
