"""Training clips of the synthetic benchmark, drawn when they are needed."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vmr.data.media import Media
from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import TRAIN_CLIPS, Difference, TrainScenes
from vmr.data.shapes.world import Scene
from vmr.data.sources.source import Pair


class ShapesSource:
    """Clips of moving shapes whose pairs of objects no test clip shows; a TrainSource.

    Clip `index` follows from the seed and the index alone. The random generator of `pair` decides only which of the two
    objects the caption mentions first.

    Args:
        parts: the kinds of scenes, of `vmr.data.shapes.world.KINDS`, which take turns.
        num_clips: clips in an epoch.
        seed: of the sequence of clips, at least 0.
        group: this many clips that come together are alike apart from `difference`; 1 for no groups.
        difference: what the clips of a group differ in: "motion", "shape" or "relation".

    Raises:
        VmrError: a part is unknown or repeated, the difference is unknown, or a number is out of range.
    """

    name = "shapes"
    media: Media = "video"
    notes = ()

    def __init__(
        self,
        parts: Sequence[str] = ("pairs",),
        num_clips: int = TRAIN_CLIPS,
        seed: int = 0,
        group: int = 1,
        difference: Difference = "motion",
    ) -> None:
        self._scenes = TrainScenes(tuple(parts), num_clips, seed, group, difference)
        self.group = group
        self.num_ids = num_clips

    def __len__(self) -> int:
        return len(self._scenes)

    def scene(self, index: int) -> Scene:
        """Return the scene of clip `index`. Raises IndexError outside of [0, len)."""
        return self._scenes[index]

    def part(self, index: int) -> str:
        """Return the part that clip `index` belongs to."""
        return self._scenes.part(index)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return clip `index` with one of its two captions, which `rng` chooses."""
        make = partial(render, self._scenes[index], self._scenes.render_seed(index))
        return Pair(f"shapes:{self.part(index)}:{index}", index, self._scenes.caption(index, rng), make=make)
