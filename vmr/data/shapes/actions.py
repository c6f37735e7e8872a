"""`shapes-actions`: 24 classes of motion that only the order of the frames tells.

Two shapes rest somewhere in a picture without edges: what leaves it on one side enters it on the other. Four things
happen, one in each quarter of the clip, and after each of them everything is where it was:

    circle   one of the two goes once around a circle, clockwise or anticlockwise
    slide    one of the two leaves on the right and comes back from the left, or the other way round
    dip      one of the two moves down, turns back and moves up again
    meet     the two move towards each other, touch, bounce and part (if they cover each other, they part and come back)

A class says in which order circle, slide and dip happen (6 orders), which way round the circle is (2) and which way
the slide goes (2). When the meeting happens is left to chance, like all that a class does not say: looks, sizes,
places, who of the two moves, how far and how fast. Class number = 4 * order + 2 * turn + side, see `ACTIONS`.

Why the order of the frames is needed, for every class alike:

- **All classes show the same pictures.** Each of the four paths is closed, begins and ends at the same state of the
  world, and is gone through at a speed that is symmetric in time. So neither the order of the four nor the way round of
  one of them changes which pictures a clip has, only their order: a scene drawn in all 24 classes gives 24 clips with
  exactly the same set of frames (`tests/unit/test_shapes_actions.py` compares the pixels). Whoever sees a set of frames
  without their order has chance, 1 in 24.
- **No picture tells when it is shown.** The places of rest are drawn uniformly over the picture without edges, each by
  itself. Whatever shift the event of the moment adds, the places of both shapes in any frame are again uniform and
  independent of the class. Whoever sees one frame, even with its number, has chance. (The one event that moves both,
  the meeting, does not depend on the class.)
- **Each class is another one played backwards**: the order, the turn and the side are all turned round.

So a network needs the order of the events over the whole clip (right order alone: 1 in 4), and the direction within two
of them (right directions alone: 1 in 6). With 4 frames each event shows one picture, at its middle, which is the same
in both directions: more than 25 % is not possible with 4 frames. From 8 frames on a solver of a few lines is always
right.

Lengths are in px of a picture of 64 x 64 px; x points to the right and y downwards. Times are shares of the clip, so a
clip of 4, 8, 16 or 32 frames shows the same motion: frame i of T is the state at (i + 0.5) / T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vmr.data.shapes.drawing import ClipPixels, paint
from vmr.data.shapes.world import COLORS, SHAPES, SIZE, Floats, reach
from vmr.errors import VmrError

ACTIONS_VERSION = 1  # raise it when the same seed gives other clips or other pixels

Event = Literal["circle", "slide", "dip", "meet"]
Look: TypeAlias = tuple[str, str]
"""A key of COLORS, and one of SHAPES."""

TEST_LAYOUTS = 40
"""Scenes of the test, each of which is drawn in all 24 classes."""

_NUM_QUARTERS = 4
_TRAIN, _TEST = 1, 2  # the second entry of all seeds
_RADIUS = (6.0, 9.0)
_CIRCLE_RADIUS = (9.0, 12.0)
_DIP_DEPTH = (16.0, 24.0)
_REST = (0.0, 0.1)  # shares of its quarter that an event waits before it begins, and after it has ended
_DIGITS = 9  # mirrored times must give equal places, whatever the rounding of floats


@dataclass(frozen=True)
class Action:
    """A class of `shapes-actions`.

    Attributes:
        order: circle, slide and dip, in the order in which they happen.
        turn: which way round the circle is.
        side: the side on which the sliding shape leaves.
    """

    order: tuple[Event, Event, Event]
    turn: Literal["clockwise", "anticlockwise"]
    side: Literal["right", "left"]

    def __str__(self) -> str:
        words = {"circle": f"circle {self.turn}", "slide": f"slide {self.side}", "dip": "dip"}
        return ", ".join(words[event] for event in self.order)

    @property
    def backwards(self) -> "Action":
        """The class of a clip of this class that is played backwards."""
        first, second, third = self.order
        turn: Literal["clockwise", "anticlockwise"] = "anticlockwise" if self.turn == "clockwise" else "clockwise"
        return Action((third, second, first), turn, "left" if self.side == "right" else "right")


_ORDERS: tuple[tuple[Event, Event, Event], ...] = tuple(permutations(("circle", "slide", "dip")))  # type: ignore[arg-type]
ACTIONS: tuple[Action, ...] = tuple(
    Action(order, turn, side)
    for order in _ORDERS
    for turn in ("clockwise", "anticlockwise")
    for side in ("right", "left")
)
"""The classes by their numbers."""

_LOOKS: tuple[Look, ...] = tuple((color, shape) for color in COLORS for shape in SHAPES)
TEST_LOOKS: tuple[Look, ...] = tuple((color, SHAPES[-number % len(SHAPES)]) for number, color in enumerate(COLORS))
"""The looks of the test, one of each colour; training shows the others."""
TRAIN_LOOKS: tuple[Look, ...] = tuple(look for look in _LOOKS if look not in TEST_LOOKS)


@dataclass(frozen=True)
class ActionLayout:
    """All that a class leaves open.

    Attributes:
        background: uint8 (3, 64, 64).
        looks: of the two shapes, in different colours. The second is in front.
        radii: of both, in px.
        rests: where both rest, as (x, y) in px, anywhere in the picture; (2, 2).
        movers: which of the two (0 or 1) moves in the circle, the slide and the dip.
        circle_radius: in px. The circle lies above the place of rest.
        dip_depth: in px.
        pauses: share of its quarter that each event waits before it begins, and again after it has ended.
        meeting: the quarter of the clip in which the two meet, from 0 to 3.
    """

    background: NDArray[np.uint8]
    looks: tuple[Look, Look]
    radii: tuple[float, float]
    rests: Floats
    movers: dict[Event, int]
    circle_radius: float
    dip_depth: float
    pauses: dict[Event, float]
    meeting: int


def draw_action_layout(looks: Sequence[Look], rng: np.random.Generator) -> ActionLayout:
    """Draw at random what a class leaves open.

    Args:
        looks: looks to choose from, of two colours at least.
        rng: where all random choices come from.
    """
    background = (rng.integers(0, 70, (3, 1, 1)) + rng.integers(-8, 9, (3, SIZE, SIZE))).clip(0).astype(np.uint8)
    first = looks[rng.integers(len(looks))]
    others = [look for look in looks if look[0] != first[0]]
    second = others[rng.integers(len(others))]
    small, large = rng.uniform(*_RADIUS, 2)
    events: tuple[Event, ...] = ("circle", "slide", "dip", "meet")
    return ActionLayout(
        background,
        (first, second),
        (float(small), float(large)),
        rng.uniform(0, SIZE, (2, 2)),
        {event: int(rng.integers(2)) for event in events[:3]},
        float(rng.uniform(*_CIRCLE_RADIUS)),
        float(rng.uniform(*_DIP_DEPTH)),
        {event: float(rng.uniform(*_REST)) for event in events},
        int(rng.integers(_NUM_QUARTERS)),
    )


def action_centers(action: Action, layout: ActionLayout, num_frames: int) -> Floats:
    """Where the two shapes are in each frame.

    Args:
        action: the class.
        layout: all else.
        num_frames: T, at least 1.

    Returns:
        Centres as (x, y) in px, (2, T, 2). They may lie beyond the edges, which are joined to the opposite ones.
    """
    events: list[Event] = [*action.order]
    events.insert(layout.meeting, "meet")
    times = (np.arange(num_frames) + 0.5) / num_frames * _NUM_QUARTERS
    quarters = times.astype(int)
    centers = np.repeat(layout.rests[:, None], num_frames, axis=1)
    for quarter, event in enumerate(events):
        now = quarters == quarter
        pause = layout.pauses[event]
        done = (((times[now] - quarter) - pause) / (1 - 2 * pause)).clip(0, 1).round(_DIGITS)
        if (event, action.turn) == ("circle", "anticlockwise") or (event, action.side) == ("slide", "left"):
            done = (1 - done).round(_DIGITS)
        centers[:, now] += _shifts(event, layout, done)
    return centers


def _shifts(event: Event, layout: ActionLayout, done: Floats) -> Floats:
    """How far both shapes are from their places of rest, (2, n, 2), when shares `done` of an event are over, (n,)."""
    away = 1 - abs(2 * done - 1)  # 0, 1 in the middle, 0
    if event == "meet":
        apart = (
            layout.rests[1] - layout.rests[0] + SIZE / 2
        ) % SIZE - SIZE / 2  # the shortest way from first to second
        distance = float(np.hypot(*apart))
        way = apart / distance if distance else np.array([1.0, 0.0])
        touching = sum(
            radius * reach(shape, sign * way)
            for radius, (_, shape), sign in zip(layout.radii, layout.looks, (1, -1), strict=True)
        )
        steps = away[:, None] * way * (distance - touching) / 2
        return np.stack([steps, -steps])
    angle = 2 * np.pi * done
    steps = {
        "circle": layout.circle_radius * np.stack([-np.sin(angle), np.cos(angle) - 1], axis=1),
        "slide": SIZE * np.stack([done, np.zeros_like(done)], axis=1),
        "dip": layout.dip_depth * np.stack([np.zeros_like(away), away], axis=1),
    }[event]
    shifts = np.zeros((2, *steps.shape))
    shifts[layout.movers[event]] = steps
    return shifts


def render_action(
    label: int, seed: Sequence[int], num_frames: int, size: int = SIZE, looks: Sequence[Look] = TRAIN_LOOKS
) -> ClipPixels:
    """Draw a clip; the same seed gives the same scene in every class.

    Args:
        label: number of the class.
        seed: for `numpy.random.default_rng`; everything that the class does not say is drawn from it.
        num_frames: T, at least 1.
        size: S, in px. Another size than 64 shows the same scene larger or smaller.
        looks: looks to choose from.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).

    Raises:
        VmrError: there is no such class.
    """
    if not 0 <= label < len(ACTIONS):
        raise VmrError(f"shapes-actions has classes 0 to {len(ACTIONS) - 1}, not {label}")
    layout = draw_action_layout(looks, np.random.default_rng(seed))
    centers = action_centers(ACTIONS[label], layout, num_frames)
    return paint(layout.background, layout.looks, layout.radii, centers, size, joined_edges=True)


def train_label(index: int) -> int:
    """Return the class of training clip `index`: the classes take turns."""
    return index % len(ACTIONS)


def train_action_seed(seed: int, index: int) -> tuple[int, ...]:
    """Return the seed for `render_action` of training clip `index` of the sequence named by `seed`."""
    return ACTIONS_VERSION, _TRAIN, seed, index


def render_test_action(number: int, num_frames: int, size: int = SIZE) -> ClipPixels:
    """Draw clip `number` of the test: scene number // 24 in class number % 24, in looks that training does not show.

    Args:
        number: from 0 to 24 * TEST_LAYOUTS - 1.
        num_frames: T, at least 1.
        size: S, in px.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).
    """
    layout, label = divmod(number, len(ACTIONS))
    return render_action(label, (ACTIONS_VERSION, _TEST, layout), num_frames, size, TEST_LOOKS)
