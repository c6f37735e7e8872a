"""Which frames and which part of the picture the views of a classifier take: numbers that were worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmr.data.views.crops import center_box, crop_boxes, resized_size
from vmr.data.views.frame_rules import (
    dense_indices,
    segment_ranges,
    sparse_indices,
    sparse_ranges,
    sthsth_indices,
    sthsth_middle_indices,
    view_indices,
)
from vmr.data.views.spec import ViewSpec
from vmr.data.views.trimmed import frames_of_span, trimmed_clips
from vmr.errors import VmrError

RULES = ("sparse", "sthsth", "sthsth_frames", "dense")
LENGTHS = st.integers(1, 70) | st.integers(1, 10**9)


def test_sparse_frames_round_halves_to_even():
    # s = 10 / 4 = 2.5: 0, 2.5, 5, 7.5 round to 0, 2, 5, 8; the segments begin int(2.5 / 3) = 0 and int(5 / 3) = 1 later
    assert sparse_indices(4, 11, 0, 2).tolist() == [0, 2, 5, 8]
    assert sparse_indices(4, 11, 1, 2).tolist() == [1, 3, 6, 9]
    assert sparse_indices(4, 11).tolist() == [1, 3, 6, 9]  # int(2.5 / 2) = 1
    assert [each.tolist() for each in sparse_ranges(4, 11)] == [[0, 2, 5, 8], [2, 5, 8, 10]]


def test_segments_of_something_something_take_turns():
    # t = 10 / 4 = 2.5: the frames of 2.5 * i are 0, 2, 5, 7, those of 1.25 + 2.5 * i are 1, 3, 6, 8
    assert [sthsth_indices(4, 10, segment, 2).tolist() for segment in range(2)] == [[0, 2, 5, 7], [1, 3, 6, 8]]
    assert sthsth_middle_indices(4, 10).tolist() == [1, 3, 6, 8]
    # t = 2 / 4: frames 0, 0, 1, 1 twice, sorted 0, 0, 0, 0, 1, 1, 1, 1
    assert [sthsth_indices(4, 2, segment, 2).tolist() for segment in range(2)] == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_any_number_of_segments_of_something_something():
    # t = 2.5 and t / 3 = 0.83: 0, 2, 5, 7; 0, 3, 5, 8; 1, 4, 6, 9
    taken = [sthsth_indices(4, 10, segment, 3).tolist() for segment in range(3)]
    assert taken == [[0, 2, 5, 7], [0, 3, 5, 8], [1, 4, 6, 9]]


def test_training_of_something_something_draws_from_equal_parts():
    assert [each.tolist() for each in segment_ranges(4, 11)] == [[0, 2, 4, 6], [1, 3, 5, 7]]  # 8, 9 and 10 never
    assert [each.tolist() for each in segment_ranges(4, 4)] == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert [each.tolist() for each in segment_ranges(4, 3)] == [[0, 0, 0, 0], [0, 0, 0, 0]]


def test_dense_segments_spread_over_the_video():
    # 4 frames 2 apart span 8 of 21: the 3 segments begin at 0, int(6.5) and 13
    taken = [dense_indices(4, 2, 21, segment, 3).tolist() for segment in range(3)]
    assert taken == [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]
    assert dense_indices(4, 2, 21).tolist() == [6, 8, 10, 12]
    assert dense_indices(4, 2, 4, 2, 3).tolist() == [0, 2, 2, 2]  # the last frame taken repeats, and not frame 3


def test_one_view_is_that_of_validation():
    assert view_indices(ViewSpec(4, 8, "sthsth"), 10).tolist() == [[1, 3, 6, 8]]
    assert view_indices(ViewSpec(4, 8, "sthsth_frames"), 10).tolist() == [[0, 2, 5, 7]]
    assert view_indices(ViewSpec(4, 8, "sparse"), 11).tolist() == [[1, 3, 6, 9]]


@given(st.sampled_from(RULES), LENGTHS, st.integers(1, 64), st.integers(1, 10), st.integers(1, 64))
def test_every_view_lies_within_the_video(rule, length, num_frames, num_segments, stride):
    spec = ViewSpec(num_frames, 8, rule, stride, num_segments)
    taken = view_indices(spec, length)
    assert taken.dtype == np.int64
    assert taken.shape == (num_segments, num_frames)
    assert taken.min() >= 0
    assert taken.max() < length
    assert (np.diff(taken) >= 0).all()
    assert (np.diff(taken[:, 0]) >= 0).all()  # later segments begin later


@given(st.sampled_from([sparse_ranges, segment_ranges]), LENGTHS, st.integers(1, 64))
def test_training_draws_within_the_video(ranges, length, num_frames):
    lowest, highest = ranges(num_frames, length)
    assert len(lowest) == len(highest) == num_frames
    assert lowest[0] == 0
    assert (lowest <= highest).all()
    assert highest[-1] < length
    assert (np.diff(lowest) >= 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_video_is_refused(rule):
    with pytest.raises(ValueError, match="cannot take 4 frames from a video of 0"):
        view_indices(ViewSpec(4, 8, rule), 0)


@pytest.mark.parametrize("ranges", [sparse_ranges, segment_ranges])
def test_nothing_is_drawn_from_an_empty_video(ranges):
    with pytest.raises(ValueError, match="cannot take 4 frames from a video of 0"):
        ranges(4, 0)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="no segment 2 of 2"):
        sparse_indices(4, 10, 2, 2)
    with pytest.raises(ValueError, match="every 0-th frame"):
        dense_indices(4, 0, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_crops": 2}, "num_crops is 2: use 1 or 3"),
        ({"frames": "all"}, "frames must be one of sparse, sthsth, sthsth_frames, dense, not 'all'"),
        ({"resize": "crop"}, "resize must be one of video, image, not 'crop'"),
        ({"resize": "image", "num_crops": 3}, "resize 'image' shows the centre only"),
        ({"num_segments": 0}, "num_segments"),
        ({"num_frames": 2.5}, "num_frames"),
    ],
)
def test_views_that_cannot_be_are_refused(given, message):
    with pytest.raises(VmrError, match=message):
        ViewSpec(**{"num_frames": 4, "size": 8, **given})


def test_a_film_is_cut_into_clips_of_a_minute():
    assert trimmed_clips(59.5) == [(0, 59.5)]
    assert trimmed_clips(60) == [(0, 60), (16, 60)]  # 44 s are left at 16, but only 28 s at 32
    assert trimmed_clips(77.5) == [(0, 60), (16, 76), (32, 77.5)]  # 29.5 s are left at 48
    assert trimmed_clips(78) == [(0, 60), (16, 76), (32, 78), (48, 78)]
    assert trimmed_clips(10, trimmed_s=4, stride_s=3) == [(0, 4), (3, 7), (6, 10)]


@pytest.mark.parametrize("lengths", [(0, 60, 16), (90, 60, 0), (90, -1, 16), (float("nan"), 60, 16)])
def test_a_film_without_length_is_refused(lengths):
    with pytest.raises(VmrError, match="use positive lengths"):
        trimmed_clips(*lengths)


@given(st.floats(0.01, 1e4), st.floats(0.5, 600), st.floats(5, 600))
def test_clips_of_a_film_lie_within_it(duration_s, trimmed_s, stride_s):
    clips = trimmed_clips(duration_s, trimmed_s, stride_s)
    assert clips[0][0] == 0
    assert all(0 <= start_s < end_s <= duration_s for start_s, end_s in clips)
    assert all(end_s - start_s <= trimmed_s * (1 + 1e-9) for start_s, end_s in clips)


def test_a_clip_has_the_frames_that_are_shown_in_it():
    assert frames_of_span(np.arange(500) / 25, (16, 18)) == (400, 450)
    assert frames_of_span(np.arange(500) / 25, (16, 76)) == (400, 499)
    assert frames_of_span(np.array([0.0, 1.0, 5.0, 5.5]), (2, 5.2)) == (1, 2)  # frame 1 is shown until 5.0


def test_the_short_side_becomes_the_size():
    assert resized_size(240, 320, 224) == (224, 298)  # 298.67
    assert resized_size(320, 240, 224) == (298, 224)
    assert resized_size(50, 50, 224) == (224, 224)
    assert resized_size(10, 300, 224) == (224, 6720)


def test_crops_lie_along_the_long_side():
    assert crop_boxes(224, 397, 224, 3) == [(0, 0, 224, 224), (0, 86, 224, 224), (0, 173, 224, 224)]
    assert crop_boxes(397, 224, 224, 3) == [(0, 0, 224, 224), (86, 0, 224, 224), (173, 0, 224, 224)]
    assert crop_boxes(224, 224, 224, 3) == 3 * [(0, 0, 224, 224)]


def test_the_centre_of_validation_rounds_half_to_even_and_that_of_a_test_down():
    assert center_box(224, 399, 224) == (0, 88, 224, 224)  # 87.5
    assert crop_boxes(224, 399, 224, 1) == [(0, 87, 224, 224)]
    assert center_box(224, 397, 224) == (0, 86, 224, 224)  # 86.5


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 600), st.sampled_from([1, 3]))
def test_every_crop_lies_within_the_picture(height, width, size, num_crops):
    high, wide = resized_size(height, width, size)
    assert min(high, wide) == size
    for top, left, h, w in [*crop_boxes(high, wide, size, num_crops), center_box(high, wide, size)]:
        assert (h, w) == (size, size)
        assert 0 <= top <= high - size
        assert 0 <= left <= wide - size
