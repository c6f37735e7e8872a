"""Training batches from sources of pairs, in an order that only the seed decides and that can be taken up again.

Shapes: B clips of T frames of S x S pixels.

Each source is walked through, see `vmr.data.training.order`. A clip that cannot be decoded takes its place
with it: the next pair of the walk, with its own caption, fills the row of the batch. Upstream loads another video and keeps the caption.

Neither the number of workers nor their speed changes a batch.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotations.records import Media
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.sources.source import Pair, TrainSource, TrainStream
from vmr.data.training.clip_pool import ClipPool
from vmr.data.training.clips import ClipSpec
from vmr.data.training.order import PLAN, LoaderPosition, Walk
from vmr.errors import VmrError

_RECENT = 1000  # clips over which the share of bad ones is taken,
_ENOUGH = 50  # once there are so many
_NAMED = 3  # of the bad ones, when there are too many


@dataclass(frozen=True)
class Skipped:
    """A clip that could not be decoded, and the source it is of; reason is one line."""

    source: str
    name: str
    reason: str


@dataclass(frozen=True)
class TrainBatch:
    """B clips of one media type with their captions.

    video: uint8 RGB in [0, 255], (B, T, 3, S, S), T = 1 for images. ids: int64 (B,), equal for the same video and for
    nothing else. position: behind this batch. skipped: clips found bad on the way to this batch, each named once in a
    run of `TrainLoader.batches`. waited_s: how long whoever asked for the batch waited for it.
    """

    media: Media
    video: NDArray[np.uint8]
    captions: tuple[str, ...]
    ids: NDArray[np.int64]
    position: LoaderPosition
    skipped: tuple[Skipped, ...]
    waited_s: float = 0.0


class TrainLoader:
    """Decodes, draws and batches the pairs of several sources; a context manager, which ends what it started.

    sources: with weights, which need not sum to 1; none of weight 0 is drawn from. A batch is of one media type, drawn
    with the weight of all its sources together, and each of its rows from one of these, drawn by weight; all ranks draw
    the same.
    batch_size: B per rank, for each media type there is. seed: at least 0. rank, world: of this process among all.
    num_workers: decoding processes, None for the number of CPUs but at most 8; 0 decodes in a thread of this process,
    without a time limit. Clips that a source draws itself are drawn in that thread. timeout_s: see `DecodePool`.
    max_bad_share: in [0, 1); the loader stops when more than this share of the last 1000 clips is bad, or of all of at
    least 50. prefetch: batches that are decoded ahead, at least 1.

    Raises VmrError for values that make no sense.
    """

    def __init__(
        self,
        sources: Sequence[tuple[TrainSource | TrainStream, float]],
        spec: ClipSpec,
        *,
        batch_size: Mapping[Media, int],
        seed: int,
        rank: int = 0,
        world: int = 1,
        num_workers: int | None = None,
        timeout_s: float = 120.0,
        max_bad_share: float = 0.25,
        prefetch: int = 2,
    ) -> None:
        wrong = {
            "training needs at least one source": not sources,
            "no weight of a source may be below 0, nor all of them 0": min((w for _, w in sources), default=1) < 0
            or not any(w for _, w in sources),
            "seed must be at least 0": seed < 0,
            f"rank {rank} of {world} makes no sense": not 0 <= rank < world,
            "max_bad_share must be at least 0 and less than 1": not 0 <= max_bad_share < 1,
            "prefetch must be at least 1": prefetch < 1,
            "num_workers must be at least 0": num_workers is not None and num_workers < 0,
        }
        for source, _ in sources:
            wrong[f"{source.name}: has no pairs"] = not isinstance(source, TrainStream) and len(source) == 0
            wrong[f"{source.name}: batch_size[{source.media!r}] must be at least 1"] = (
                batch_size.get(source.media, 0) < 1
            )
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)
        check_reader(spec.reader)
        self._sources = [source for source, _ in sources]
        self._weights = np.array([weight for _, weight in sources], np.float64)
        self._offsets = np.cumsum([0, *(source.num_ids for source in self._sources)]).tolist()
        self._specs: dict[Media, ClipSpec] = {"video": spec, "image": replace(spec, num_frames=1)}
        self._batch_size = dict(batch_size)
        self._num_workers, self._timeout_s = num_workers, timeout_s
        self._max_bad_share, self._prefetch = max_bad_share, prefetch
        lengths = tuple(source.num_shards if isinstance(source, TrainStream) else len(source) for source, _ in sources)
        self._start = LoaderPosition(0, (0,) * len(sources), (None,) * len(sources), seed, rank, world, lengths)
        self._runs: list[_Run] = []
        weakref.finalize(self, _stop, self._runs)  # also when the interpreter ends, while threads can still be joined

    def batches(
        self, position: LoaderPosition | None = None, *, pin_memory: bool = False
    ) -> Generator[TrainBatch, None, None]:
        """Batches without end, from the first or from where `position` says: the same as if never interrupted.

        pin_memory: have them lie in memory that is copied to a GPU while the program goes on.
        Raises VmrError for a position of a loader with another seed, rank, world or other sources; while it runs, when
        too many clips are bad, when a worker cannot start, and whatever a source raises.
        """
        position = position or self._start
        start = self._start
        if replace(position, batch=0, taken=start.taken, bookmarks=start.bookmarks) != start:
            raise VmrError(
                "the saved position of the data is that of another run: "
                "seed, number of processes and the sources with their lengths must be the same"
            )
        return self._batches(position, pin_memory)

    def _batches(self, position: LoaderPosition, pin_memory: bool) -> Generator[TrainBatch, None, None]:
        pool = (
            None
            if self._num_workers == 0
            else ClipPool(DecodeOptions(num_workers=self._num_workers, timeout_s=self._timeout_s))
        )
        stopped = threading.Event()
        run = _Run(self._assemble(position, pool, pin_memory, stopped), pool, stopped)
        self._runs.append(run)
        try:
            while True:
                began = time.perf_counter()
                batch = run.next()
                yield replace(batch, waited_s=time.perf_counter() - began)
        finally:
            run.stop()
            self._runs.remove(run)

    def close(self) -> None:
        """End the threads and workers of every loop over `batches`; harmless when they have ended already."""
        _stop(self._runs)

    def __enter__(self) -> TrainLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _assemble(
        self, position: LoaderPosition, pool: ClipPool | None, pin_memory: bool, stopped: threading.Event
    ) -> Iterator[TrainBatch]:
        """Runs in the thread of a `_Run`. Asks for the clips of later batches before it waits for those of one."""
        walks = [
            Walk(
                source,
                number,
                self._offsets[number],
                self._specs[source.media],
                position=position,
                pool=pool,
                stopped=stopped,
            )
            for number, source in enumerate(self._sources)
        ]
        health = _Health(self._max_bad_share)
        planned: deque[tuple[Media, list[Walk]]] = deque()
        number = position.batch
        while True:
            while len(planned) <= self._prefetch:
                media, rows = self._plan(number + len(planned))
                planned.append((media, [walks[row] for row in rows]))
                for walk in planned[-1][1]:
                    walk.ask()
            media, of_rows = planned.popleft()
            number += 1
            skipped: list[Skipped] = []
            pairs, clips = zip(*(_good_clip(walk, health, skipped) for walk in of_rows), strict=True)
            yield TrainBatch(
                media=media,
                video=_pinned(clips) if pin_memory else np.stack(clips),
                captions=tuple(pair.caption for pair in pairs),
                ids=np.array([pair.id for pair in pairs], np.int64),
                position=replace(
                    position,
                    batch=number,
                    taken=tuple(walk.taken for walk in walks),
                    bookmarks=tuple(walk.bookmark() for walk in walks),
                ),
                skipped=tuple(skipped),
            )

    def _plan(self, batch: int) -> tuple[Media, list[int]]:
        """The media type of a batch, and for each of its rows the number of the source."""
        rng = np.random.default_rng((self._start.seed, PLAN, batch))
        drawn = self._sources[rng.choice(len(self._sources), p=self._weights / self._weights.sum())]
        weights = self._weights * [source.media == drawn.media for source in self._sources]
        rows = rng.choice(len(self._sources), self._batch_size[drawn.media], p=weights / weights.sum())
        return drawn.media, rows.tolist()


def _pinned(clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The clips as one array in page-locked memory, which `torch.from_numpy` leaves where it is."""
    import torch

    pinned = torch.empty((len(clips), *clips[0].shape), dtype=torch.uint8, pin_memory=True).numpy()
    return np.stack(clips, out=pinned)


