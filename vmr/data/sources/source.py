"""Where training reads pairs of a clip and a caption: from a source by number, or from a stream in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vmr.data.media import Media
from vmr.errors import VmrError
from vmr.targets import Label, Target

MakeClip = Callable[[int, int], NDArray[np.uint8]]
"""make(num_frames, size) draws a clip: uint8 RGB in [0, 255], (T, 3, S, S) for T = num_frames and S = size."""

StreamState = dict[str, Any]
"""The position of a stream's reader, as JSON types."""


@dataclass(frozen=True)
class Pair:
    """A clip and a caption of it.

    Attributes:
        name: its name in a list of failures.
        id: pairs with equal ids are of the same video. Ids are unique within a source; a loader of several sources adds
            an offset to the ids of each.
        caption: the caption, unchanged. Of a clip with a label the name of its class, which tells whether it may be
            mirrored; "" where it has none.
        path: the file to decode, or a folder of frames; None where `make` is given.
        make: draws the clip; None where `path` is given.
        label: what a classifier learns of the clip; None for a clip with a caption.
        span: the part of the video that is used, start and end in seconds; None for the whole video.

    Raises:
        VmrError: both or none of `path` and `make` are given.
    """

    name: str
    id: int
    caption: str = ""
    path: Path | None = None
    make: MakeClip | None = None
    label: Label | None = None
    span: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.make is None):
            raise VmrError(f"{self.name}: a pair has either a file or a way to make its clip")


@dataclass(frozen=True)
class CaptionedClip:
    """A file with all of its captions, of which training takes one at a time.

    Attributes:
        name: as in a `Pair`.
        id: as in a `Pair`.
        captions: at least one.
        path: the file to decode.
    """

    name: str
    id: int
    captions: tuple[str, ...]
    path: Path

    def pair(self, rng: np.random.Generator) -> Pair:
        """Return the file with one of its captions, which `rng` chooses."""
        return Pair(self.name, self.id, self.captions[rng.integers(len(self.captions))], self.path)


class TrainData(Protocol):
    """The attributes that sources and streams share."""

    @property
    def name(self) -> str:
        """Its name in logs."""

    @property
    def media(self) -> Media:
        """Whether its clips have several frames or are still pictures."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know, such as how much was left out; one line each."""

    @property
    def num_ids(self) -> int:
        """Ids are from 0 to num_ids - 1. A source uses all of them, a stream need not."""


@runtime_checkable
class LabelledData(TrainData, Protocol):
    """The attributes that sources and streams of labelled clips have as well; each of their pairs has a `label`."""

    @property
    def target(self) -> Target:
        """What the labels say."""

    @property
    def num_outputs(self) -> int:
        """C, outputs of a classifier: the number of classes, or 1 for a regression."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, C of them; None if they have no names."""


class TrainSource(TrainData, Protocol):
    """Pairs that training reads in any order."""

    @property
    def group(self) -> int:
        """How many consecutive pairs stay together and in order, starting at each multiple of `group`.

        It divides the number of pairs; 1 for no groups.
        """

    def __len__(self) -> int:
        """Return the number of pairs in an epoch."""

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return a pair.

        Args:
            index: from 0 to len - 1.
            rng: chooses among several captions, and nothing else.
        """


@runtime_checkable
class TrainStream(TrainData, Protocol):
    """Pairs that are read in order; their number need not be known."""

    @property
    def num_shards(self) -> int:
        """The number of files of the stream. If it has changed, a saved position cannot be used."""

    @property
    def shuffle_buffer(self) -> int:
        """How many consecutive clips are shuffled together; their files are kept until they are used."""

    def reader(self, seed: Sequence[int], rank: int, world: int, state: StreamState | None) -> "StreamReader":
        """Return the reader of one process; no other process reads the same clips.

        Args:
            seed: decides the order; the same for all processes.
            rank: the rank of the process.
            world: how many processes there are.
            state: from `StreamReader.state_dict`, the position to continue from; None for the start.
        """


class StreamReader(Protocol):
    """Reads the clips of a stream that belong to one process, without end."""

    def read(self) -> CaptionedClip:
        """Return the next clip. Raises VmrError if it cannot be read."""

    def state_dict(self) -> StreamState:
        """Return the position after the clip that was read last, for `TrainStream.reader`."""
