from dataclasses import dataclass

import numpy as np
import pytest

from vmr.data.decoding.sampling import (
    check_rule,
    fps_indices,
    grid_indices,
    middle_indices,
    rand_indices,
    sample_indices,
    shown_at,
    shown_in,
    trimmed_length,
)
from vmr.errors import VmrError


@dataclass
class Clip:
    num_frames: int
    fps: float

    @property
    def duration_s(self):
        return self.num_frames / self.fps


def test_middle_takes_the_middle_of_each_interval():
    # 8 frames in 4 intervals: [0,2) [2,4) [4,6) [6,8) -> (0+1)//2, (2+3)//2, ...
    assert middle_indices(4, 8).tolist() == [0, 2, 4, 6]
    # edges 0 2 4 6 9 (linspace 0, 2.25, 4.5, 6.75, 9 cut down) -> (0+1)//2, (2+3)//2, (4+5)//2, (6+8)//2
    assert middle_indices(4, 9).tolist() == [0, 2, 4, 7]
    # edges 0 12 25 37 50 62 75 87 100 -> (0+11)//2 = 5, (12+24)//2 = 18, (25+36)//2 = 30, ...
    assert middle_indices(8, 100).tolist() == [5, 18, 30, 43, 55, 68, 80, 93]
    assert middle_indices(1, 300).tolist() == [149]  # (0+299)//2
    assert middle_indices(8, 4500).tolist() == [280, 843, 1405, 1968, 2530, 3093, 3655, 4218]


def test_a_short_video_repeats_its_last_frame():
    assert middle_indices(4, 2).tolist() == [0, 1, 1, 1]
    assert middle_indices(8, 1).tolist() == [0] * 8
    assert rand_indices(4, 2, np.random.default_rng(0)).tolist() == [0, 1, 1, 1]
    # upstream: intervals of one frame leave nothing to draw, so two random frames of the video, sorted
    assert rand_indices(4, 2, np.random.default_rng(0), upstream=True).tolist() == [0, 1, 1, 1]


def test_rand_draws_from_the_whole_interval_and_upstream_never_its_last_frame():
    draws = np.stack([rand_indices(8, 100, np.random.default_rng(seed)) for seed in range(2000)])
    edges = [0, 12, 25, 37, 50, 62, 75, 87, 100]
    assert draws.min(axis=0).tolist() == edges[:-1]
    assert draws.max(axis=0).tolist() == [edge - 1 for edge in edges[1:]]
    draws = np.stack([rand_indices(8, 100, np.random.default_rng(seed), upstream=True) for seed in range(2000)])
    assert draws.min(axis=0).tolist() == [0, 12, 25, 37, 50, 62, 75, 87]
    assert draws.max(axis=0).tolist() == [10, 23, 35, 48, 60, 73, 85, 98]


def test_upstream_rand_falls_back_to_a_sorted_choice_without_repeats():
    # 9 frames in 8 intervals: seven of them hold one frame, whose range without its last frame is empty
    draws = [rand_indices(8, 9, np.random.default_rng(seed), upstream=True).tolist() for seed in range(50)]
    assert all(draw == sorted(set(draw)) and len(draw) == 8 for draw in draws)
    assert {index for draw in draws for index in draw} == set(range(9))


def test_fps_takes_the_middle_of_each_step_and_rounds_halves_to_even():
    # 0.5 per second: at 1, 3, 5, 7, 9 s of a 10 s video
    assert fps_indices(0.5, 10.0, 30).tolist() == [30, 90, 150, 210, 270]
    # at 0.5 s * 25 fps = 12.5 -> 12, 37.5 -> 38, 62.5 -> 62
    assert fps_indices(1, 10.0, 25).tolist() == [12, 38, 62, 88, 112, 138, 162, 188, 212, 238]
    # at 0.25, 0.75, 1.25, 1.75 s * 29.97 = 7.49, 22.48, 37.46, 52.45; later ones cut
    assert fps_indices(2, 95 / 29.97, 29.97, 95, max_num_frames=4).tolist() == [7, 22, 37, 52]
    assert fps_indices(1, 0.2, 25, 5).tolist() == [0]  # 0.5 s lies past the end