def _good_clip(walk: Walk, health: _Health, skipped: list[Skipped]) -> tuple[Pair, NDArray[np.uint8]]:
    """The next pair of a walk that can be decoded; those before it that cannot are put on the list."""
    while True:
        pair, clip = walk.take()
        if not isinstance(clip, DecodeFailure):
            health.good()
            return pair, clip
        walk.ask()  # another in its place: as many are asked for as rows are planned
        if health.bad(walk.number, pair.name, clip.reason):
            skipped.append(Skipped(walk.source_name, pair.name, clip.reason))


class _Health:
    """How many clips are bad, and which."""

    def __init__(self, max_bad_share: float) -> None:
        self._max_bad_share = max_bad_share
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._reasons: dict[tuple[int, str], str] = {}

    def good(self) -> None:
        self._recent.append(False)

    def bad(self, source: int, name: str, reason: str) -> bool:
        """Note a bad clip; whether it is new. Raises VmrError when there are too many."""
        is_new = (source, name) not in self._reasons
        self._reasons.setdefault((source, name), reason)
        self._recent.append(True)
        num_bad, num_clips = sum(self._recent), len(self._recent)
        if num_clips >= _ENOUGH and num_bad > self._max_bad_share * num_clips:
            first = ", ".join(f"{name} ({why})" for (_, name), why in list(self._reasons.items())[:_NAMED])
            raise VmrError(
                f"{num_bad} of the last {num_clips} clips cannot be decoded, more than "
                f"max_bad_share {self._max_bad_share:g} allows: {first}{', ...' if len(self._reasons) > _NAMED else ''}"
            )
        return is_new


class _Run:
    """One loop over `TrainLoader.batches`: the thread that assembles batches and the workers that decode for it."""

    def __init__(self, batches: Iterator[TrainBatch], pool: ClipPool | None, stopped: threading.Event) -> None:
        self._batches = batches
        self._pool = pool
        self._ready: queue.Queue[TrainBatch | BaseException] = queue.Queue(maxsize=1)
        self._stopped = stopped
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def next(self) -> TrainBatch:
        """The next batch, or the error that came instead of it."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """End the workers and the thread; whoever waits for a batch is told."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.close()
        self._thread.join()
        with contextlib.suppress(queue.Empty):
            self._ready.get_nowait()
        with contextlib.suppress(queue.Full):  # two threads may stop it at once
            self._ready.put_nowait(VmrError("the loader was closed while its batches were read"))

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                self._put(batch)
                if self._stopped.is_set():
                    return
        except BaseException as error:  # told to whoever iterates: nobody looks into a thread
            self._put(error)

    def _put(self, item: TrainBatch | BaseException) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return


def _stop(runs: list[_Run]) -> None:
    for run in list(runs):
        run.stop()
