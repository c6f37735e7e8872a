"""Labelled training clips of shapes-actions, drawn when they are needed."""

from functools import partial

import numpy as np

from vmr.data.media import Media
from vmr.data.shapes.actions import ACTIONS, render_action, train_action_seed, train_label
from vmr.data.shapes.split import TRAIN_CLIPS
from vmr.data.sources.source import Pair
from vmr.errors import VmrError
from vmr.targets import Target


class ShapesActionsSource:
    """Clips of moving shapes with their classes, see `vmr.data.shapes.actions`; a TrainSource, and LabelledData.

    Clip `index` follows from the seed and the index alone. Its looks are those that the test does not show.

    Args:
        num_clips: clips in an epoch, at least 1.
        seed: of the sequence of clips, at least 0.

    Raises:
        VmrError: a number is out of range.
    """

    name = "shapes-actions"
    media: Media = "video"
    notes = ()
    group = 1
    target: Target = "single"
    classes = tuple(str(action) for action in ACTIONS)
    num_outputs = len(ACTIONS)

    def __init__(self, num_clips: int = TRAIN_CLIPS, seed: int = 0) -> None:
        if num_clips < 1 or seed < 0:
            raise VmrError(
                f"shapes_actions needs num_clips of 1 or more and a seed of 0 or more, got {num_clips} and {seed}"
            )
        self.num_ids = num_clips
        self._seed = seed

    def __len__(self) -> int:
        return self.num_ids

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return clip `index`; nothing is left for `rng` to choose. Raises IndexError outside of [0, len)."""
        if not 0 <= index < self.num_ids:
            raise IndexError(f"shapes-actions: clip {index} of {self.num_ids}")
        label = train_label(index)
        make = partial(render_action, label, train_action_seed(self._seed, index))
        return Pair(f"shapes-actions:{index}", index, self.classes[label], make=make, label=label)
