"""What training reads: pairs of a video and a caption, by number, from whatever holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError

MakeClip = Callable[[int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Pair:
    """A video and a caption of it. Raises VmrError unless exactly one of `path` and `make` is given.

    name: what to call it in a list of failures. id: equal ids are the same video; unique within a source, to which a
    loader of several adds an offset. path: the file to decode. make: make(num_frames, size) draws the clip in its
    place, uint8 in [0, 255], (T, 3, size, size); it is handed to worker processes, so it can be pickled.
    """

    name: str
    id: int
    caption: str
    path: Path | None = None
    make: MakeClip | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.make is None):
            raise VmrError(f"{self.name}: a pair has either a file or a way to make its clip")


class TrainSource(Protocol):
    """Something that training reads pairs from."""

    @property
    def name(self) -> str:
        """What to call it in logs."""

    @property
    def media(self) -> Literal["video", "image"]:
        """Whether its clips have several frames or are still pictures."""

    @property
    def group(self) -> int:
        """How many pairs from one that `group` divides come together, in order; it divides the number of pairs."""

    @property
    def notes(self) -> Sequence[str]:
        """What whoever trains on it should know, such as what of it was left out."""

    @property
    def num_ids(self) -> int:
        """How many different videos it has: its ids are 0 to num_ids - 1."""

    def __len__(self) -> int:
        """How many pairs an epoch has."""

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index` of 0 to len - 1; `rng` chooses among several captions and nothing else."""
