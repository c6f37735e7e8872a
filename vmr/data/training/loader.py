"""Training batches from sources of pairs. The seed alone decides their order, and it can be resumed.

Shapes: B clips of T frames of S x S pixels.

`vmr.data.training.order` decides the order within each source. If a clip cannot be decoded, the next pair of the same
source takes its row of the batch, with its own caption. (Upstream loads another video, but keeps the caption.) Neither
the number of workers nor their speed changes a batch.
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

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.media import Media
from vmr.data.sources.source import Pair, TrainSource, TrainStream
from vmr.data.training.clip_pool import ClipPool
from vmr.data.training.clips import ClipSpec
from vmr.data.training.order import PLAN, LoaderPosition, Walk
from vmr.errors import VmrError

_RECENT = 1000  # the share of failures is computed over this many clips, the last ones
_ENOUGH = 50  # the share is not checked before this many clips
_NAMED = 3  # how many failures the message names if there are too many


@dataclass(frozen=True)
class Skipped:
    """A clip that could not be decoded.

    Attributes:
        source: the name of its source.
        name: the clip's name in the source.
        reason: one line.
    """

    source: str
    name: str
    reason: str


@dataclass(frozen=True)
class TrainBatch:
    """B clips of one media type with their captions or labels.

    With several augmentations of each clip, the rows of one clip follow each other, and B is the loader's batch size
    times their number.

    Attributes:
        media: the media type of the clips.
        video: uint8 RGB in [0, 255], (B, T, 3, S, S); T = 1 for images.
        captions: B texts.
        ids: int64 (B,), equal for clips of the same video only.
        position: the position of the loader after this batch.
        skipped: clips that could not be decoded on the way to this batch, each named once in a loop over
            `TrainLoader.batches`.
        labels: int64 (B,) of classes, or float32 (B, C) of several numbers a clip; None for clips with captions.
        waited_s: how many seconds the consumer waited for this batch.
    """

    media: Media
    video: NDArray[np.uint8]
    captions: tuple[str, ...]
    ids: NDArray[np.int64]
    position: LoaderPosition
    skipped: tuple[Skipped, ...]
    labels: NDArray[np.int64] | NDArray[np.float32] | None = None
    waited_s: float = 0.0


class TrainLoader:
    """Decodes, draws and batches the pairs of several sources.

    It is a context manager, which ends the threads and processes that were started. Each batch has one media type,
    drawn with the total weight of the sources of this type; then the source of each row is drawn among these sources by
    weight. All processes draw the same numbers.

    Args:
        sources: with weights, which need not sum to 1. A source of weight 0 is not used.
        spec: the settings of a clip.
        batch_size: B per process, for each media type among the sources.
        seed: the seed of all random choices, at least 0.
        rank: the rank of this process.
        world: how many processes there are.
        decode: how videos are decoded. Clips that a source draws itself are drawn in a thread of this process.
        in_process: decode in that thread too, without a time limit.
        max_bad_share: in [0, 1). The loader stops when more than this share of the last 1000 clips (or of all clips,
            once there are 50) cannot be decoded.
        prefetch: how many batches are decoded ahead, at least 1.

    Raises:
        VmrError: a value is not allowed, a source has no pairs, or the reader is not installed.
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
        decode: DecodeOptions = DecodeOptions(),
        in_process: bool = False,
        max_bad_share: float = 0.25,
        prefetch: int = 2,
    ) -> None:
        wrong = {
            "training needs at least one source": not sources,
            "no weight of a source may be below 0, nor all of them 0": min((w for _, w in sources), default=1) < 0
            or not any(w for _, w in sources),
            "seed must be at least 0": seed < 0,
            f"rank is {rank}, but must be from 0 to {world - 1}": not 0 <= rank < world,
            "max_bad_share must be at least 0 and less than 1": not 0 <= max_bad_share < 1,
            "prefetch must be at least 1": prefetch < 1,
        }
        for source, _ in sources:
            wrong[f"{source.name}: has no pairs"] = not isinstance(source, TrainStream) and len(source) == 0
            wrong[f"{source.name}: batch_size[{source.media!r}] must be at least 1"] = (
                batch_size.get(source.media, 0) < 1
            )
            streams_repeat = spec.repeats > 1 and isinstance(source, TrainStream)
            wrong[f"{source.name}: is read as a stream, which has no repeats: set repeats to 1"] = streams_repeat
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)
        check_reader(decode.reader)
        self._sources = [source for source, _ in sources]
        self._weights = np.array([weight for _, weight in sources], np.float64)
        self._offsets = np.cumsum([0, *(source.num_ids for source in self._sources)]).tolist()
        self._specs: dict[Media, ClipSpec] = {"video": spec, "image": replace(spec, num_frames=1)}
        self._batch_size = dict(batch_size)
        self._decode, self._in_process = decode, in_process
        self._max_bad_share, self._prefetch = max_bad_share, prefetch
        lengths = tuple(source.num_shards if isinstance(source, TrainStream) else len(source) for source, _ in sources)
        self._start = LoaderPosition(0, (0,) * len(sources), (None,) * len(sources), seed, rank, world, lengths)
        self._runs: list[_BatchThread] = []
        weakref.finalize(self, _stop, self._runs)  # also when the interpreter ends, while threads can still be joined

    def batches(
        self, position: LoaderPosition | None = None, *, pin_memory: bool = False
    ) -> Generator[TrainBatch, None, None]:
        """Yield an endless sequence of batches.

        Args:
            position: where to start, from an earlier batch; None for the first batch. The batches are the same as if
                the loop had never been interrupted.
            pin_memory: whether the clips are in page-locked memory, from which copies to a GPU run in the background.

        Raises:
            VmrError: the position is from a loader with another seed, rank, world or other sources; later, if too many
                clips cannot be decoded, or a worker cannot start. Sources may raise other errors.
        """
        position = position or self._start
        start = self._start
        if replace(position, batch=0, taken=start.taken, stream_states=start.stream_states) != start:
            raise VmrError(
                "the saved position of the data is that of another run: "
                "seed, number of processes and the sources with their lengths must be the same"
            )
        return self._batches(position, pin_memory)

    def _batches(self, position: LoaderPosition, pin_memory: bool) -> Generator[TrainBatch, None, None]:
        pool = None if self._in_process else ClipPool(self._decode)
        stopped = threading.Event()
        run = _BatchThread(self._assemble(position, pool, pin_memory, stopped), pool, stopped)
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
        """End the threads and workers of every loop over `batches`. Does nothing if they have ended."""
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
        """Run in a `_BatchThread`: submit the clips of later batches, then wait for the clips of the next batch."""
        walks = [
            Walk(
                source,
                number,
                self._offsets[number],
                self._specs[source.media],
                position=position,
                pool=pool,
                stopped=stopped,
                reader=self._decode.reader,
            )
            for number, source in enumerate(self._sources)
        ]
        failures = _FailureCount(self._max_bad_share)
        planned: deque[tuple[Media, list[Walk]]] = deque()
        number = position.batch
        while True:
            while len(planned) <= self._prefetch:
                media, rows = self._plan(number + len(planned))
                planned.append((media, [walks[row] for row in rows]))
                for walk in planned[-1][1]:
                    walk.submit()
            media, of_rows = planned.popleft()
            number += 1
            skipped: list[Skipped] = []
            pairs, clips = zip(*(_next_clip(walk, failures, skipped) for walk in of_rows), strict=True)
            video = _pinned(clips) if pin_memory else np.stack(clips)
            spec = self._specs[media]
            of_clips = [pair for pair in pairs for _ in range(spec.num_augmented)]
            yield TrainBatch(
                media=media,
                video=video.reshape(-1, spec.num_frames, *video.shape[2:]),
                captions=tuple(pair.caption for pair in of_clips),
                ids=np.array([pair.id for pair in of_clips], np.int64),
                position=replace(
                    position,
                    batch=number,
                    taken=tuple(walk.taken for walk in walks),
                    stream_states=tuple(walk.stream_state() for walk in walks),
                ),
                skipped=tuple(skipped),
                labels=_labels(of_clips),
            )

    def _plan(self, batch: int) -> tuple[Media, list[int]]:
        """The media type of a batch, and the number of the source of each of its rows."""
        rng = np.random.default_rng((self._start.seed, PLAN, batch))
        drawn = self._sources[rng.choice(len(self._sources), p=self._weights / self._weights.sum())]
        weights = self._weights * [source.media == drawn.media for source in self._sources]
        rows = rng.choice(len(self._sources), self._batch_size[drawn.media], p=weights / weights.sum())
        return drawn.media, rows.tolist()


