"""The order in which one process uses the pairs of one source. The seed alone decides it, and it can be resumed.

A source that can be read in any order is read in epochs, each a permutation of its pairs. All epochs together form one
endless sequence of places. Process r of w uses the places r, r + w, r + 2w, ... (if pairs come in groups, the groups
with these numbers). From a stream, each process reads its own clips and shuffles them one buffer at a time.

Every random choice is a function of (seed, source, place). So a position is a few counts and the states of the streams.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.sources.source import (
    CaptionedClip,
    MakeClip,
    Pair,
    StreamReader,
    StreamState,
    TrainSource,
    TrainStream,
)
from vmr.data.training.augment import flip_allowed
from vmr.data.training.clip_pool import Clip, ClipPool
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip, render_train_clip
from vmr.errors import VideoError, VmrError

# The purpose of a random generator. It is part of the seed, so that no two generators draw the same numbers.
PLAN, ORDER, CAPTION, CLIP = 1, 2, 3, 4

T = TypeVar("T", bound=np.generic)

_OLD_NAMES = {"bookmarks": "stream_states"}  # old names of fields in checkpoints


@dataclass(frozen=True)
class LoaderPosition:
    """The position of one process's loader; `LoaderPosition.of(json.loads(json.dumps(asdict(position))))` equals it.

    Attributes:
        batch: the number of the next batch, from 0.
        taken: how many pairs of each source this process has used.
        stream_states: for each stream, the state of its reader at the start of the buffer of the next pair; None for
            other sources.
        seed: the loader's seed.
        rank: the rank of the process.
        world: how many processes there are.
        lengths: the number of pairs of each source, or of shards of each stream.
    """

    batch: int
    taken: tuple[int, ...]
    stream_states: tuple[StreamState | None, ...]
    seed: int
    rank: int
    world: int
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("taken", "stream_states", "lengths"):  # JSON turns tuples into lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> LoaderPosition:
        """Read a position from a checkpoint.

        Args:
            content: `asdict` of a position, maybe from an older version of vmr.

        Raises:
            VmrError: another version of vmr saved other fields.
        """
        renamed = {_OLD_NAMES.get(name, name): value for name, value in content.items()}
        try:
            return cls(**{"stream_states": (None,) * len(renamed["lengths"]), **renamed})
        except (TypeError, KeyError) as error:
            raise VmrError(f"the saved position of the data is of another version of vmr: {error}") from error


class Walk:
    """The pairs of one source for one process: they are submitted for decoding in advance, and returned in this order.

    Attributes:
        number: of the source among all sources of the loader.
        source_name: the name of the source.
        taken: how many pairs were used.

    Args:
        source: the source.
        number: of the source among all sources of the loader.
        offset: added to the ids of the source.
        spec: the settings of a clip.
        position: where to start.
        pool: decodes the files; None to decode them in this process.
        stopped: set when the pairs are no longer needed; reading of a stream then ends with a VmrError.
        reader: the library that decodes videos, see `VideoReader`.
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
        reader: str = "pyav",
    ) -> None:
        self._reader = reader
        self.number, self.source_name = number, source.name
        self.taken = position.taken[number]
        self._source, self._offset, self._spec, self._pool = source, offset, spec, pool
        self._position = position
        self._submitted: deque[tuple[Pair, ClipJob, Future[Clip] | None]] = deque()
        self._order: _Order
        if isinstance(source, TrainStream):
            self._group, self._order = 1, _BufferedOrder(source, number, position, stopped)
        else:
            self._group, self._order = source.group, _EpochOrder(source, (position.seed, ORDER, number), spec.repeats)

    def submit(self) -> None:
        """Submit one more pair for decoding."""
        here, count = self._position, self.taken + len(self._submitted)
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
            reader=self._reader,
            span=pair.span,
        )
        future = None if self._pool is None or pair.make is not None else self._pool.submit(job)
        self._submitted.append((replace(pair, id=pair.id + self._offset), job, future))

    def next(self) -> tuple[Pair, Clip]:
        """Return the next submitted pair, and its clip or its failure."""
        pair, job, future = self._submitted.popleft()
        self.taken += 1
        if future is not None:
            return pair, future.result()
        return pair, _decode(job) if pair.make is None else _render(pair.make, job)

    def stream_state(self) -> StreamState | None:
        """Return the state that, with `taken`, resumes this walk; None if the source is not a stream."""
        return self._order.stream_state(self.taken)


