"""The world of the synthetic benchmark: two moving coloured shapes, the sentence that says what they do, the pixels.

Four kinds of scenes, each with a sentence that one frame does not decide:

    pairs      a red circle moves slowly left and a blue square moves quickly up
    order      a red circle moves slowly left before a blue square moves quickly up (also: after)
    passage    a red circle enters from the right and a blue square leaves at the top
    collision  a red circle moves slowly left and a blue square moves quickly right and they collide and bounce apart
               (also: and they pass without touching)

Lengths are in px of a picture of 64 x 64, x to the right and y downwards, times in frames of a clip of 8. Directions
are as seen: up is towards the first row. An object is a number below NUM_OBJECTS, see `shape_object`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import middle_indices
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
_OUT = 1.2  # radii from the edge of the picture at which nothing of any shape is seen
_FRAMES = np.arange(NUM_FRAMES)
_FIRST_STOPS, _SECOND_STARTS = 3, 4  # the frames between which, in `order`, nothing moves
_MEETINGS = (3, 4)  # the frames in which two objects touch or are nearest
_GAP = (3.0, 7.0)  # between two that pass
_MAX_DRAWS = 10_000

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ShapeObject:
    """A coloured shape, the direction it moves in, and how: a speed, or a passage into the picture or out of it.

    Raises VmrError for a word that the captions do not have.
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
        """Whether it enters or leaves, which has no word for the speed."""
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
    """Two objects and what joins them, one of RELATIONS: `first` moves before `second`, after it, or at once with it.

    Raises VmrError for what cannot be shown: objects that enter or leave do so at once, both of them, and two that move
    the same way do not meet.
    """

    first: ShapeObject
    second: ShapeObject
    relation: str = "and"

    def __post_init__(self) -> None:
        known = [relation for relations in RELATIONS.values() for relation in relations]
        if self.relation not in known:
            raise VmrError(f"unknown relation '{self.relation}': one of {', '.join(dict.fromkeys(known))}")
        if self.first.passes != self.second.passes or (self.first.passes and self.relation != "and"):
            raise VmrError("objects that enter or leave do so at once, both of them")
        if self.relation in _ENDING and self.first.direction == self.second.direction:
            raise VmrError(f"two objects that both move {self.first.direction} do not meet")

    @property
    def captions(self) -> tuple[str, str]:
        """The two sentences that say the same of it: `first` mentioned first, and `second` mentioned first."""
        if self.relation in _ENDING:
            both = f"{self.first} and {self.second}", f"{self.second} and {self.first}"
            return f"{both[0]} {_ENDING[self.relation]}", f"{both[1]} {_ENDING[self.relation]}"
        turned = {"and": "and", "before": "after", "after": "before"}[self.relation]
        return f"{self.first} {self.relation} {self.second}", f"{self.second} {turned} {self.first}"


@dataclass(frozen=True)
class Layout:
    """What the captions leave open. background: (3, 64, 64), may fall below 0; radii: of both objects, every shape fits
    into 1.2 of them; centers: px as (x, y) in every frame, (2, 8, 2).
    """

    background: NDArray[np.int64]
    radii: tuple[float, float]
    centers: Floats


def shape_object(number: int, kind: str) -> ShapeObject:
    """Object `number` of 0 to NUM_OBJECTS - 1: colour, shape, direction and manner, the colour counting fastest.

    In passages "enters" and "leaves" take the place of "slowly" and "quickly".
    """
    manners = PASSAGES if kind == "passage" else tuple(SPEEDS)
    number, color = divmod(number, len(COLORS))
    number, shape = divmod(number, len(SHAPES))
    manner, direction = divmod(number, len(DIRECTIONS))
    return ShapeObject(tuple(COLORS)[color], SHAPES[shape], tuple(DIRECTIONS)[direction], manners[manner])


def render(scene: Scene, seed: Sequence[int], num_frames: int = NUM_FRAMES, size: int = SIZE) -> Frames:
    """Draw a scene: uint8 in [0, 255], (T, 3, size, size) for T = num_frames; the same clip for the same seed.

    The frames are those that the "middle" rule takes from the clip of 8, so fewer than 8 are some of them, and from the
    ninth on the last is repeated. Another size shows the same scene larger or smaller.
    """
    layout = draw_layout(scene, np.random.default_rng(seed))
    places = (np.arange(size) + 0.5) * SIZE / size - 0.5  # px of the 64, of the middles of the pixels
    nearest = np.round(places).astype(int)
    ground = layout.background.clip(0).astype(np.uint8)
    if size != SIZE:
        ground = ground[:, nearest[:, None], nearest]
    indices = middle_indices(num_frames, NUM_FRAMES)
    frames = np.empty((num_frames, 3, size, size), np.uint8)
    frames[:] = ground
    for thing, radius, centers in zip((scene.first, scene.second), layout.radii, layout.centers, strict=True):
        inside = cover(thing.shape, radius, centers[indices], places)
        for channel, value in enumerate(COLORS[thing.color]):
            np.copyto(frames[:, channel], np.uint8(value), where=inside)
    return frames


