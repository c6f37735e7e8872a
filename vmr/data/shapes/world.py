"""The world of the synthetic benchmark: two moving coloured shapes, and the sentence that says what they do.

There are four kinds of scenes. No single frame shows whether the sentence of a scene is true:

    pairs      a red circle moves slowly left and a blue square moves quickly up
    order      a red circle moves slowly left before a blue square moves quickly up (also: after)
    passage    a red circle enters from the right and a blue square leaves at the top
    collision  a red circle moves slowly left and a blue square moves quickly right and they collide and bounce apart
               (also: and they pass without touching)

Lengths are in px of a picture of 64 x 64 px; x points to the right and y downwards. Times are in frames of a clip of 8
frames. Directions are those that a viewer sees: up is towards the first row. Objects are numbered, see `shape_object`.
`vmr.data.shapes.drawing` turns a scene into pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

VERSION = 2  # raise it when the same seed gives other clips or other pixels

SIZE = 64  # px
NUM_FRAMES = 8

COLORS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 220, 40),
    "purple": (160, 60, 200),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 0.5, "quickly": 1.4}  # times 2.6 to 3.6 px per frame
PASSAGES = ("enters", "leaves")
KINDS = ("pairs", "order", "passage", "collision")
RELATIONS = {"pairs": ("and",), "passage": ("and",), "order": ("before", "after"), "collision": ("bounce", "pass")}
NUM_OBJECTS = len(COLORS) * len(SHAPES) * len(DIRECTIONS) * 2

_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
_SIDE = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
_ENDING = {"bounce": "and they collide and bounce apart", "pass": "and they pass without touching"}
_RADIUS = (7.0, 10.0)
_STEP = (2.6, 3.6)  # px per frame, times the factor of the speed
_OUTSIDE = 1.2  # radii beyond the edge of the picture at which no part of any shape is visible
_FRAMES = np.arange(NUM_FRAMES)
_FIRST_STOPS, _SECOND_STARTS = 3, 4  # the frames between which, in `order`, nothing moves
_MEETINGS = (3, 4)  # the frames in which two objects touch or are nearest
_GAP = (3.0, 7.0)  # px between two objects that pass each other
_MAX_DRAWS = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ShapeObject:
    """A coloured shape and its motion.

    Attributes:
        color: a key of COLORS.
        shape: one of SHAPES.
        direction: a key of DIRECTIONS.
        manner: a key of SPEEDS, or one of PASSAGES.

    Raises:
        VmrError: a word is none of those.
    """

    color: str
    shape: str
    direction: str
    manner: str

    def __post_init__(self) -> None:
        words = {"color": COLORS, "shape": SHAPES, "direction": DIRECTIONS, "manner": (*SPEEDS, *PASSAGES)}
        for attribute, known in words.items():
            if getattr(self, attribute) not in known:
                raise VmrError(f"unknown {attribute} '{getattr(self, attribute)}': one of {', '.join(known)}")

    @property
    def passes(self) -> bool:
        """Whether the object enters or leaves the picture; its caption then says no speed."""
        return self.manner in PASSAGES

    def __str__(self) -> str:
        start = f"a {self.color} {self.shape}"
        if self.manner == "enters":
            return f"{start} enters from the {_SIDE[_OPPOSITE[self.direction]]}"
        if self.manner == "leaves":
            return f"{start} leaves at the {_SIDE[self.direction]}"
        return f"{start} moves {self.manner} {self.direction}"


@dataclass(frozen=True)
class Scene:
    """Two objects and how their motions relate.

    Attributes:
        first: the object that `captions[0]` mentions first.
        second: the other one.
        relation: "and" (both move at the same time), "before" or "after" (`first` moves before or after `second`),
            "bounce" or "pass" (they meet, see RELATIONS).

    Raises:
        VmrError: the relation is unknown, only one of the two objects enters or leaves, objects that enter or leave
            have a relation other than "and", or two objects that move the same way are to meet.
    """

    first: ShapeObject
    second: ShapeObject
    relation: str = "and"

    def __post_init__(self) -> None:
        known = [relation for relations in RELATIONS.values() for relation in relations]
        if self.relation not in known:
            raise VmrError(f"unknown relation '{self.relation}': one of {', '.join(dict.fromkeys(known))}")
        if self.first.passes != self.second.passes or (self.first.passes and self.relation != "and"):
            raise VmrError("objects that enter or leave must both do so, at the same time")
        if self.relation in _ENDING and self.first.direction == self.second.direction:
            raise VmrError(f"two objects that both move {self.first.direction} do not meet")

    @property
    def captions(self) -> tuple[str, str]:
        """The two sentences that describe the scene: one mentions `first` first, the other mentions `second` first."""
        if self.relation in _ENDING:
            both = f"{self.first} and {self.second}", f"{self.second} and {self.first}"
            return f"{both[0]} {_ENDING[self.relation]}", f"{both[1]} {_ENDING[self.relation]}"
        turned = {"and": "and", "before": "after", "after": "before"}[self.relation]
        return f"{self.first} {self.relation} {self.second}", f"{self.second} {turned} {self.first}"


@dataclass(frozen=True)
class Layout:
    """The properties of a scene that its captions do not mention.

    Attributes:
        background: int64 (3, 64, 64); values may be below 0 and are clipped when they are drawn.
        radii: of both objects, in px. Every shape fits into a box of 1.2 radii to each side.
        centers: of both objects in every frame, as (x, y) in px; (2, 8, 2).
    """

    background: NDArray[np.int64]
    radii: tuple[float, float]
    centers: Floats


def shape_object(number: int, kind: str) -> ShapeObject:
    """Return the object with a number.

    Args:
        number: from 0 to NUM_OBJECTS - 1. It encodes colour, shape, direction and manner; the colour changes with every
            step of the number, then the shape, then the direction, and the manner last.
        kind: one of KINDS. In "passage", the manners are "enters" and "leaves" instead of "slowly" and "quickly".
    """
    manners = PASSAGES if kind == "passage" else tuple(SPEEDS)
    number, color = divmod(number, len(COLORS))
    number, shape = divmod(number, len(SHAPES))
    manner, direction = divmod(number, len(DIRECTIONS))
    return ShapeObject(tuple(COLORS)[color], SHAPES[shape], tuple(DIRECTIONS)[direction], manners[manner])


def draw_layout(scene: Scene, rng: np.random.Generator) -> Layout:
    """Draw at random what the captions leave open: background, sizes, exact speeds and places.

    In scenes of the kind "pairs" the objects may cover each other, and `second` is in front; in other kinds they never
    touch, except in a bounce. Objects stay inside the picture. Only in passages each of them is completely outside in
    the first or the last frame, and completely inside in the other.

    Args:
        scene: the scene.
        rng: where all random choices come from.

    Raises:
        VmrError: no layout was found that fits into the picture.
    """
    background = rng.integers(0, 70, (3, 1, 1)) + rng.integers(-8, 9, (3, SIZE, SIZE))
    for _ in range(_MAX_DRAWS):
        placed = _meet(scene, rng) if scene.relation in _ENDING else _place_both(scene, rng)
        if placed is not None:
            return Layout(background, *placed)
    raise VmrError(f"no space in {SIZE} px: {scene.captions[0]}")


Placed = tuple[tuple[float, float], Floats]  # radii, centres (2, T, 2)


def _place_both(scene: Scene, rng: np.random.Generator) -> Placed | None:
    """Place the two objects independently; None if they would touch although they must not."""
    early, late = np.minimum(_FRAMES, _FIRST_STOPS), np.maximum(_FRAMES - _SECOND_STARTS, 0)
    moving = {"before": (early, late), "after": (late, early)}.get(scene.relation, (_FRAMES, _FRAMES))
    first_radius, first = _place(scene.first, moving[0], rng)
    second_radius, second = _place(scene.second, moving[1], rng)
    may_touch = scene.relation == "and" and not scene.first.passes
    # A box of 1.2 radii holds every shape; one more px keeps a line of background between two of them.
    clear = _OUTSIDE * (first_radius + second_radius) + 1
    if not may_touch and (abs(first - second).max(axis=1) <= clear).any():
        return None
    return (first_radius, second_radius), np.stack([first, second])


def _place(thing: ShapeObject, moving: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, Floats]:
    """Draw radius and centres, (T, 2), of one object. moving: for how many frames it has moved by each frame, (T,)."""
    radius = rng.uniform(*_RADIUS)
    way = np.array(DIRECTIONS[thing.direction])
    speed = SPEEDS.get(thing.manner, SPEEDS["quickly"]) * rng.uniform(*_STEP)  # a slow passage would take 15 frames
    moved = speed * moving[:, None] * way
    lowest, highest = radius - moved.min(axis=0), SIZE - radius - moved.max(axis=0)
    if thing.passes:
        axis = int(np.flatnonzero(way)[0])
        # It enters over the edge that it moves away from, or leaves over the edge that it moves towards.
        at_far_edge = (way[axis] > 0) == (thing.manner == "leaves")
        outside = SIZE + _OUTSIDE * radius if at_far_edge else -_OUTSIDE * radius
        lowest[axis] = highest[axis] = outside - (moved[-1, axis] if thing.manner == "leaves" else 0)
    return radius, rng.uniform(lowest, highest) + moved


def _meet(scene: Scene, rng: np.random.Generator) -> Placed | None:
    """Draw two courses on which the objects touch and go back, or pass each other; None if they do not fit."""
    radii = rng.uniform(*_RADIUS, 2)
    objects = (scene.first, scene.second)
    ways = np.array([DIRECTIONS[thing.direction] for thing in objects])
    factors = np.array([SPEEDS[thing.manner] for thing in objects])
    velocities = ways * (factors * rng.uniform(*_STEP, 2))[:, None]  # (2, 2)
    meeting = rng.choice(_MEETINGS)
    closing = velocities[1] - velocities[0]
    away = closing / np.hypot(*closing)  # from second to first, while they approach
    if scene.relation == "bounce":
        moving = -abs(_FRAMES - meeting)
        apart = away * _touching(scene, radii, away)
    else:
        moving = _FRAMES - meeting
        aside = np.array([-away[1], away[0]]) * rng.choice((-1, 1))
        together = radii[0] * reach(scene.first.shape, -aside) + radii[1] * reach(scene.second.shape, aside)
        apart = aside * (together + rng.uniform(*_GAP))
    courses = np.array([apart, -apart])[:, None] / 2 + velocities[:, None] * moving[:, None]  # (2, T, 2)
    lowest = (radii[:, None] - courses.min(axis=1)).max(axis=0)
    highest = (SIZE - radii[:, None] - courses.max(axis=1)).min(axis=0)
    if (lowest > highest).any():
        return None
    return (float(radii[0]), float(radii[1])), courses + rng.uniform(lowest, highest)


def _rectangle(width: float, height: float) -> Floats:
    return np.array([(-width, -height), (width, -height), (width, height), (-width, height)])


_ANGLES = np.arange(72) * (2 * np.pi / 72)
_NORMALS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # (72, 2)
_OUTLINES = {  # the corners of convex parts, (num_corners, 2), in radii: what `vmr.data.shapes.drawing.cover` fills
    "circle": (_NORMALS,),
    "square": (_rectangle(0.9, 0.9),),
    "triangle": (np.array([(0, -1.2), (1, 0.8), (-1, 0.8)]),),
    "cross": (_rectangle(0.35, 1), _rectangle(1, 0.35)),
}
# How far each part reaches along every normal, (num_parts, 72).
_SUPPORTS = {name: np.stack([(part @ _NORMALS.T).max(axis=0) for part in parts]) for name, parts in _OUTLINES.items()}


def reach(shape: str, direction: Floats) -> float:
    """How far a shape of radius 1 extends from its centre along a unit vector, (2,)."""
    return max(float((part @ direction).max()) for part in _OUTLINES[shape])


def _touching(scene: Scene, radii: Floats, away: Floats) -> float:
    """The distance along `away` from the centre of `second` to that of `first` when the two touch.

    Two convex bodies are apart when a normal n separates them: distance * (n . away) > their reaches along n together.
    """
    facing = _NORMALS @ away
    ahead = facing > 1e-9
    first = np.roll(_SUPPORTS[scene.first.shape], len(_NORMALS) // 2, axis=1)  # it is touched from the other side
    reach = radii[0] * first[:, None] + radii[1] * _SUPPORTS[scene.second.shape]  # (parts, parts, 72)
    return float((reach[..., ahead] / facing[ahead]).min(axis=-1).max())
