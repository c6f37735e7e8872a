"""What training reads: pairs of a video and a caption, from whatever holds them, by number or one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vmr.data.media import Media
from vmr.errors import VmrError

MakeClip = Callable[[int, int], NDArray[np.uint8]]
Bookmark = dict[str, Any]  # as JSON has it


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


@dataclass(frozen=True)
class Captioned:
    """A file with all of its captions, of which training takes one at a time; name and id as of a `Pair`."""

    name: str
    id: int
    captions: tuple[str, ...]
    path: Path

    def pair(self, rng: np.random.Generator) -> Pair:
        """The file with the caption that `rng` chooses."""
        return Pair(self.name, self.id, self.captions[rng.integers(len(self.captions))], self.path)


class TrainData(Protocol):
    """What sources and streams have in common."""

    @property
    def name(self) -> str:
        """What to call it in logs."""

    @property
    def media(self) -> Media:
        """Whether its clips have several frames or are still pictures."""

    @property
    def notes(self) -> Sequence[str]:
        """What whoever trains on it should know, such as what of it was left out."""

    @property
    def num_ids(self) -> int:
        """Its ids are 0 to num_ids - 1, of which a source uses all."""


class TrainSource(TrainData, Protocol):
    """Something that training reads pairs from in any order."""

    @property
    def group(self) -> int:
        """How many pairs from one that `group` divides come together, in order; it divides the number of pairs."""

    def __len__(self) -> int:
        """How many pairs an epoch has."""

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index` of 0 to len - 1; `rng` chooses among several captions and nothing else."""


@runtime_checkable
class TrainStream(TrainData, Protocol):
    """Something whose pairs come one after the other; how many there are need not be known."""

    @property
    def num_shards(self) -> int:
        """How many parts it is read in, by which a stream that has changed is known."""

    @property
    def block(self) -> int:
        """How many clips that come one after the other training may take in another order; they are kept so long."""

    def reader(self, seed: Sequence[int], rank: int, world: int, bookmark: Bookmark | None) -> "StreamReader":
        """What rank `rank` of `world` reads, from the start or from a bookmark; no other rank reads the same.

        seed: decides the order, the same for all ranks.
        """


class StreamReader(Protocol):
    """One rank's endless way through a stream."""

    def read(self) -> Captioned:
        """The next clip. Raises VmrError where it cannot be had."""

    def bookmark(self) -> Bookmark:
        """The place behind the clip that was read last, for `TrainStream.reader`."""