def _labels(pairs: Sequence[Pair]) -> NDArray[np.int64] | NDArray[np.float32] | None:
    """The labels of a batch; None if its clips have captions."""
    labels = [pair.label for pair in pairs]
    if None in labels:
        return None
    whole = all(isinstance(label, int) for label in labels)
    return np.array(labels, np.int64) if whole else np.array(labels, np.float32)


def _pinned(clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the clips as one array in page-locked memory, which `torch.from_numpy` does not copy."""
    import torch

    pinned = torch.empty((len(clips), *clips[0].shape), dtype=torch.uint8, pin_memory=True).numpy()
    return np.stack(clips, out=pinned)


def _next_clip(walk: Walk, failures: _FailureCount, skipped: list[Skipped]) -> tuple[Pair, NDArray[np.uint8]]:
    """Return the next pair of a walk that can be decoded; pairs that cannot be decoded are added to `skipped`."""
    while True:
        pair, clip = walk.next()
        if not isinstance(clip, DecodeFailure):
            failures.add_success()
            return pair, clip
        walk.submit()  # submit another pair in its place, so that there are as many as rows to fill
        if failures.add_failure(walk.number, pair.name, clip.reason):
            skipped.append(Skipped(walk.source_name, pair.name, clip.reason))


class _FailureCount:
    """Counts the clips that can and cannot be decoded, and remembers which cannot."""

    def __init__(self, max_bad_share: float) -> None:
        self._max_bad_share = max_bad_share
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._reasons: dict[tuple[int, str], str] = {}

    def add_success(self) -> None:
        self._recent.append(False)

    def add_failure(self, source: int, name: str, reason: str) -> bool:
        """Count a failure and return whether this clip failed for the first time. Raises VmrError for too many."""
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


class _BatchThread:
    """The thread that assembles the batches of one loop over `TrainLoader.batches`, and the workers that decode."""

    def __init__(self, batches: Iterator[TrainBatch], pool: ClipPool | None, stopped: threading.Event) -> None:
        self._batches = batches
        self._pool = pool
        self._ready: queue.Queue[TrainBatch | BaseException] = queue.Queue(maxsize=1)
        self._stopped = stopped
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def next(self) -> TrainBatch:
        """Return the next batch, or the error that occurred."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """End the workers and the thread; a consumer that waits for a batch gets an error."""
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
        except BaseException as error:  # raised again where the batches are consumed
            self._put(error)

    def _put(self, item: TrainBatch | BaseException) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return


def _stop(runs: list[_BatchThread]) -> None:
    for run in list(runs):
        run.stop()
