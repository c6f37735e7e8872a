"""`shapes-actions`: 24 classes of motion that only the order of the frames tells.

Two shapes rest side by side. Three things happen, and after each of them both are again where they were:

    orbit   they go once around each other, clockwise or anticlockwise
    sway    both move to the right, back, to the left and back; or to the left first
    meet    they move towards each other, touch, bounce and part

A clip has four quarters. In the third, which holds the middle frame, both rest; in each of the others one thing
happens. A class says in which order the three happen (6 orders), which way round the orbit is (2), and to which side
the sway goes first (2). All else is left to chance: looks, sizes, places, distances, and how long each event takes.
Class number = 4 * order + 2 * turn + side, see `ACTIONS`.

Why each class needs the order of the frames:

- **All classes show the same pictures.** Each event begins and ends at rest, and its speed is symmetric in time. So
  neither the order of the events nor the way round of one of them changes which pictures a clip has, only when each
  is shown. A scene drawn in all 24 classes gives 24 clips with exactly the same set of frames; the tests compare the
  pixels. So who sees the frames as a set, or one frame without its time, has chance: 1 in 24.
- **The middle frame is at rest in every class**, so a clip that repeats it is the same for all classes.
- **Each class is another one played backwards**, apart from the rest in the third quarter: the order, the turn and
  the side are all turned round.

So a network needs the order of events over the whole clip (the order alone, without directions, gives 1 in 4) and the
direction within two of them (both directions without the order give 1 in 6). With 4 frames each event shows one
picture, its middle, which is the same in both directions: no more than 25 % is possible. From 8 frames on, a solver of
a few lines is always right.

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

Event = Literal["orbit", "sway", "meet"]
Order: TypeAlias = tuple[Event, Event, Event]
Turn = Literal["clockwise", "anticlockwise"]
Side = Literal["right", "left"]
Look: TypeAlias = tuple[str, str]
"""A key of COLORS, and one of SHAPES."""

TEST_LAYOUTS = 40
"""Scenes of the test, each of which is drawn in all 24 classes."""

_QUARTERS = (0, 1, 3)  # in which the three events happen
_TRAIN, _TEST = 1, 2  # the second entry of all seeds
_RADIUS = (4.0, 5.5)
_HALF_DISTANCE = (9.0, 12.0)  # from the middle between the two to each of them
_TILT = 0.3  # radians by which the line between the two may be turned
_SWAY = (7.0, 10.0)
_JITTER = 5.0  # px from the middle of the picture to the middle between the two, to each side
_REST = (0.0, 0.1)  # shares of its quarter that an event waits before it begins, and after it has ended
_DIGITS = 9  # mirrored times must give equal places, whatever the rounding of floats


@dataclass(frozen=True)
class Action:
    """A class of `shapes-actions`.

    Attributes:
        order: the three events, in the order in which they happen.
        turn: which way round the orbit is.
        side: to which side the sway goes first.
    """

    order: Order
    turn: Turn
    side: Side

    def __str__(self) -> str:
        words = {"orbit": f"orbit {self.turn}", "sway": f"sway {self.side} first", "meet": "meet"}
        return ", ".join(words[event] for event in self.order)


_ORDERS: tuple[Order, ...] = tuple(permutations(("orbit", "sway", "meet")))  # type: ignore[arg-type]
ACTIONS: tuple[Action, ...] = tuple(
    Action(order, turn, side)
    for order in _ORDERS
    for turn in ("clockwise", "anticlockwise")
    for side in ("right", "left")
)
"""The classes by their numbers."""

TEST_LOOKS: tuple[Look, ...] = tuple((color, SHAPES[-number % len(SHAPES)]) for number, color in enumerate(COLORS))
"""The looks of the test, one of each colour. Training shows the others."""
TRAIN_LOOKS: tuple[Look, ...] = tuple(
    (color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in TEST_LOOKS
)


@dataclass(frozen=True)
class ActionLayout:
    """All that a class leaves open.

    Attributes:
        background: uint8 (3, 64, 64).
        looks: of the two shapes, in different colours. The second is in front.
        radii: of both, in px.
        middle: the point between the two at rest, as (x, y) in px; (2,).
        arm: from the middle to the second shape, which is on the right; (2,) in px.
        sway: how far both move to each side, in px.
        pauses: share of its quarter that each event waits before it begins, and again after it has ended.
    """

    background: NDArray[np.uint8]
    looks: tuple[Look, Look]
    radii: tuple[float, float]
    middle: Floats
    arm: Floats
    sway: float
    pauses: dict[Event, float]


def draw_action_layout(looks: Sequence[Look], rng: np.random.Generator) -> ActionLayout:
    """Draw at random what a class leaves open.

    Args:
        looks: looks to choose from, of two colours at least.
        rng: where all random choices come from.
    """
    background = (rng.integers(0, 70, (3, 1, 1)) + rng.integers(-8, 9, (3, SIZE, SIZE))).clip(0).astype(np.uint8)
    first = looks[int(rng.integers(len(looks)))]
    others = [look for look in looks if look[0] != first[0]]
    second = others[int(rng.integers(len(others)))]
    radii, tilt = rng.uniform(*_RADIUS, 2), rng.uniform(-_TILT, _TILT)
    return ActionLayout(
        background,
        (first, second),
        (float(radii[0]), float(radii[1])),
        SIZE / 2 + rng.uniform(-_JITTER, _JITTER, 2),
        rng.uniform(*_HALF_DISTANCE) * np.array([np.cos(tilt), np.sin(tilt)]),
        float(rng.uniform(*_SWAY)),
        {"orbit": float(rng.uniform(*_REST)), "sway": float(rng.uniform(*_REST)), "meet": float(rng.uniform(*_REST))},
    )


def action_centers(action: Action, layout: ActionLayout, num_frames: int) -> Floats:
    """Where the two shapes are in each frame.

    Args:
        action: the class.
        layout: all else.
        num_frames: T, at least 1.

    Returns:
        Centres as (x, y) in px, (2, T, 2).
    """
    middles = np.repeat(layout.middle[None], num_frames, axis=0)
    arms = np.repeat(layout.arm[None], num_frames, axis=0)
    times = (np.arange(num_frames) + 0.5) / num_frames * 4
    for quarter, event in zip(_QUARTERS, action.order, strict=True):
        now = times.astype(int) == quarter
        pause = layout.pauses[event]
        done = ((times[now] - quarter - pause) / (1 - 2 * pause)).clip(0, 1).round(_DIGITS)
        if (event, action.turn) == ("orbit", "anticlockwise") or (event, action.side) == ("sway", "left"):
            done = (1 - done).round(_DIGITS)
        angle = 2 * np.pi * done[:, None]
        if event == "sway":
            middles[now] += np.array([layout.sway, 0]) * np.sin(angle)
        elif event == "orbit":
            arms[now] = np.cos(angle) * layout.arm + np.sin(angle) * np.array([-layout.arm[1], layout.arm[0]])
        else:
            arms[now] *= 1 - (1 - abs(2 * done[:, None] - 1)) * (1 - _touching(layout))
    return np.stack([middles - arms, middles + arms])


def _touching(layout: ActionLayout) -> float:
    """The distance at which the two touch, as a share of their distance at rest."""
    distance = float(np.hypot(*layout.arm))
    way = layout.arm / distance
    (_, first), (_, second) = layout.looks
    return (layout.radii[0] * reach(first, way) + layout.radii[1] * reach(second, -way)) / (2 * distance)


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
    return paint(layout.background, layout.looks, layout.radii, centers, size)


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
