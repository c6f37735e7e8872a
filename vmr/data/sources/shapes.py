"""Training clips of the synthetic benchmark, drawn when they are asked for."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np

from vmr.data.shapes.split import Difference, train_scene, train_seed
from vmr.data.shapes.world import KINDS, Scene, render
from vmr.data.sources.source import Pair
from vmr.errors import VmrError

TRAIN_CLIPS = 20_000


class ShapesSource:
    """Scenes of moving shapes whose pairs of objects no test clip has; a TrainSource.

    parts: the kinds of scenes, of KINDS, in turn. num_clips: an epoch. group: so many clips that come together show
    objects that differ in nothing but `difference`: motion or shape; 1 for no such thing. Clip `index` follows from
    the seed and the index alone; the random generator says which of its two objects the caption mentions first.
    Raises VmrError for an unknown or repeated part, an unknown difference and for numbers that make no sense.
    """

    name = "shapes"
    media: Literal["video"] = "video"
    notes = ()

    def __init__(
        self,
        parts: Sequence[str] = ("pairs",),
        num_clips: int = TRAIN_CLIPS,
        seed: int = 0,
        group: int = 1,
        difference: Difference = "motion",
    ) -> None:
        for part in parts:
            if part not in KINDS:
                raise VmrError(f"shapes has no training part '{part}': one of {', '.join(KINDS)}")
        if not parts or len(set(parts)) < len(parts):
            raise VmrError(f"shapes needs different training parts, got {', '.join(parts) or 'none'}")
        if num_clips < 1 or seed < 0:
            raise VmrError(f"shapes needs num_clips of 1 or more and a seed of 0 or more, got {num_clips} and {seed}")
        if group < 1 or num_clips % group or (group > 1 and len(parts) > 1):
            raise VmrError(f"shapes needs a group of 1 or more that divides num_clips, of one part, got {group}")
        if difference not in get_args(Difference):
            raise VmrError(f"shapes has no clips that differ in '{difference}': {' or '.join(get_args(Difference))}")
        self.parts = tuple(parts)
        self.group = group
        self.difference: Difference = difference
        self.num_ids = num_clips
        self.seed = seed

    def __len__(self) -> int:
        return self.num_ids

    def scene(self, index: int) -> Scene:
        """The scene of clip `index`; an IndexError for one outside [0, len)."""
        if not 0 <= index < self.num_ids:
            raise IndexError(f"shapes: clip {index} of {self.num_ids}")
        return train_scene(self.part(index), self.seed, index, self.group, self.difference)

    def part(self, index: int) -> str:
        """The part that clip `index` belongs to."""
        return self.parts[index % len(self.parts)]

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Clip `index` and one of its two captions."""
        scene = self.scene(index)
        make = partial(render, scene, train_seed(self.seed, index))
        return Pair(f"shapes:{self.part(index)}:{index}", index, scene.captions[rng.integers(2)], make=make)
