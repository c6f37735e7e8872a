"""The world of the synthetic benchmark: the pixels show what the sentences say."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from vmr.data.shapes.drawing import cover, render
from vmr.data.shapes.world import (
    COLORS,
    DIRECTIONS,
    KINDS,
    NUM_OBJECTS,
    RELATIONS,
    SHAPES,
    Scene,
    ShapeObject,
    draw_layout,
    shape_object,
)
from vmr.errors import VmrError

PROTOTYPE = Path(__file__).parents[3] / "shared/prototypes/shapes/world.py"

RED_LEFT = ShapeObject("red", "circle", "left", "slowly")
BLUE_UP = ShapeObject("blue", "square", "up", "quickly")
RED_IN = ShapeObject("red", "circle", "left", "enters")
BLUE_OUT = ShapeObject("blue", "square", "up", "leaves")
STEPS = {"slowly": (1.3, 1.8), "quickly": (3.64, 5.04)}  # px per frame: 0.5 and 1.4 times 2.6 to 3.6
WAYS = list(itertools.product(DIRECTIONS, STEPS))


def covered(scene, seed):
    """Each object's own pixels, even where the other hides them: bool, (2, T, 64, 64)."""
    layout = draw_layout(scene, np.random.default_rng(seed))
    shapes = (scene.first.shape, scene.second.shape)
    return np.stack([cover(*drawn, np.arange(64)) for drawn in zip(shapes, layout.radii, layout.centers, strict=True)])


def grown(masks):
    """Masks (T, H, W) grown by a pixel to all eight sides."""
    wide = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    return np.any([wide[:, y : y + 64, x : x + 64] for y, x in itertools.product(range(3), repeat=2)], axis=0)


def centroid(mask):
    """Mean (x, y) of a mask (H, W)."""
    return np.argwhere(mask).mean(axis=0)[::-1]


def two(first, second, first_shape="circle", second_shape="square", relation="and"):
    """A scene of a red and a blue shape, whose (direction, manner) are given."""
    return Scene(ShapeObject("red", first_shape, *first), ShapeObject("blue", second_shape, *second), relation)


# Sentences


def test_captions():
    assert Scene(RED_LEFT, BLUE_UP).captions == (
        "a red circle moves slowly left and a blue square moves quickly up",
        "a blue square moves quickly up and a red circle moves slowly left",
    )
    assert Scene(RED_LEFT, BLUE_UP, "before").captions == (
        "a red circle moves slowly left before a blue square moves quickly up",
        "a blue square moves quickly up after a red circle moves slowly left",
    )
    assert Scene(RED_LEFT, BLUE_UP, "after").captions == (
        "a red circle moves slowly left after a blue square moves quickly up",
        "a blue square moves quickly up before a red circle moves slowly left",
    )
    assert Scene(RED_IN, BLUE_OUT).captions == (
        "a red circle enters from the right and a blue square leaves at the top",
        "a blue square leaves at the top and a red circle enters from the right",
    )
    assert Scene(RED_LEFT, BLUE_UP, "bounce").captions == (
        "a red circle moves slowly left and a blue square moves quickly up and they collide and bounce apart",
        "a blue square moves quickly up and a red circle moves slowly left and they collide and bounce apart",
    )
    assert Scene(RED_LEFT, BLUE_UP, "pass").captions[0] == (
        "a red circle moves slowly left and a blue square moves quickly up and they pass without touching"
    )


def test_objects_have_words_of_their_own():
    # 6 colours x 4 shapes x 4 directions x 2 manners
    assert NUM_OBJECTS == 192
    for kind in KINDS:
        assert len({str(shape_object(number, kind)) for number in range(192)}) == 192
    assert str(shape_object(0, "pairs")) == "a red circle moves slowly left"
    # 191 = 5 + 6 * (3 + 4 * (3 + 4 * 1))
    assert str(shape_object(191, "order")) == "a white cross moves quickly down"
    assert str(shape_object(191, "passage")) == "a white cross leaves at the bottom"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShapeObject("pink", "circle", "left", "slowly"), "unknown color 'pink': one of red, green"),
        (lambda: ShapeObject("red", "circle", "left", "fast"), "unknown manner 'fast': one of slowly, quickly, enters"),
        (lambda: Scene(RED_LEFT, BLUE_UP, "while"), "unknown relation 'while': one of and, before, after, bounce"),
        (lambda: Scene(RED_LEFT, BLUE_OUT), "objects that enter or leave must both do so, at the same time"),
        (lambda: Scene(RED_IN, BLUE_OUT, "before"), "objects that enter or leave must both do so"),
        (lambda: two(("up", "slowly"), ("up", "quickly"), relation="bounce"), "both move up do not meet"),
    ],
)
def test_impossible_scenes_are_refused(make, message):
    with pytest.raises(VmrError, match=message):
        make()


# Pixels