def cover(shape: str, radius: float, centers: Floats, places: Floats) -> NDArray[np.bool_]:
    """Which pixels a shape covers with its centre at each of (T, 2): (T, H, W), rows and columns being at `places`."""
    offsets = places.astype(np.float32) - centers.astype(np.float32)[:, :, None]  # (T, 2, size)
    x, y = offsets[:, 0, None, :], offsets[:, 1, :, None]
    across, along = abs(x), abs(y)
    if shape == "circle":
        inside = x * x + y * y <= radius * radius
    elif shape == "square":
        inside = (across <= 0.9 * radius) & (along <= 0.9 * radius)
    elif shape == "triangle":  # its tip is on top
        inside = (y <= 0.8 * radius) & (y >= 2 * across - 1.2 * radius)
    else:  # a cross
        thin = 0.35 * radius
        inside = ((across <= thin) & (along <= radius)) | ((along <= thin) & (across <= radius))
    return np.asarray(inside, np.bool_)


def draw_layout(scene: Scene, rng: np.random.Generator) -> Layout:
    """Draw a background, sizes, exact speeds and places.

    In `pairs` the objects may cover each other, `second` being in front; elsewhere they never do. They stay inside the
    picture, but that in `passage` they are all outside in the first frame or in the last, and all inside in the other.
    """
    background = rng.integers(0, 70, (3, 1, 1)) + rng.integers(-8, 9, (3, SIZE, SIZE))
    for _ in range(_MAX_DRAWS):
        placed = _meet(scene, rng) if scene.relation in _ENDING else _place_both(scene, rng)
        if placed is not None:
            return Layout(background, *placed)
    raise VmrError(f"no room in {SIZE} px: {scene.captions[0]}")


Placed = tuple[tuple[float, float], Floats]  # radii, centres (2, T, 2)


def _place_both(scene: Scene, rng: np.random.Generator) -> Placed | None:
    """Place each object by itself; None if they would touch where they must not."""
    early, late = np.minimum(_FRAMES, _FIRST_STOPS), np.maximum(_FRAMES - _SECOND_STARTS, 0)
    moving = {"before": (early, late), "after": (late, early)}.get(scene.relation, (_FRAMES, _FRAMES))
    first_radius, first = _place(scene.first, moving[0], rng)
    second_radius, second = _place(scene.second, moving[1], rng)
    may_touch = scene.relation == "and" and not scene.first.passes
    # Boxes of 1.2 radii hold every shape; the px besides keeps a line of background between them.
    clear = _OUT * (first_radius + second_radius) + 1
    if not may_touch and (abs(first - second).max(axis=1) <= clear).any():
        return None
    return (first_radius, second_radius), np.stack([first, second])


def _place(thing: ShapeObject, moving: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, Floats]:
    """Draw radius and centres, (T, 2), of one object that has moved for `moving` frames, (T,), by each frame."""
    radius = rng.uniform(*_RADIUS)
    way = np.array(DIRECTIONS[thing.direction])
    speed = SPEEDS.get(thing.manner, SPEEDS["quickly"]) * rng.uniform(*_STEP)  # a slow passage would take 15 frames
    moved = speed * moving[:, None] * way
    lowest, highest = radius - moved.min(axis=0), SIZE - radius - moved.max(axis=0)
    if thing.passes:
        axis = int(np.flatnonzero(way)[0])
        # It enters over the edge it moves away from, or has left over the one it moves towards.
        at_far_edge = (way[axis] > 0) == (thing.manner == "leaves")
        outside = SIZE + _OUT * radius if at_far_edge else -_OUT * radius
        lowest[axis] = highest[axis] = outside - (moved[-1, axis] if thing.manner == "leaves" else 0)
    return radius, rng.uniform(lowest, highest) + moved


def _meet(scene: Scene, rng: np.random.Generator) -> Placed | None:
    """Draw two courses that lead to a touch, from where both go back, or past each other; None if they do not fit."""
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
        reach = radii[0] * _reach(scene.first.shape, -aside) + radii[1] * _reach(scene.second.shape, aside)
        apart = aside * (reach + rng.uniform(*_GAP))
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
_OUTLINES = {  # the corners of convex parts, (num_corners, 2), in radii: what `cover` fills
    "circle": (_NORMALS,),
    "square": (_rectangle(0.9, 0.9),),
    "triangle": (np.array([(0, -1.2), (1, 0.8), (-1, 0.8)]),),
    "cross": (_rectangle(0.35, 1), _rectangle(1, 0.35)),
}
# How far each part reaches along every normal, (num_parts, 72).
_SUPPORTS = {name: np.stack([(part @ _NORMALS.T).max(axis=0) for part in parts]) for name, parts in _OUTLINES.items()}


def _reach(shape: str, direction: Floats) -> float:
    """How far a shape of radius 1 reaches along a unit vector."""
    return max(float((part @ direction).max()) for part in _OUTLINES[shape])


def _touching(scene: Scene, radii: Floats, away: Floats) -> float:
    """How far along `away` the centre of `first` is from that of `second` when they touch.

    Two convex bodies are apart when some normal n separates them: distance * (n . away) > reach of one + of the other.
    """
    facing = _NORMALS @ away
    ahead = facing > 1e-9
    first = np.roll(_SUPPORTS[scene.first.shape], len(_NORMALS) // 2, axis=1)  # it is reached from the other side
    reach = radii[0] * first[:, None] + radii[1] * _SUPPORTS[scene.second.shape]  # (parts, parts, 72)
    return float((reach[..., ahead] / facing[ahead]).min(axis=-1).max())