def test_fps_counts_a_step_that_has_begun_unless_its_middle_is_past_the_last_frame():
    # 10.2 s are five steps of 2 s and the begin of a sixth, whose middle is at 11 s: frame 330
    assert fps_indices(0.5, 10.2, 30).tolist() == [30, 90, 150, 210, 270, 330]
    assert fps_indices(0.5, 10.2, 30, 331).tolist() == [30, 90, 150, 210, 270, 330]
    assert fps_indices(0.5, 10.2, 30, 330).tolist() == [30, 90, 150, 210, 270]
    assert fps_indices(0.5, 10.2, 30, max_num_frames=1).tolist() == [30]


@pytest.mark.parametrize("rule", ["middle", "rand", "trimmed1", "rand_trimmed1", "rand_upstream", "fps2"])
@pytest.mark.parametrize("num_frames", [1, 100])
def test_every_rule_gives_indices_of_frames_in_order(rule, num_frames):
    clip = Clip(num_frames, fps=25.0)
    indices = sample_indices(rule, 8, clip, np.random.default_rng(0))
    assert indices.dtype == np.int64
    assert (np.diff(indices) >= 0).all() and 0 <= indices[0] <= indices[-1] < num_frames


def test_trimmed_counts_the_first_seconds_only():
    assert trimmed_length(1500, 25.0) == 750  # 60 s -> 30 s
    assert trimmed_length(1000, 29.97) == 899  # 33.4 s; int(899.1)
    assert trimmed_length(750, 25.0) == 750  # exactly 30 s stays whole
    assert trimmed_length(100, 25.0, max_s=2) == 50
    assert trimmed_length(100, 25.0) == 100  # 4 s
    assert trimmed_length(5, 0.5, max_s=1) == 1  # a frame each 2 s: one is kept


def test_rules_by_name():
    clip = Clip(num_frames=1500, fps=25.0)
    assert sample_indices("middle", 1, clip).tolist() == [749]
    assert sample_indices("trimmed30", 1, clip).tolist() == [374]  # (0+749)//2
    short = Clip(num_frames=9, fps=25.0)  # of 8 intervals in 9 frames most have one frame: upstream draws from all 9
    drawn = [sample_indices("rand_upstream", 8, short, np.random.default_rng(seed)).tolist() for seed in range(50)]
    assert drawn == [rand_indices(8, 9, np.random.default_rng(seed), upstream=True).tolist() for seed in range(50)]
    assert sample_indices("fps0.1", 0, clip).tolist() == [125, 375, 625, 875, 1125, 1375]  # at 5, 15, ... s
    assert sample_indices("fps0.1", 2, clip).tolist() == [125, 375]
    # 62 s are six steps of 10 s and the begin of a seventh, whose middle is past the end
    assert sample_indices("fps0.1", 0, Clip(1550, 25.0)).tolist() == [125, 375, 625, 875, 1125, 1375]
    drawn = {
        rule: [sample_indices(rule, 2, clip, np.random.default_rng(seed)) for seed in range(300)]
        for rule in ("rand", "rand_trimmed30")
    }
    for rule, half in (("rand", 750), ("rand_trimmed30", 375)):  # of 1500 frames, and of the 750 of 30 s
        first, second = np.array(drawn[rule]).T
        assert 0 <= first.min() < 20 < half - 20 < first.max() < half
        assert half <= second.min() < half + 20 < 2 * half - 20 < second.max() < 2 * half


@pytest.mark.parametrize(
    "rule", ["", "uniform", "fps", "fps0", "fps-1", "fpsx", "trimmed", "rand30", "Middle", "middle "]
)
def test_an_unknown_rule_is_refused_with_the_choices(rule):
    with pytest.raises(VmrError, match="choose middle, rand, fpsR"):
        check_rule(rule)
    with pytest.raises(VmrError, match="choose middle, rand, fpsR"):
        sample_indices(rule, 8, Clip(100, 25.0))


def test_the_message_about_an_unknown_rule_shows_each_rule():
    with pytest.raises(VmrError) as caught:
        check_rule("fps0")
    assert str(caught.value) == (
        "no sampling rule 'fps0': choose middle, rand, fpsR (such as fps2), trimmedN or rand_trimmedN "
        "(such as trimmed30), or rand_upstream"
    )


def test_rand_without_a_generator_is_refused():
    for rule in ("rand", "rand_trimmed30"):
        with pytest.raises(VmrError, match=f"'{rule}' needs a random generator: pass rng"):
            sample_indices(rule, 8, Clip(100, 25.0))


