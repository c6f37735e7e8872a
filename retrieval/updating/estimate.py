"""What building an index will cost, measured on a sample of its videos; nothing is written."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_paths, real_number
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import FrameSpec, VideoFacts
from vmr.data.decoding.worker_process import Decoded, DecodedVideo, DecodeFailure
from vmr.data.discovery.probe import probe_durations
from vmr.errors import VmrError
from vmr.memory import peak_bytes
from vmr.models.encoder import Encoder
from vmr.retrieval.embed import let_torch_threads_sleep
from vmr.retrieval.embedding.pipeline import BATCH_SEGMENTS, EmbeddedVideo, Pipeline, Reached
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.schema import PAGE_BYTES
from vmr.retrieval.updating.keeping import tokens_of_window
from vmr.retrieval.updating.spaces import frames_of
from vmr.retrieval.vectors.kinds import AUTO, Thresholds, factory_of_space, has_lists

_MAX_SAMPLE = 64  # videos
_LEAST_SPREAD = 0.1  # of the time: no machine is equally busy twice
_UNKNOWN_SPREAD = 0.5  # where one video was measured
_ROW_BYTES, _VIDEO_BYTES = 34, 330  # of the database, measured, without vectors
_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class BuildEstimate:
    """What building an index will cost. Times are those after the encoder is loaded.

    Attributes:
        num_videos: how many videos there are.
        video_s: seconds of video, of all of them.
        num_unknown: how many do not state their length; they are taken to be as long as the others on average.
        sample_videos: how many videos were measured, whole or in part.
        sample_s: seconds of video that were measured.
        sample_failures: videos of the sample that cannot be read, with the reason.
        wall_s: how long the build will take, in seconds.
        spread: by which part of `wall_s` it may take more or less: two standard errors over the videos of the sample.
        cpu_s: seconds of CPU time, of all processes.
        num_rows: windows of the index.
        index_bytes: size of the index on the disk, without tokens.
        tokens_bytes: size of the tokens, if they are kept; 0 if no encoder has any.
        memory_bytes: the most memory that this process and the decoding processes will use.
    """

    num_videos: int
    video_s: float
    num_unknown: int
    sample_videos: int
    sample_s: float
    sample_failures: tuple[DecodeFailure, ...]
    wall_s: float
    spread: float
    cpu_s: float
    num_rows: int
    index_bytes: int
    tokens_bytes: int
    memory_bytes: int


def estimate_build(
    paths: Sequence[str | Path],
    encoders: Sequence[Encoder],
    segments: SegmentOptions = SegmentOptions(),
    decode: DecodeOptions = DecodeOptions(),
    *,
    sample_s: float = 20.0,
) -> BuildEstimate:
    """Embed a sample of videos, and say what embedding all of them will cost.

    The sample is taken evenly over the sizes of the files. It is decoded and embedded as in a build.

    Args:
        paths: the videos.
        encoders: the models.
        segments: how videos are cut, and which frames are taken.
        decode: how videos are decoded.
        sample_s: how long to measure, in seconds; two batches of windows are measured even if they take longer.

    Raises:
        VmrError: there is no video, none of the sample can be read, or an argument is out of range.
    """
    videos = list(dict.fromkeys(str(path) for path in check_paths(paths)))
    if not videos:
        raise VmrError("no videos given: name a folder or a list of files")
    if not real_number("sample_s", sample_s) >= 0:
        raise VmrError(f"sample_s is {sample_s}: expected a number of seconds from 0")
    lengths = list(probe_durations(videos, decode))
    samples = _measure(videos, encoders, segments, decode, sample_s)
    first = samples[0]
    known = [length_s for length_s in lengths if length_s is not None]
    mean_s = float(np.mean(known or [*first.reached.values()]))
    all_s = [mean_s if length_s is None else length_s for length_s in lengths]
    rows = [_num_rows(length_s, segments) for length_s in all_s]
    # A whole video costs about the same, however long it is.
    by_video = segments.is_whole or not any(first.reached.values())
    work = float(len(videos)) if by_video else math.fsum(all_s)
    costs = [sample.costs(by_video) for sample in samples]
    vector_bytes = sum(_vector_bytes(rows, encoder.embed_dim) for encoder in encoders)
    workers_bytes = max(sample.workers_bytes for sample in samples)
    return BuildEstimate(
        num_videos=len(videos),
        video_s=math.fsum(all_s),
        num_unknown=lengths.count(None),
        sample_videos=len(first.reached),
        sample_s=math.fsum(first.reached.values()),
        sample_failures=tuple(first.failures),
        wall_s=sum(cost.start_s + cost.wall_s * work for cost in costs),
        spread=max(cost.spread for cost in costs),
        cpu_s=sum(
            each.worker_cpu_s * each.num_workers + cost.cpu_s * work for each, cost in zip(samples, costs, strict=True)
        ),
        num_rows=sum(rows),
        index_bytes=_table_bytes(rows) + vector_bytes,
        tokens_bytes=sum(rows) * sum(tokens_of_window(encoder) for encoder in encoders),
        memory_bytes=peak_bytes() + workers_bytes + 4 * sum(rows) * max(each.embed_dim for each in encoders),
    )


def _measure(
    videos: Sequence[str],
    encoders: Sequence[Encoder],
    segments: SegmentOptions,
    decode: DecodeOptions,
    sample_s: float,
) -> list[_Sample]:
    """Measure each group of encoders that take the same frames, as a build decodes for each group by itself."""
    let_torch_threads_sleep()
    groups: dict[FrameSpec, list[Encoder]] = {}
    for encoder in encoders:
        groups.setdefault(frames_of(encoder, segments), []).append(encoder)
    chosen = _evenly_by_size(videos)
    worker_cpu_s = _cpu_of_a_worker(chosen[0], decode)
    samples = []
    for frames, group in groups.items():
        sample = _Sample(group, sample_s / len(groups), worker_cpu_s)
        sample.run(DecodePool(frames, segments.segmenter(), decode), chosen)
        if not sample.batches:
            number, first = len(sample.failures), sample.failures[0]
            raise VmrError(f"none of a sample of {number} videos can be read, first: {first.path}: {first.reason}")
        samples.append(sample)
    return samples


@dataclass(frozen=True)
class _Batch:
    """Windows that were embedded together, and what they took since the batch before."""

    path: str
    seconds: float
    wall_s: float
    own_cpu_s: float  # of this process
    is_first: bool  # embedded while processes and libraries were starting


@dataclass(frozen=True)
class _Costs:
    """What a unit of work costs: a second of video, or a whole video."""

    start_s: float
    wall_s: float
    spread: float
    cpu_s: float


@dataclass
class _Sample:
    """Embeds videos until the time is up, and notes what that cost."""

    encoders: Sequence[Encoder]
    limit_s: float
    worker_cpu_s: float  # of starting one
    batches: list[_Batch] = field(default_factory=list)
    reached: dict[str, float] = field(default_factory=dict)  # seconds of each video that are embedded
    failures: list[DecodeFailure] = field(default_factory=list)
    num_workers: int = 0
    workers_bytes: int = 0
    workers_cpu_s: float = 0.0

    def run(self, pool: DecodePool, paths: Sequence[str]) -> None:
        """Measure these videos: first one for each worker, then twice as many, then as many as there is time for.

        Each of these parts is run to its end, so that no video is decoded for nothing.
        """
        before_s = _children_cpu_s()
        begin_s = time.monotonic()
        self.num_workers = size = min(pool.num_workers, len(paths))
        done = 0
        with pool:
            while size > 0:
                self._run_part(pool, paths[done : done + size], begin_s + self.limit_s, is_first=done == 0)
                done += size
                used_s = time.monotonic() - begin_s
                size = 2 * size if done == size else int(done * (self.limit_s - used_s) / used_s)
                size = size if used_s < self.limit_s and done < len(paths) else 0
        self.workers_cpu_s = max(0.0, _children_cpu_s() - before_s - self.num_workers * self.worker_cpu_s)

    def costs(self, by_video: bool) -> _Costs:
        """Return what a unit costs, which is a whole video or a second of video."""

        def units(batches: Sequence[_Batch]) -> float:
            return float(
                len({batch.path for batch in batches}) if by_video else sum(batch.seconds for batch in batches)
            )

        later = [batch for batch in self.batches if not batch.is_first]
        if units(later) <= 0:
            later = self.batches[1:]
        if units(later) <= 0:
            later = self.batches
        videos = {batch.path: [each for each in later if each.path == batch.path] for batch in later}
        points = [(units(some), sum(batch.wall_s for batch in some)) for some in videos.values()]
        wall_s, spread = _ratio(np.array(points))
        start_s = sum(batch.wall_s for batch in self.batches[: -len(later)]) - wall_s * units(
            self.batches[: -len(later)]
        )
        own_cpu_s = sum(batch.own_cpu_s for batch in later) / units(later)
        return _Costs(max(0.0, start_s), wall_s, spread, own_cpu_s + self.workers_cpu_s / units(self.batches))

    def _run_part(self, pool: DecodePool, paths: Sequence[str], until_s: float, is_first: bool) -> None:
        batch_s, own_cpu_s = time.monotonic(), time.process_time()
        for path, end_s in self._embedded(pool.decode(paths)):
            before_s, batch_s = batch_s, time.monotonic()
            before_cpu_s, own_cpu_s = own_cpu_s, time.process_time()
            seconds = end_s - self.reached.get(path, 0.0)
            self.reached[path] = end_s
            self.batches.append(_Batch(path, seconds, batch_s - before_s, own_cpu_s - before_cpu_s, is_first))
            self.workers_bytes = max(self.workers_bytes, pool.peak_bytes())
            if len(self.batches) > 1 and batch_s > until_s:
                break

    def _embedded(self, messages: Iterator[Decoded]) -> Iterator[tuple[str, float]]:
        """Embed as in a build; yield a video, and how far it is, after each `BATCH_SEGMENTS` windows and at its end."""
        pipeline, reached = Pipeline([_Unkept(encoder) for encoder in self.encoders]), Reached()
        waiting: dict[str, list[float]] = {}  # path -> how far it is after each window
        for message in messages:
            pipeline.add(message)
            if isinstance(message, DecodeFailure):
                waiting.pop(message.path, None)
                self.failures.append(message)
            elif (seconds := reached.seconds(message)) is not None:
                windows = waiting.setdefault(message.path, [])
                windows.append(seconds)
                if len(windows) == BATCH_SEGMENTS:
                    yield message.path, max(waiting.pop(message.path))
            elif isinstance(message, DecodedVideo) and (rest := waiting.pop(message.path, [])):
                pipeline.flush()
                yield message.path, max(rest)


@dataclass
class _Unkept:
    """Vectors that are measured and not kept."""

    encoder: Encoder
    with_tokens = False

    def lacks(self, path: str) -> bool:
        return True

    def new_tokens(self) -> list[NDArray[np.float32]]:
        return []

    def keep(self, video: EmbeddedVideo, tokens: object) -> None:
        return


def _ratio(points: NDArray[np.float64]) -> tuple[float, float]:
    """Return seconds for a unit, from (videos, 2) units and seconds, and two standard errors as a part of it."""
    units, seconds = points.T
    rate = float(seconds.sum() / units.sum())
    if len(points) < 2 or rate <= 0:
        return rate, _UNKNOWN_SPREAD
    residuals = seconds - rate * units
    error = math.sqrt(len(points) / (len(points) - 1) * float(residuals @ residuals)) / float(seconds.sum())
    return rate, max(_LEAST_SPREAD, 2 * error)


def _evenly_by_size(paths: Sequence[str]) -> list[str]:
    """Choose videos evenly over their sizes, such that the first of them are chosen evenly, too: 1/2, 1/4, 3/4, 1/8...

    Empty files and those that are missing are not chosen unless there are no others.
    """
    sizes = {path: _size(path) for path in paths}
    ordered = sorted((path for path in paths if sizes[path]), key=sizes.__getitem__) or list(paths)
    fractions = ((2 * step + 1) / 2**level for level in range(1, 32) for step in range(2 ** (level - 1)))
    wanted = min(_MAX_SAMPLE, len(ordered))
    chosen = dict.fromkeys(ordered[int(fraction * len(ordered))] for fraction in islice(fractions, 8 * _MAX_SAMPLE))
    return list(chosen)[:wanted]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0


def _children_cpu_s() -> float:
    """The CPU time of the children of this process that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _cpu_of_a_worker(path: str, decode: DecodeOptions) -> float:
    """The CPU time of starting one decoding process."""
    before_s = _children_cpu_s()
    list(probe_durations([path], decode))
    return _children_cpu_s() - before_s