# Radius 4: a square of half side 3.6, a tip 4.8 above the centre, a base 3.2 below it, arms of half width 1.4.
DRAWN = {
    "circle": """
        .....#.....
        ...#####...
        ..#######..
        ..#######..
        .#########.
        ..#######..
        ..#######..
        ...#####...
        .....#.....
    """,
    "square": """
        ...........
        ..#######..
        ..#######..
        ..#######..
        ..#######..
        ..#######..
        ..#######..
        ..#######..
        ...........
    """,
    "triangle": """
        .....#.....
        .....#.....
        ....###....
        ....###....
        ...#####...
        ...#####...
        ..#######..
        ..#######..
        ...........
    """,
    "cross": """
        ....###....
        ....###....
        ....###....
        .#########.
        .#########.
        .#########.
        ....###....
        ....###....
        ....###....
    """,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_as_drawn_by_hand(shape):
    expected = np.array([[dot == "#" for dot in line] for line in DRAWN[shape].split()])
    # Rows 1 to 9 of 11: the centre is at (5, 5), and in the second frame one to the right.
    shown = cover(shape, 4.0, np.array([[5.0, 5.0], [6.0, 5.0]]), np.arange(11.0))
    assert np.array_equal(shown[0, 1:10], expected)
    assert np.array_equal(shown[1, :, 1:], shown[0, :, :-1])
    assert not shown[:, 0].any() and not shown[:, 10].any()


def test_slowly_left_is_further_left_in_every_frame():
    frames = render(Scene(RED_LEFT, BLUE_UP), (0,)).astype(int)
    places = np.array([centroid((frame == np.array([230, 40, 40])[:, None, None]).all(axis=0)) for frame in frames])
    left = places[0, 0] - places[:, 0]
    step = left[7] / 7
    assert 1.3 <= step <= 1.8
    assert left == pytest.approx(step * np.arange(8), abs=0.3)
    assert places[:, 1] == pytest.approx(places[0, 1], abs=0.2)


def test_frames_follow_from_the_seed():
    scene = Scene(RED_LEFT, BLUE_UP)
    frames = render(scene, (5, 6))
    assert frames.shape == (8, 3, 64, 64)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, render(scene, (5, 6)))
    assert not np.array_equal(frames, render(scene, (5, 7)))
    # What shows no object stands still and is dark: at most 69 and a grain of 8.
    still = ~covered(scene, (5, 6)).any(axis=(0, 1))
    assert (frames[:, :, still] == frames[0][:, still]).all()
    assert frames[:, :, still].max() <= 77


def test_every_object_moves_as_it_is_said_to():
    for number in range(192):
        scene = Scene(shape_object(number, "pairs"), RED_LEFT)
        layout = draw_layout(scene, np.random.default_rng(number))
        low, high = STEPS[scene.first.manner]
        way = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[scene.first.direction]
        steps = np.diff(layout.centers[0], axis=0)  # (7, 2)
        assert (low <= steps @ way).all() and (steps @ way <= high).all()
        assert steps == pytest.approx(np.outer(steps[0] @ way * np.ones(7), way))
        assert 7 <= min(layout.radii) <= max(layout.radii) <= 10
        for radius, centers in zip(layout.radii, layout.centers, strict=True):
            assert (radius - 1e-9 <= centers).all() and (centers <= 64 - radius + 1e-9).all()


def test_other_sizes_and_lengths_show_the_same_scene():
    scene = Scene(RED_LEFT, BLUE_UP)
    frames = render(scene, (1,))
    # The middle of each of 4 equal parts of 8 frames, rounded down; of the only part; all 8 and the last again.
    assert np.array_equal(render(scene, (1,), num_frames=4), frames[[0, 2, 4, 6]])
    assert np.array_equal(render(scene, (1,), num_frames=1), frames[[3]])
    assert np.array_equal(render(scene, (1,), num_frames=9), frames[[0, 1, 2, 3, 4, 5, 6, 7, 7]])
    for size in (32, 96):
        other = render(scene, (1,), size=size)
        assert other.shape == (8, 3, size, size)
        for color in ("red", "blue"):
            here, there = ((clip[7] == np.array(COLORS[color])[:, None, None]).all(axis=0) for clip in (frames, other))
            assert (centroid(there) + 0.5) * 64 / size - 0.5 == pytest.approx(centroid(here), abs=0.5)
            assert there.sum() * (64 / size) ** 2 == pytest.approx(here.sum(), rel=0.15)


@pytest.mark.skipif(not PROTOTYPE.exists(), reason="the prototype of the benchmark is missing")
def test_pairs_are_those_of_the_prototype():
    """The pairs are equal, so that scores on the prototype stay comparable."""
    spec = importlib.util.spec_from_file_location("world", PROTOTYPE)
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    for seed in range(100):
        first, second = np.random.default_rng(1000 + seed).integers(0, 192, 2).tolist()
        scene = Scene(shape_object(first, "pairs"), shape_object(second, "pairs"))
        assert scene.captions[0] == world.cap(first, second)
        assert np.array_equal(render(scene, (seed,)), world.render(first, second, np.random.default_rng((seed,))))