def test_no_frames_to_take_from():
    with pytest.raises(ValueError, match="video of 0"):
        middle_indices(8, 0)


def test_a_window_shows_the_frames_that_begin_in_it():
    uneven = np.array([0, 0.1, 0.2, 1.0, 2.0, 3.0])
    assert shown_in(uneven, 0.0, 1.0) == (0, 3)
    assert shown_in(uneven, 1.0, 3.0) == (3, 5)
    assert shown_in(uneven, 1.1, 1.9) == (4, 4)


def test_a_frame_that_begins_with_a_window_belongs_to_it_in_spite_of_rounding():
    assert 3 * 0.1 > 0.3
    shown = np.array([0.2, 0.25, 0.3, 0.35, 0.4])
    assert shown_in(shown, 3 * 0.1, 0.4) == (2, 4)
    assert shown_in(shown, 0.25, 3 * 0.1) == (1, 2)  # not to the window before
    # half a millisecond is no rounding
    assert shown_in(np.array([0.2, 0.2995, 0.35]), 0.3, 0.4) == (2, 3)
    assert shown_in(np.array([0.2, 0.2995, 0.35]), 0.2, 0.3) == (0, 2)


STEADY = np.arange(500) * 0.04  # 20 s at 25 frames a second


def on_grid(spans, timestamps_s=STEADY, duration_s=20.0, num_frames=4, window_s=4.0, keys=None):
    keys = None if keys is None else np.array(keys)
    return grid_indices(np.array(timestamps_s), duration_s, num_frames, spans, window_s, keys).tolist()


def test_a_frame_is_shown_until_the_next_begins():
    shown = np.array([0.0, 0.5, 10.0])
    times_s = np.array([-1.0, 0.0, 0.4, 0.5 - 1e-9, 0.5, 9.99, 10.0, 99.0])
    assert shown_at(shown, times_s).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_full_windows_take_the_points_of_the_grid_and_share_them():
    # 8 points in 8 s: 0.5 s, 1.5 s, ...; frame 12 is shown from 0.48 s on, frame 37 from 1.48 s on
    first, second = on_grid([(0, 8), (4, 12)], num_frames=8, window_s=8.0)
    assert first == [12, 37, 62, 87, 112, 137, 162, 187]
    assert second == [112, 137, 162, 187, 212, 237, 262, 287]
    # frame n of 29.97 a second begins at n * 1001 / 30000 s: 0.5 s is in frame 14, 1.5 s in 44, ..., 5.5 s in 164
    ntsc = np.arange(300) * 1001 / 30000
    assert on_grid([(0, 4), (2, 6)], ntsc, 300 * 1001 / 30000) == [[14, 44, 74, 104], [74, 104, 134, 164]]


def test_many_windows_take_no_more_frames_than_the_grid_has():
    for stride_s in (4.0, 2.0, 3.0, 1.7, 0.3):
        spans = [(start, min(start + 8, 20.0)) for start in np.arange(0, 16, stride_s)]
        assert len(np.unique(on_grid(spans, num_frames=8, window_s=8.0))) <= 20
    tenths = [(k * 0.1, k * 0.1 + 0.8) for k in range(190)]  # 3 * 0.1 is no multiple of 0.1, but is meant to be
    for k, frames in enumerate(on_grid(tenths, num_frames=8, window_s=0.8)):
        assert frames == shown_at(STEADY, (np.arange(k, k + 8) + 0.5) * 0.1).tolist()


def test_a_grid_point_is_what_is_shown_at_a_variable_rate():
    uneven = [0, 0.1, 0.2, 1.0, 2.0, 3.0]  # 0.5 s shows frame 2, 1.5 s frame 3, ...
    spans = [(0, 2), (1, 3), (2, 4)]
    assert on_grid(spans, uneven, 4.0, num_frames=2, window_s=2.0) == [[2, 3], [3, 4], [4, 5]]


def test_a_held_picture_stands_for_all_of_its_time():
    held = [*np.arange(25) * 0.04, 10.0]
    assert on_grid([(0, 4), (4, 8), (8, 12)], held, 12.0) == [[12, 24, 24, 24], [24] * 4, [24, 24, 25, 25]]