def _num_rows(length_s: float, segments: SegmentOptions) -> int:
    """The rows of a video; with shots as many as of windows that do not overlap, because cuts are not known yet."""
    segmenter = segments.segmenter()
    return 1 if segmenter is None else len(segmenter.spans(VideoFacts(length_s, 1, 1, 1)))


def _table_bytes(rows: Sequence[int]) -> int:
    return _VIDEO_BYTES * len(rows) + _ROW_BYTES * sum(rows) + 20 * PAGE_BYTES  # and the pages of empty tables


def _vector_bytes(rows: Sequence[int], dim: int) -> int:
    """Bytes of the vectors: as blocks in the pages of the database, and again in a file of FAISS if there are many."""
    blocks = sum(_stored_bytes(2 * dim * num) for num in rows)
    num_rows = sum(rows)
    if num_rows < _THRESHOLDS.file_rows:
        return round(blocks)
    has_bytes = has_lists(factory_of_space(AUTO, "float16", num_rows, _THRESHOLDS))  # of a dimension; else float16
    return round(blocks) + num_rows * (8 + dim * (1 if has_bytes else 2))


def _stored_bytes(block: int) -> float:
    """The bytes that a row with a block takes in SQLite's pages: see "overflow pages" in its file format."""
    row = block + 20
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    if row <= PAGE_BYTES - 35:
        inside = row
    else:
        inside = least + (row - least) % (PAGE_BYTES - 4)
        inside = inside if inside <= PAGE_BYTES - 35 else least
    pages_of_its_own = math.ceil((row - inside) / (PAGE_BYTES - 4))
    return PAGE_BYTES * (pages_of_its_own + 1 / ((PAGE_BYTES - 8) // (inside + 10)))