def repeated(order: NDArray[T], repeats: int) -> NDArray[T]:
    """Repeat each entry of an epoch's order, and leave out as many of the last ones as are then too many.

    With several processes that take turns, each of them gets one of the repeats, with its own augmentation.

    Args:
        order: the order of an epoch, (n,).
        repeats: how often each entry comes, one after the other.

    Returns:
        The order with repeats, (n,).
    """
    return np.repeat(order, repeats)[: len(order)]


class _Order(Protocol):
    """The order of the pairs."""

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        """Pair number `count` of this process, at `place` among those of all processes; `rng` chooses the caption."""

    def stream_state(self, taken: int) -> StreamState | None:
        """The state to resume from after `taken` pairs; earlier pairs are not needed any more."""


class _EpochOrder:
    """Epochs of a source that can be read in any order, each a permutation of its groups, maybe with repeats."""

    def __init__(self, source: TrainSource, seed: tuple[int, ...], repeats: int) -> None:
        self._source, self._seed, self._repeats = source, seed, repeats
        self._epoch = -1
        self._indices = np.empty(0, np.uint32)

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        epoch, step = divmod(place, len(self._source))
        if epoch != self._epoch:
            size = self._source.group
            first = np.random.default_rng((*self._seed, epoch)).permutation(
                np.arange(0, len(self._source), size, dtype=np.uint32)
            )
            groups = repeated(first, self._repeats)
            self._indices = (groups[:, None] + np.arange(size, dtype=np.uint32)).reshape(-1)
            self._epoch = epoch
        return self._source.pair(int(self._indices[step]), rng)

    def stream_state(self, taken: int) -> None:
        """Return None: the count of pairs is enough."""


@dataclass
class _Buffer:
    """Clips of a stream that are shuffled together. start: the state of the reader before the first clip."""

    start: StreamState
    order: NDArray[np.int64]
    clips: list[CaptionedClip] = field(default_factory=list)


class _BufferedOrder:
    """A stream that is shuffled one buffer at a time. While one buffer is used, the next one is read."""

    def __init__(self, stream: TrainStream, number: int, position: LoaderPosition, stopped: threading.Event) -> None:
        self._size, self._stopped = stream.shuffle_buffer, stopped
        self._seed = (position.seed, ORDER, number, position.rank)
        self._start = position.stream_states[number]
        seed = (position.seed, ORDER, number)
        self._reader: StreamReader = stream.reader(seed, position.rank, position.world, self._start)
        self._buffers: dict[int, _Buffer] = {}

    def pair(self, count: int, place: int, rng: np.random.Generator) -> Pair:
        number, step = divmod(count, self._size)
        buffer = self._fill(number, self._size)
        self._fill(number + 1, step + 1)
        return buffer.clips[int(buffer.order[step])].pair(rng)

    def stream_state(self, taken: int) -> StreamState | None:
        """Return the start of the buffer of the next pair, and drop earlier buffers."""
        current = taken // self._size
        for number in [number for number in self._buffers if number < current]:
            del self._buffers[number]
        return self._buffers[current].start if current in self._buffers else self._start

    def _fill(self, number: int, count: int) -> _Buffer:
        """Return buffer `number` with at least `count` clips; the buffer before it must be full."""
        if number not in self._buffers:
            order = np.random.default_rng((*self._seed, number)).permutation(self._size)
            self._buffers[number] = _Buffer(self._reader.state_dict(), order)
        buffer = self._buffers[number]
        while len(buffer.clips) < count:
            if self._stopped.is_set():
                raise VmrError("the loader was closed while a stream was read")
            buffer.clips.append(self._reader.read())
        return buffer


def _decode(job: ClipJob) -> Clip:
    """Decode in this process, with the result that a worker process would give."""
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
