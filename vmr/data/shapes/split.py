"""Which scenes of the synthetic benchmark are for training, and which for testing.

The test holds out unordered pairs of objects. Training shows every word and every single object, but no pair of objects
that a test clip shows, in either order, in any kind of scene.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

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
from vmr.errors import VmrError

# Clips of each test part. `twins` are scenes of the kind "pairs"; scenes 2k and 2k + 1 differ in one word: a direction
# where k is even, a speed where k is odd. In `order` and `collision` such neighbours differ in the relation.
TEST_CLIPS = {"pairs": 1000, "order": 300, "passage": 300, "collision": 300, "twins": 500}
PARTS = tuple(TEST_CLIPS)

TRAIN_CLIPS = 20_000
"""Clips in an epoch of training, by default."""

_SPLIT, _TEST, _TRAIN = 1, 2, 3  # the second entry of all seeds: the purpose of the random numbers
_NUM_LOOKS = len(COLORS) * len(SHAPES)

Pairs = NDArray[np.int64]
"""Pairs of objects by their numbers, (n, 2)."""

Difference = Literal["motion", "shape", "relation"]
"""How the scenes of a group differ: their objects in direction and manner ("motion") or in shape, or both objects are
the same and only the relation differs."""


@dataclass(frozen=True)
class Split:
    """All pairs of different objects, each in exactly one of the arrays, in the order in which captions mention them.

    Attributes:
        train: pairs to train on.
        test: pairs of the test part "pairs".
        twins: pairs of the test part "twins"; rows 2k and 2k + 1 differ in the motion of one object.
    """

    train: Pairs
    test: Pairs
    twins: Pairs


def kind_of(part: str) -> str:
    """Return the kind of scenes that a test part consists of."""
    return "pairs" if part == "twins" else part


@lru_cache(maxsize=1)
def split_pairs() -> Split:
    """Return the split. It depends on VERSION alone, so it is the same for everybody."""
    rng = np.random.default_rng((VERSION, _SPLIT))
    pairs = rng.permutation(np.stack(np.triu_indices(NUM_OBJECTS, k=1), axis=1))
    pairs = rng.permuted(pairs, axis=1)  # which of the two a caption mentions first
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
    """The pair with one object changed: another direction, or the other speed."""
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
    """The pairs that a kind of scenes can show: except in "pairs", the two objects must look different."""
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
    """Return the TEST_CLIPS[part] scenes of a test part.

    The captions of the part are `captions[0]` of each scene; they are all different.
    """
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
    """Return the seed for `vmr.data.shapes.drawing.render` of clip `number` of a test part."""
    return VERSION, _TEST, PARTS.index(part), number


@lru_cache(maxsize=len(KINDS))
def train_pairs(kind: str) -> Pairs:
    """Return the pairs of objects that training scenes of a kind show."""
    return _fitting(kind, split_pairs().train)


def _without(difference: Difference, objects: Pairs) -> Pairs:
    """Replace objects by numbers that are equal for objects that are alike apart from the difference."""
    if difference == "motion":
        return objects % _NUM_LOOKS
    return objects % len(COLORS) + objects // _NUM_LOOKS * len(COLORS)


@lru_cache(maxsize=len(KINDS))
def _rows_alike(kind: str, difference: Difference) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Group rows of `train_pairs(kind)` whose objects are alike apart from the difference, in either order."""
    left = np.sort(_without(difference, train_pairs(kind)), axis=1)
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (first, second) in enumerate(left.tolist()):
        rows.setdefault((first, second), []).append(row)
    return {key: np.array(found) for key, found in rows.items()}


def train_scene(kind: str, seed: int, index: int, group: int = 1, difference: Difference = "motion") -> Scene:
    """Return a training scene: a random pair of objects and a random relation.

    Args:
        kind: one of KINDS.
        seed: names the sequence of scenes.
        index: the number of the scene in the sequence.
        group: scenes n * group to (n + 1) * group - 1 are alike apart from the difference; they are all different if
            there are enough such scenes. 1 for no groups.
        difference: what the scenes of a group differ in.
    """
    pairs = train_pairs(kind)
    rng = np.random.default_rng((VERSION, _TRAIN, seed, index, 1))
    shared = np.random.default_rng((VERSION, _TRAIN, seed, index // group, 3))
    if group == 1:
        row = rng.integers(len(pairs))
    elif difference == "relation":
        return _scene(kind, pairs[shared.integers(len(pairs))], RELATIONS[kind][index % group])
    else:
        first, second = sorted(_without(difference, pairs[shared.integers(len(pairs))]).tolist())
        alike = shared.permutation(_rows_alike(kind, difference)[first, second])
        row = alike[index % group % len(alike)]
    return _scene(kind, pairs[row], str(rng.choice(RELATIONS[kind])))


def train_seed(seed: int, index: int) -> tuple[int, ...]:
    """Return the seed for `vmr.data.shapes.drawing.render` of training clip `index`."""
    return VERSION, _TRAIN, seed, index, 2


@dataclass(frozen=True)
class TrainScenes:
    """A sequence of training scenes. No test clip shows a pair of objects of theirs.

    Attributes:
        parts: the kinds of scenes, of KINDS, which take turns.
        num_clips: the number of scenes, which is an epoch of training.
        seed: names the sequence.
        group: this many scenes that follow each other are alike apart from `difference`; 1 for no groups.
        difference: what the scenes of a group differ in.

    Raises:
        VmrError: a part is unknown or repeated, the difference is unknown, or a number is out of range.
    """

    parts: tuple[str, ...] = ("pairs",)
    num_clips: int = TRAIN_CLIPS
    seed: int = 0
    group: int = 1
    difference: Difference = "motion"

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in KINDS:
                raise VmrError(f"shapes has no training part '{part}': one of {', '.join(KINDS)}")
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise VmrError(f"shapes needs different training parts, got {', '.join(self.parts) or 'none'}")
        if self.num_clips < 1 or self.seed < 0:
            raise VmrError(
                f"shapes needs num_clips of 1 or more and a seed of 0 or more, got {self.num_clips} and {self.seed}"
            )
        if self.group < 1 or self.num_clips % self.group or (self.group > 1 and len(self.parts) > 1):
            raise VmrError(f"shapes needs a group of 1 or more that divides num_clips, of one part, got {self.group}")
        if self.difference not in get_args(Difference):
            known = " or ".join(get_args(Difference))
            raise VmrError(f"shapes has no clips that differ in '{self.difference}': {known}")
        num_relations = min(len(RELATIONS[part]) for part in self.parts)
        if self.difference == "relation" and self.group not in {1, num_relations}:
            raise VmrError(
                f"shapes: clips that differ in their relation come in groups of 2, of order or collision, got "
                f"{self.group} of {', '.join(self.parts)}"
            )

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.num_clips:
            raise IndexError(f"shapes: clip {index} of {self.num_clips}")
        return train_scene(self.part(index), self.seed, index, self.group, self.difference)

    def part(self, index: int) -> str:
        """Return the part that scene `index` belongs to."""
        return self.parts[index % len(self.parts)]

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """Return one of the two captions of scene `index`, which `rng` chooses."""
        return self[index].captions[rng.integers(2)]

    def render_seed(self, index: int) -> tuple[int, ...]:
        """Return the seed for `vmr.data.shapes.drawing.render` of scene `index`."""
        return train_seed(self.seed, index)
