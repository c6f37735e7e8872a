"""shapes-actions: no set of frames and no single frame tells the class, and the frames in order always do."""

import pickle
from collections import Counter

import numpy as np
import pytest

from vmr.data.shapes.actions import (
    ACTIONS,
    TEST_LAYOUTS,
    TEST_LOOKS,
    TRAIN_LOOKS,
    Action,
    action_centers,
    draw_action_layout,
    render_action,
    render_test_action,
)
from vmr.data.shapes.world import COLORS, SHAPES, SIZE
from vmr.data.sources.shapes_actions import ShapesActionsSource
from vmr.data.sources.source import LabelledData
from vmr.errors import VmrError
from vmr.eval.controls import shuffled_order, static_order

CHANCE = 1 / len(ACTIONS)


def centers_of(action, scene, num_frames):
    """Of both shapes in a test clip, (2, T, 2)."""
    return action_centers(action, draw_action_layout(TEST_LOOKS, np.random.default_rng(scene)), num_frames)


def solve(centers):
    """Tell the class from the places of both shapes. In the third quarter they rest."""
    per_quarter = centers.shape[1] // 4
    middles, arms = centers.mean(axis=0), centers[1] - centers[0]
    rest = 2 * per_quarter
    found, turn, side = {}, "clockwise", "right"
    for quarter in (0, 1, 3):
        now = slice(quarter * per_quarter, quarter * per_quarter + per_quarter // 2)  # the first half of the event
        shift = (middles[now] - middles[rest]).sum(axis=0)
        crossed = (arms[rest, 0] * arms[now, 1] - arms[rest, 1] * arms[now, 0]).sum()
        if abs(shift[0]) > 0.1:
            found["sway"], side = quarter, "right" if shift[0] > 0 else "left"
        elif abs(crossed) > 0.1:
            found["orbit"], turn = quarter, "clockwise" if crossed > 0 else "anticlockwise"
        else:
            found["meet"] = quarter
    order = tuple(sorted({"orbit": 0, "sway": 0, "meet": 0, **found}, key=lambda event: found.get(event, 9)))
    return Action(order, turn, side)


def accuracy(num_frames, order=None):
    """Of the solver, on 20 scenes in all classes, with the frames in another order."""
    frames = slice(None) if order is None else order
    tested = [(action, scene) for scene in range(20) for action in ACTIONS]
    return np.mean([solve(centers_of(*one, num_frames)[:, frames]) == one[0] for one in tested])


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_the_frames_in_order_tell_the_class(num_frames):
    assert accuracy(num_frames) == 1


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_a_solver_has_chance_on_the_controls(num_frames):
    assert accuracy(num_frames, static_order(num_frames)) == pytest.approx(CHANCE)
    assert accuracy(num_frames, shuffled_order(num_frames)) < 2.1 * CHANCE


def test_a_solver_has_chance_on_frames_in_any_wrong_order():
    """What a fixed order does to the class is a riddle of its own, so many are tried."""
    rng = np.random.default_rng(0)
    assert np.mean([accuracy(8, rng.permutation(8)) for _ in range(8)]) == pytest.approx(CHANCE, abs=0.03)


@pytest.mark.parametrize(("num_frames", "scenes"), [(4, 3), (8, 3), (16, 1), (32, 1)])
def test_all_classes_show_the_same_set_of_frames(num_frames, scenes):
    for scene in range(scenes):
        clips = [render_action(label, (scene,), num_frames) for label in range(len(ACTIONS))]
        assert len({frozenset(Counter(frame.tobytes() for frame in clip).items()) for clip in clips}) == 1
        # Four frames show each event in its middle, where both directions look the same.
        assert len({clip.tobytes() for clip in clips}) == (6 if num_frames == 4 else 24)
        assert len({clip[num_frames // 2].tobytes() for clip in clips}) == 1  # what the static control repeats


@pytest.mark.parametrize("num_frames", [8, 32])
def test_a_clip_played_backwards_is_of_the_reversed_class(num_frames):
    """Only the rest is then in the second quarter."""
    turned = {"clockwise": "anticlockwise", "anticlockwise": "clockwise", "right": "left", "left": "right"}
    for action in ACTIONS:
        reverse = Action(action.order[::-1], turned[action.turn], turned[action.side])
        assert reverse in ACTIONS and reverse != action
        quarters = np.split(centers_of(reverse, 1, num_frames)[:, ::-1], 4, axis=1)  # event, rest, event, event
        played = np.concatenate([quarters[0], quarters[2], quarters[1], quarters[3]], axis=1)
        assert played == pytest.approx(centers_of(action, 1, num_frames), abs=1e-6)


def test_more_frames_show_the_same_motion():
    for action in ACTIONS[::5]:
        fine = centers_of(action, 3, 128)
        for num_frames in (4, 8, 16, 32):
            step = 128 // num_frames
            between = (fine[:, step // 2 - 1 :: step] + fine[:, step // 2 :: step]) / 2
            assert abs(between - centers_of(action, 3, num_frames)).max() < 1


def test_shapes_stay_in_the_picture_and_touch_when_they_meet():
    for scene in range(300):
        layout = draw_action_layout(TRAIN_LOOKS, np.random.default_rng(scene))
        centers = action_centers(ACTIONS[0], layout, 32)
        radii = np.array(layout.radii)[:, None, None]
        assert (centers - radii > 0).all() and (centers + radii < SIZE).all()
        apart = np.hypot(*(centers[1] - centers[0]).T)
        assert apart.min() < apart[16] and apart.min() > 0.35 * sum(layout.radii)  # two thin bars of crosses


def test_looks_of_the_test_are_not_trained_on():
    assert not set(TEST_LOOKS) & set(TRAIN_LOOKS)
    assert len(TEST_LOOKS) + len(TRAIN_LOOKS) == len(COLORS) * len(SHAPES)
    for looks in (TEST_LOOKS, TRAIN_LOOKS):
        assert {color for color, _ in looks} == set(COLORS) and {shape for _, shape in looks} == set(SHAPES)
    for scene in range(50):
        (first, _), (second, _) = draw_action_layout(TEST_LOOKS, np.random.default_rng(scene)).looks
        assert first != second


def test_classes_have_different_names_and_test_clips_are_fixed():
    assert len({str(action) for action in ACTIONS}) == len(ACTIONS) == 24
    assert str(ACTIONS[0]) == "orbit clockwise, sway right first, meet"
    last = len(ACTIONS) * TEST_LAYOUTS - 1
    clip = render_test_action(last, 8, 32)
    assert clip.shape == (8, 3, 32, 32) and clip.dtype == np.uint8
    assert (clip == render_test_action(last, 8, 32)).all()
    assert (clip != render_test_action(last - 24, 8, 32)).any()
    with pytest.raises(VmrError, match="classes 0 to 23, not 24"):
        render_action(24, (0,), 8)


def test_the_source_is_labelled_and_follows_from_the_seed_alone():
    source = ShapesActionsSource(num_clips=48, seed=5)
    assert isinstance(source, LabelledData) and source.num_outputs == len(source.classes) == 24
    rng = np.random.default_rng(0)
    pairs = [source.pair(index, rng) for index in range(48)]
    assert sorted(Counter(pair.label for pair in pairs).values()) == [2] * 24
    assert [pair.id for pair in pairs] == list(range(48))
    assert pairs[7].caption == source.classes[7]
    again = pickle.loads(pickle.dumps(source)).pair(7, rng)
    assert (again.make(8, 32) == pairs[7].make(8, 32)).all()
    assert (ShapesActionsSource(48, seed=6).pair(7, rng).make(8, 32) != again.make(8, 32)).any()
    for wrong in ({"num_clips": 0}, {"seed": -1}):
        with pytest.raises(VmrError, match="shapes_actions needs"):
            ShapesActionsSource(**wrong)
    with pytest.raises(IndexError):
        source.pair(48, rng)
