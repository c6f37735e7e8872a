"""Which scenes of the synthetic benchmark are trained on, and which test it.

What is held out are unordered pairs of objects. Every word and every single object is trained on; no pair of a test
clip is, in either order, in any kind of scene.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vmr.data.shapes.world import (
    COLORS,
    DIRECTIONS,
    KINDS,
    NUM_OBJECTS,
    RELATIONS,
    SHAPES,
    VERSION,
    Scene,
    shape_object,
)

# Clips of each test part. `twins` are scenes of the kind "pairs", those numbered 2k and 2k + 1 differing in one word: a
# direction where k is even, a speed where it is odd. In `order` and `collision` such neighbours differ in the relation.
TEST_CLIPS = {"pairs": 1000, "order": 300, "passage": 300, "collision": 300, "twins": 500}
PARTS = tuple(TEST_CLIPS)

_SPLIT, _TEST, _TRAIN = 1, 2, 3  # what random numbers are for: the second entry of their seeds
_NUM_LOOKS = len(COLORS) * len(SHAPES)

Pairs = NDArray[np.int64]  # (n, 2), numbers of objects
Difference = Literal["motion", "shape"]
"""What the objects of a group of training scenes differ in: direction and manner, or shape."""


@dataclass(frozen=True)
class Split:
    """All pairs of different objects, each in one of them: (n, 2), numbers of objects, in the order of mention.

    twins: those in rows 2k and 2k + 1 differ in one object, which moves otherwise.
    """

    train: Pairs
    test: Pairs
    twins: Pairs


def kind_of(part: str) -> str:
    """The kind of scenes that a test part consists of."""
    return "pairs" if part == "twins" else part


@lru_cache(maxsize=1)
def split_pairs() -> Split:
    """The split, which is the same for everybody: it depends on VERSION alone."""
    rng = np.random.default_rng((VERSION, _SPLIT))
    pairs = rng.permutation(np.stack(np.triu_indices(NUM_OBJECTS, k=1), axis=1))
    pairs = rng.permuted(pairs, axis=1)  # whom a caption mentions first
    test, rest = pairs[: TEST_CLIPS["pairs"]], pairs[TEST_CLIPS["pairs"] :]
    free = {_unordered(pair) for pair in rest}
    twins: list[NDArray[np.int64]] = []
    for pair in rest:
        if len(twins) == TEST_CLIPS["twins"]:
            break
        twin = _twin(pair, change_speed=len(twins) % 4 == 2, rng=rng)
        if {_unordered(pair), _unordered(twin)} <= free and twin[0] != twin[1]:
            free -= {_unordered(pair), _unordered(twin)}
            twins += [pair, twin]
    train = np.array([pair for pair in rest if _unordered(pair) in free])
    return Split(train, test, np.array(twins))


def _unordered(pair: Pairs) -> tuple[int, int]:
    low, high = sorted(pair.tolist())
    return low, high


def _twin(pair: Pairs, change_speed: bool, rng: np.random.Generator) -> Pairs:
    """The pair with another direction, or the other speed, of one of its objects."""
    twin = pair.copy()
    which = rng.integers(2)
    directions = _NUM_LOOKS * len(DIRECTIONS)  # the objects of one speed
    speed, within = divmod(int(pair[which]), directions)
    if change_speed:
        speed = 1 - speed
    else:
        within = (within + _NUM_LOOKS * int(rng.integers(1, len(DIRECTIONS)))) % directions
    twin[which] = speed * directions + within
    return twin


def _fitting(kind: str, pairs: Pairs) -> Pairs:
    """The pairs that a kind of scenes can show, the objects differing in looks, but that in `pairs` they need not."""
    fit = np.ones(len(pairs), np.bool_)
    if kind != "pairs":
        looks = pairs % _NUM_LOOKS
        fit &= looks[:, 0] != looks[:, 1]
    if kind == "collision":
        directions = pairs // _NUM_LOOKS % len(DIRECTIONS)
        fit &= directions[:, 0] != directions[:, 1]
    return pairs[fit]


def _scene(kind: str, pair: Pairs, relation: str) -> Scene:
    first, second = pair.tolist()
    return Scene(shape_object(first, kind), shape_object(second, kind), relation)


@lru_cache(maxsize=len(PARTS))
def held_out_scenes(part: str) -> tuple[Scene, ...]:
    """The TEST_CLIPS[part] scenes of a test part; their captions[0] are its captions, all different."""
    split, kind = split_pairs(), kind_of(part)
    relations = RELATIONS[kind]
    if kind == "pairs":
        chosen = split.test if part == "pairs" else split.twins
    else:
        held_out = _fitting(kind, np.concatenate([split.test, split.twins]))
        rng = np.random.default_rng((VERSION, _SPLIT, KINDS.index(kind)))
        chosen = rng.permutation(held_out)[: TEST_CLIPS[part] // len(relations)]
    return tuple(_scene(kind, pair, relation) for pair in chosen for relation in relations)


def held_out_seed(part: str, number: int) -> tuple[int, ...]:
    """The seed that clip `number` of a test part is rendered with."""
    return VERSION, _TEST, PARTS.index(part), number


@lru_cache(maxsize=len(KINDS))
def train_pairs(kind: str) -> Pairs:
    """The pairs that training scenes of a kind are drawn from."""
    return _fitting(kind, split_pairs().train)


def _without(difference: Difference, objects: Pairs) -> Pairs:
    """Numbers for what is left of objects when the difference is taken away, in place of each."""
    if difference == "motion":
        return objects % _NUM_LOOKS
    return objects % len(COLORS) + objects // _NUM_LOOKS * len(COLORS)


@lru_cache(maxsize=len(KINDS))
def _rows_alike(kind: str, difference: Difference) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Rows of `train_pairs(kind)` by what their objects are but for the difference, whichever is mentioned first."""
    left = np.sort(_without(difference, train_pairs(kind)), axis=1)
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (first, second) in enumerate(left.tolist()):
        rows.setdefault((first, second), []).append(row)
    return {key: np.array(found) for key, found in rows.items()}


def train_scene(kind: str, seed: int, index: int, group: int = 1, difference: Difference = "motion") -> Scene:
    """Training scene `index` of a run of scenes that `seed` names: a random pair and a random relation.

    group: scenes n * group to (n + 1) * group - 1 show objects that differ in nothing but the difference, and all of
    them do where there are as many.
    """
    pairs = train_pairs(kind)
    rng = np.random.default_rng((VERSION, _TRAIN, seed, index, 1))
    if group == 1:
        row = rng.integers(len(pairs))
    else:
        shared = np.random.default_rng((VERSION, _TRAIN, seed, index // group, 3))
        first, second = sorted(_without(difference, pairs[shared.integers(len(pairs))]).tolist())
        alike = shared.permutation(_rows_alike(kind, difference)[first, second])
        row = alike[index % group % len(alike)]
    return _scene(kind, pairs[row], str(rng.choice(RELATIONS[kind])))


def train_seed(seed: int, index: int) -> tuple[int, ...]:
    """The seed that training clip `index` is rendered with."""
    return VERSION, _TRAIN, seed, index, 2