# What takes time to see


@pytest.mark.parametrize("relation", ["before", "after"])
def test_one_moves_before_or_after_the_other(relation):
    for seed, (first, second) in enumerate(itertools.product(WAYS, WAYS)):
        scene = two(first, second, relation=relation)
        layout = draw_layout(scene, np.random.default_rng(seed))
        early, late = layout.centers if relation == "before" else layout.centers[::-1]
        ways = (first, second) if relation == "before" else (second, first)
        assert (early[3:] == early[3]).all() and (late[:5] == late[0]).all()
        for (direction, speed), steps in zip(ways, (early[3] - early[0], late[7] - late[4]), strict=True):
            low, high = STEPS[speed]
            assert 3 * low <= steps @ DIRECTIONS[direction] <= 3 * high  # three steps
        one, other = covered(scene, seed)
        assert not (grown(one) & other).any()


def test_what_enters_is_first_seen_later_and_what_leaves_is_gone_at_last():
    for number, (direction, shape) in enumerate(itertools.product(DIRECTIONS, SHAPES)):
        scene = two((direction, "enters"), (direction, "leaves"), shape, shape)
        entering, leaving = covered(scene, number).sum(axis=(2, 3))  # pixels in each frame
        assert entering[0] == leaving[7] == 0
        # Whole at the other end: the area of the shape in radii, as drawn in test_shapes_as_drawn_by_hand.
        area = {"circle": np.pi, "square": 1.8**2, "triangle": 2 * 2 / 2, "cross": 2 * 2 * 0.7 - 0.7**2}[shape]
        radii = draw_layout(scene, np.random.default_rng(number)).radii
        assert entering[7] == pytest.approx(area * radii[0] ** 2, rel=0.15)
        assert leaving[0] == pytest.approx(area * radii[1] ** 2, rel=0.15)
        assert (np.diff(entering) >= -0.15 * entering[7]).all()  # grows, but for a row of pixels
        # It is first seen at the side that the caption names, and last.
        axis, positive = {"left": (1, 0), "right": (1, 1), "up": (0, 0), "down": (0, 1)}[direction]
        masks = covered(scene, number)
        frame_in, frame_out = np.flatnonzero(entering)[0], np.flatnonzero(leaving)[-1]
        assert np.argwhere(masks[0, frame_in])[:, axis].mean() == pytest.approx(63 * (1 - positive), abs=12)
        assert np.argwhere(masks[1, frame_out])[:, axis].mean() == pytest.approx(63 * positive, abs=12)


MEETINGS = [(a, b) for a, b in itertools.product(WAYS, WAYS) if a[0] != b[0]]


def test_two_that_collide_touch_once_and_go_back():
    looks = list(itertools.product(SHAPES, SHAPES))
    for seed, (first, second) in enumerate(MEETINGS * 2):
        scene = two(first, second, *looks[seed % len(looks)], relation="bounce")
        layout = draw_layout(scene, np.random.default_rng(seed))
        turns = set()
        for (direction, speed), centers in zip((first, second), layout.centers, strict=True):
            steps = np.diff(centers, axis=0) @ DIRECTIONS[direction]
            low, high = STEPS[speed]
            assert (abs(steps) >= low).all() and (abs(steps) <= high).all()
            turns.add(int((steps > 0).sum()))
            assert (steps > 0).tolist() == [True] * max(turns) + [False] * (7 - max(turns))
        (turn,) = turns  # the frame in which both turn round
        assert turn in (3, 4)
        one, other = covered(scene, seed)
        # The corner of a shape may reach between two pixels, so that one pixel shows between shapes that touch.
        assert (grown(grown(one)) & other)[turn].any(), scene.captions[0]
        assert not (one & other).any()
        distances = np.hypot(*(layout.centers[0] - layout.centers[1]).T)
        assert distances.argmin() == turn


def test_two_that_pass_go_on_and_never_touch():
    looks = list(itertools.product(SHAPES, SHAPES))
    for seed, (first, second) in enumerate(MEETINGS * 2):
        scene = two(first, second, *looks[seed % len(looks)], relation="pass")
        layout = draw_layout(scene, np.random.default_rng(seed))
        for (direction, speed), centers in zip((first, second), layout.centers, strict=True):
            steps = np.diff(centers, axis=0) @ DIRECTIONS[direction]
            low, high = STEPS[speed]
            assert (steps >= low).all() and (steps <= high).all()
        one, other = covered(scene, seed)
        assert not (grown(grown(one)) & other).any(), scene.captions[0]
        distances = np.hypot(*(layout.centers[0] - layout.centers[1]).T)
        assert distances.argmin() in (3, 4)
        # Near enough to have met: at most 1.5 radii to a corner, and a gap of at most 7.
        assert distances.min() <= 1.5 * sum(layout.radii) + 7


def test_relations_name_every_kind():
    assert set(RELATIONS) == set(KINDS)