def test_a_video_shorter_than_a_window_has_a_finer_grid():
    # 2 s, 4 points: 0.25 s (frame 6, from 0.24 s on), 0.75 s (18), 1.25 s (31), 1.75 s (43)
    halves = on_grid([(0, 1), (1, 2)], STEADY[:50], 2.0, window_s=8.0)
    assert halves == [[6, 6, 18, 18], [31, 31, 43, 43]]
    # as a whole it is cut at frames 0, 12, 25, 37 and 50, and the middle of 0 to 11 is 5, as of a video without windows
    assert on_grid([(0, 2)], STEADY[:50], 2.0, window_s=8.0) == [[5, 18, 30, 43]]
    assert on_grid([(0, 0.04)], [0.0], 0.04) == [[0] * 4]


def test_a_shorter_last_window_takes_points_of_the_grid_twice():
    # [8, 10) holds the points 8.5 s (frame 212) and 9.5 s (237)
    assert on_grid([(4, 8), (8, 10)], STEADY[:250], 10.0) == [[112, 137, 162, 187], [212, 212, 237, 237]]
    assert on_grid([(0, 20)]) == [[62, 187, 312, 437]]  # the whole video: 2.5, 7.5, 12.5 and 17.5 s


@pytest.mark.parametrize(
    ("start_s", "frames"),
    [
        (1.3, [37, 62, 87, 112]),  # 1.8 s, 2.8 s, ... go to 1.5 s (frame 37), 2.5 s, ...
        (1.5, [37, 62, 87, 112]),  # 2 s is half-way and goes down
        (1.7, [62, 87, 112, 137]),  # 2.2 s goes to 2.5 s (frame 62), ..., 5.2 s to 5.5 s
        (1.5 + 1e-9, [37, 62, 87, 112]),
    ],
)
def test_a_start_that_is_no_multiple_of_the_step_takes_the_nearest_points(start_s, frames):
    assert on_grid([(start_s, start_s + 4)]) == [frames]


def test_points_outside_a_window_are_not_taken():
    assert on_grid([(1.6, 4.0)]) == [[62, 62, 87, 87]]  # 1.9 s and 2.5 s to 2.5 s; not to 1.5 s
    assert on_grid([(1.6, 2.2), (3.0, 3.0)]) == [[47] * 4, [75] * 4]  # no point: 1.9 s is in frame 47


def test_of_two_middle_frames_the_first_is_taken():
    # two frames a second: the second of each begins at the grid point, so it is the first that is shown before
    halves = np.arange(12) * 0.5
    assert on_grid([(0, 4), (2, 6)], halves, 6.0) == [[0, 2, 4, 6], [4, 6, 8, 10]]
    assert middle_indices(4, 8).tolist() == [0, 2, 4, 6]
    for early_s, first in ((1e-9, 0), (1e-3, 1)):
        halves[1] = 0.5 - early_s
        assert on_grid([(0, 4)], halves, 6.0) == [[first, 2, 4, 6]]


def test_grid_points_move_to_the_nearest_key_frame_in_the_window():
    keys = [0, 50, 100, 150]  # at 0, 2, 4 and 6 s
    # 0.5 s -> 0; 1.5, 2.5 and 3.5 s -> 2 s, because 4 s is not in the window
    assert on_grid([(0, 4), (2, 6)], keys=keys) == [[0, 50, 50, 50], [50, 100, 100, 100]]
    # none begins in the window: 2.5 s -> 2 s, 3.5 s -> 4 s; of 4 s and 6 s, 5 s takes the first
    assert on_grid([(2.2, 3.8), (4.1, 5.9)], num_frames=2, window_s=2.0, keys=keys) == [[50, 100], [100, 150]]
    assert on_grid([(4.9, 5.1)], num_frames=1, window_s=2.0, keys=keys) == [[100]]
    assert on_grid([(0, 4), (16, 20)], keys=[0]) == [[0] * 4, [0] * 4]


@pytest.mark.parametrize(("num_frames", "window_s", "duration_s"), [(0, 4.0, 20.0), (4, 0.0, 20.0), (4, 4.0, 0.0)])
def test_a_grid_needs_frames_and_time(num_frames, window_s, duration_s):
    with pytest.raises(ValueError, match="no grid of"):
        on_grid([(0, 4)], STEADY, duration_s, num_frames, window_s)
