"""One rank's way through one source of training pairs: only the seed decides it, and it can be taken up again.

A source that can be read in any order is walked in epochs, each a permutation of its pairs. The epochs laid end to end
are one endless row of places; rank r of w takes places r, r + w, r + 2w, ... (where pairs come in groups, the groups of
these numbers). Of a stream, each rank reads what is its own, and shuffles it block by block.

Every random choice is a function of (seed, source, place), so a position is a few counts, and a stream's bookmark.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.sources.source import Bookmark, Captioned, MakeClip, Pair, StreamReader, TrainSource, TrainStream
from vmr.data.training.augment import flip_allowed
from vmr.data.training.clip_pool import Clip, ClipPool
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip, render_train_clip
from vmr.errors import VideoError, VmrError

PLAN, ORDER, CAPTION, CLIP = 1, 2, 3, 4  # what a random generator is for: keeps their numbers apart


@dataclass(frozen=True)
class LoaderPosition:
    """Where the loader of one rank stands; `LoaderPosition.of(json.loads(json.dumps(asdict(position))))` is the same.

    batch: the number of the next batch, from 0. taken: how many pairs of each source this rank has used up. bookmarks:
    of each stream the start of the block that it is in; None of other sources. The rest says whose position it is:
    seed, rank and world as given to the loader, the pairs that each source has, or the shards of a stream.
    """

    batch: int
    taken: tuple[int, ...]
    bookmarks: tuple[Bookmark | None, ...]
    seed: int
    rank: int
    world: int
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("taken", "bookmarks", "lengths"):  # JSON makes lists of them
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> LoaderPosition:
        """From what was saved. Raises VmrError for what another version of vmr made, if it had other fields."""
        try:
            return cls(**{"bookmarks": (None,) * len(content["lengths"]), **content})
        except (TypeError, KeyError) as error:
            raise VmrError(f"the saved position of the data is of another version of vmr: {error}") from error


class Walk:
    """The pairs of a source: they are asked for ahead, and taken in the same order.

    number: of the source among all. offset: added to its ids. pool: where files are decoded; None for here. stopped:
    set when nobody waits for the pairs any more, which then ends the reading of a stream with a VmrError.
    """

    def __init__(
        self,
        source: TrainSource | TrainStream,
        number: int,
        offset: int,
        spec: ClipSpec,
        *,
        position: LoaderPosition,
        pool: ClipPool | None,
        stopped: threading.Event,
    ) -> None:
        self.number, self.source_name = number, source.name
        self.taken = position.taken[number]
        self._source, self._offset, self._spec, self._pool = source, offset, spec, pool
        self._position = position
        self._asked: deque[tuple[Pair, ClipJob, Future[Clip] | None]] = deque()
        self._order: _Order
        if isinstance(source, TrainStream):
            self._group, self._order = 1, _Blockwise(source, number, position, stopped)
        else:
            self._group, self._order = source.group, _Permuted(source, (position.seed, ORDER, number))

    def ask(self) -> None:
        """Have one more pair of the walk decoded."""
        here, count = self._position, self.taken + len(self._asked)
        group, within = divmod(count, self._group)
        place = (group * here.world + here.rank) * self._group + within
        pair = self._order.pair(count, place, np.random.default_rng((here.seed, CAPTION, self.number, place)))
        if not 0 <= pair.id < self._source.num_ids:
            raise VmrError(
                f"{self._source.name}: {pair.name} has id {pair.id}, expected 0 to {self._source.num_ids - 1}"
            )
        job = ClipJob(
            path=pair.name if pair.path is None else os.fspath(pair.path),
            spec=self._spec,
            seed=(here.seed, CLIP, self.number, place),
            may_flip=flip_allowed(pair.caption, self._spec.flip),
            still=self._source.media == "image",
        )
        future = None if self._pool is None or pair.make is not None else self._pool.submit(job)
        self._asked.append((replace(pair, id=pair.id + self._offset), job, future))

    def take(self) -> tuple[Pair, Clip]:
        """The next pair that was asked for, and its clip or why there is none."""
        pair, job, future = self._asked.popleft()
        self.taken += 1
        if future is not None:
            return pair, future.result()
        return pair, _decode(job) if pair.make is None else _render(pair.make, job)

    def bookmark(self) -> Bookmark | None:
        """What, with `taken`, this walk can be taken up again from."""
        return self._order.bookmark(self.taken)


class _Order(Protocol):
    """Which pair comes when."""

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        """This rank's pair number `count`, at `place` among those of all ranks; `rng` chooses the caption."""

    def bookmark(self, taken: int) -> Bookmark | None:
        """Where to go on from when so many pairs were used up; none before it is asked for any more."""


class _Permuted:
    """Epochs of a source that can be read in any order, each a permutation of its groups."""

    def __init__(self, source: TrainSource, seed: tuple[int, ...]) -> None:
        self._source, self._seed = source, seed
        self._epoch = -1
        self._indices = np.empty(0, np.uint32)

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        epoch, step = divmod(place, len(self._source))
        if epoch != self._epoch:
            size = self._source.group
            first = np.random.default_rng((*self._seed, epoch)).permutation(
                np.arange(0, len(self._source), size, dtype=np.uint32)
            )
            self._indices = (first[:, None] + np.arange(size, dtype=np.uint32)).reshape(-1)
            self._epoch = epoch
        return self._source.pair(int(self._indices[step]), rng)

    def bookmark(self, taken: int) -> None:
        """None: a place is all there is to know."""


@dataclass
class _Block:
    start: Bookmark
    order: NDArray[np.int64]
    clips: list[Captioned] = field(default_factory=list)


class _Blockwise:
    """A stream, of which each block of so many clips is shuffled. As one block is used, the next is read."""

    def __init__(self, stream: TrainStream, number: int, position: LoaderPosition, stopped: threading.Event) -> None:
        self._size, self._stopped = stream.block, stopped
        self._seed = (position.seed, ORDER, number, position.rank)
        self._start = position.bookmarks[number]
        seed = (position.seed, ORDER, number)
        self._reader: StreamReader = stream.reader(seed, position.rank, position.world, self._start)
        self._blocks: dict[int, _Block] = {}

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        number, step = divmod(count, self._size)
        block = self._read(number, self._size)
        self._read(number + 1, step + 1)
        return block.clips[int(block.order[step])].pair(rng)

    def bookmark(self, taken: int) -> Bookmark | None:
        """The start of the block that the next pair is in; those before it are used up, and let go of."""
        current = taken // self._size
        for number in [number for number in self._blocks if number < current]:
            del self._blocks[number]
        return self._blocks[current].start if current in self._blocks else self._start

    def _read(self, number: int, count: int) -> _Block:
        """Block `number`, with so many of its clips at least; the one before it must be whole."""
        if number not in self._blocks:
            order = np.random.default_rng((*self._seed, number)).permutation(self._size)
            self._blocks[number] = _Block(self._reader.bookmark(), order)
        block = self._blocks[number]
        while len(block.clips) < count:
            if self._stopped.is_set():
                raise VmrError("the loader was closed while a stream was read")
            block.clips.append(self._reader.read())
        return block


def _decode(job: ClipJob) -> Clip:
    """In this process, what a worker would say."""
    try:
        return read_train_clip(job)
    except VideoError as error:
        return DecodeFailure(job.path, error.reason)
    except Exception as error:
        return DecodeFailure(job.path, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _render(make: MakeClip, job: ClipJob) -> Clip:
    try:
        return render_train_clip(make, job)
    except VideoError as error:
        return DecodeFailure(job.path, error.reason)
