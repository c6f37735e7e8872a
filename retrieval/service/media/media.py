"""Pictures, clips and playable parts of the videos of an index, made when they are asked for and kept for a while."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from vmr.errors import VideoError, VmrError
from vmr.from_json import from_json
from vmr.retrieval.service.media.cache import Cache, StorageError
from vmr.retrieval.service.media.opened import Opened
from vmr.retrieval.service.media.playback import (
    Kind,
    Playback,
    has_clock,
    is_short,
    media_type_of,
    note_of,
    plays_as_it_is,
)
from vmr.retrieval.service.media.probing import Probe
from vmr.retrieval.service.media.shared_work import SharedWork
from vmr.retrieval.service.media.sources import Source
from vmr.retrieval.service.options import API, Limits
from vmr.retrieval.service.processes import Answer, Processes, TimeLimitError
from vmr.retrieval.storage.records import FileState, Video

MIN_WIDTH, WIDTH, MAX_WIDTH = 64, 320, 640
"""Pixels of a thumbnail."""

MAX_CLIP_WIDTH = 960
"""Pixels of a preview."""

_PART_S = 600.0  # of a part, if it is copied; an encoded part is shorter
_STEP_S = 2.0  # parts begin at multiples of this, so that moments near each other share one
_PART_BYTES = 128 * 2**20  # of the largest file that is made
_CONVERTING = 2  # processes that convert; they are not those that make thumbnails
_CONVERT_SHARE = 0.9  # of the time in which an answer must begin
_MOMENTS_AT_ONCE = 16  # thumbnails of a video that are made together
_PROBES_KEPT = 10_000
_FAILURE_S = 30.0  # for so long nothing is tried again that failed with a file
_FAILURES_KEPT = 1000
_THUMBNAIL_BYTES = 16 * 2**20  # of all thumbnails that are made together
_VERSION = 1  # of what is made; files of another version are not used
_LOOKS, _LOOKS_PER_S = 100, 2.0  # files that searches may have looked at: at once, and then in each second
_PATIENCE_S = 1.0  # how long a search waits for files that were never looked at


T = TypeVar("T")


class ClipError(VmrError):
    """A clip that there is not, or that is too long."""


class Media:
    """What the service shows of the files of videos.

    Args:
        cache: folder for what is made.
        limits: of a request, and of the cache.
        processes: in which files are read.
    """

    def __init__(self, cache: Path, limits: Limits, processes: Processes) -> None:
        self._cache = Cache(cache, limits.cache_bytes)
        self._part_bytes = min(_PART_BYTES, limits.cache_bytes // 4)
        self._limits = limits
        self._processes = processes
        self._converting = Processes(_CONVERTING, _CONVERT_SHARE * limits.answer_s)
        self._work = SharedWork()
        self._probes: OrderedDict[str, Probe] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looking: set[asyncio.Future[None]] = set()
        self._looks, self._looked_s = float(_LOOKS), time.monotonic()
        self._wanted: dict[str, tuple[str, tuple[float, int]]] = {}  # thumbnails: stamps of their videos, and moments
        self._failures: dict[str, tuple[float, VmrError]] = {}

    def close(self) -> None:
        """End the processes that convert, and forget files that were to be looked at."""
        for task in self._looking:
            task.cancel()
        self._converting.close()

    async def cache_bytes(self) -> int:
        """Return the size of what was made and is kept."""
        return await run_in_threadpool(self._cache.num_bytes)

    async def file(self, video: Video) -> Opened:
        """Open the file of a video.

        Raises:
            GoneError: it is not there any more.
            ChangedError: it is another one than was indexed.
        """
        source = Source.of(video)
        descriptor = await run_in_threadpool(source.open)
        return Opened.of(descriptor, source.stamp, media_type_of(video.path))

    async def thumbnail(self, video: Video, start_s: float, end_s: float, width: int = WIDTH) -> bytes:
        """Make a picture of a moment: the frame in its middle, as `VideoReader` gives it.

        Args:
            video: the video.
            start_s: start of the moment, in seconds of the video.
            end_s: its end.
            width: of the picture in pixels; it is never larger than the video's own.

        Returns:
            The picture as JPEG.

        Raises:
            GoneError: the file is not there any more.
            ChangedError: it is another one than was indexed.
            VideoError: it cannot be read.
            TimeLimitError, BusyError: see `Processes.run`.
            StorageError: the cache cannot be written.
        """
        source = Source.of(video)
        moment = ((start_s + end_s) / 2, width)
        key = f"thumbnail {_VERSION} {source.stamp} {moment}"
        await self._check(source)
        jpeg = await self._kept(key, _whole_jpeg)
        if jpeg is not None:
            return jpeg
        self._wanted[key] = (source.stamp, moment)
        try:
            async with self._locks.setdefault(source.stamp, asyncio.Lock()):
                jpeg = await self._kept(key, _whole_jpeg)
                return jpeg if jpeg is not None else await self._make_thumbnails(source, key, moment, has_clock(video))
        finally:
            self._wanted.pop(key, None)  # another may have waited for the same one, and have left

    async def _make_thumbnails(self, source: Source, key: str, moment: tuple[float, int], clock: bool) -> bytes:
        """Make a thumbnail, and others of the same video that are waited for: opening it may take longer than each."""
        others = [(each, its) for each, (stamp, its) in self._wanted.items() if stamp == source.stamp and each != key]
        keys, moments = zip((key, moment), *others[: _MOMENTS_AT_ONCE - 1], strict=True)
        request = {"source": source.to_json(), "moments": moments, "has_clock": clock}
        answer = await self._run(self._processes, "thumbnails:serve_thumbnails", source, request, _THUMBNAIL_BYTES)
        if len(answer.pictures) != len(keys):
            raise VideoError(source.name, "the decoder sent an answer that is not valid")
        jpegs = [picture.tobytes() for picture in answer.pictures]
        for each, jpeg in zip(keys, jpegs, strict=True):
            await run_in_threadpool(self._cache.put, each, jpeg, lasting=False)
        return jpegs[0]

    async def _kept(self, key: str, read: Callable[[bytes], T]) -> T | None:
        """What the cache holds, as `read` gives it; None if it holds nothing, or something that is damaged."""
        content = await run_in_threadpool(self._cache.get, key)
        try:
            return None if content is None else read(content)
        except (ValueError, VmrError):
            return None

    async def probe(self, video: Video) -> Probe:
        """Say what the file of a video is.

        Raises:
            VideoError: it cannot be read.
            TimeLimitError, BusyError: see `Processes.run`.
            StorageError: the cache cannot be written.
        """
        source = Source.of(video)
        stamp = source.content_stamp
        probe = self._probes.get(stamp)
        if probe is None:
            probe = await self._work.once(f"probe {stamp}", lambda: self._look_at(source))
            self._probes[stamp] = probe
            if len(self._probes) > _PROBES_KEPT:
                self._probes.popitem(last=False)
        return probe

    async def _look_at(self, source: Source) -> Probe:
        key = f"probe {_VERSION} {source.content_stamp}"
        kept = await self._kept(key, lambda content: cast("Probe", from_json(Probe, json.loads(content), "")))
        if kept is not None:
            return kept
        answer = await self._run(self._processes, "probing:serve_probe", source, {"source": source.to_json()}, 0)
        try:
            probe = cast("Probe", from_json(Probe, answer.values, ""))
        except VmrError:
            raise VideoError(source.name, "the decoder sent an answer that is not valid") from None
        await run_in_threadpool(self._cache.put, key, json.dumps(answer.values).encode(), lasting=False)
        return probe

    async def timeline_offset_s(self, videos: Sequence[Video]) -> list[float]:
        """Say where the first picture of each video stands by the clock of its file, in seconds.

        It is 0 for a file that cannot be read, and for one that nobody has looked at yet if that takes long.
        """
        stamps = [Source.of(video).content_stamp for video in videos]
        unknown = {stamp: video for stamp, video in zip(stamps, videos, strict=True) if stamp not in self._probes}
        if unknown:
            there = await run_in_threadpool(lambda: [video for video in unknown.values() if _is_there(video)])
            looking = [asyncio.ensure_future(self._try_probe(video)) for video in there[: self._num_looks(len(there))]]
            self._looking.update(looking)
            for task in looking:
                task.add_done_callback(self._looking.discard)
            if looking:
                await asyncio.wait(looking, timeout=_PATIENCE_S)
        known = (self._probes.get(stamp) for stamp in stamps)
        return [0.0 if probe is None else probe.first_s for probe in known]

    def _num_looks(self, wanted: int) -> int:
        """How many files may be looked at for the times of hits: searches that find others each have other work."""
        now_s = time.monotonic()
        self._looks = min(_LOOKS, self._looks + _LOOKS_PER_S * (now_s - self._looked_s))
        self._looked_s = now_s
        granted = min(wanted, int(self._looks))
        self._looks -= granted
        return granted

    async def _try_probe(self, video: Video) -> None:
        with contextlib.suppress(VmrError):
            await self.probe(video)

    async def playback(self, video: Video, at_s: float | None = None) -> Playback:
        """Say how a browser can play a video around a moment; if a part must be made for it, wait until it is made.

        Args:
            video: the video.
            at_s: the moment, in seconds of the video; None for its beginning.

        Raises:
            VmrError: as `thumbnail`.
        """
        await self._check(Source.of(video))
        probe = await self.probe(video)
        media_type = plays_as_it_is(video, probe)
        if media_type is not None:
            return Playback(f"{API}/videos/{video.id}/media", "file", None, probe.first_s, None, media_type)
        starts_s = [_start_of_part(video, at_s or 0.0)]
        if starts_s[0] > 0 and is_short(video, probe):
            starts_s.insert(0, 0.0)  # one part for all moments
        for start_s in starts_s:
            facts = await self._made(*self._part(video, start_s))
            if facts["until_s"] is None or facts["until_s"] > (at_s or 0.0) + _STEP_S:
                break
        kind: Kind = "remuxed" if facts["is_copied"] else "transcoded"
        url = f"{API}/videos/{video.id}/playable.mp4?start_s={start_s:g}"
        return Playback(
            url, kind, note_of(kind, probe, facts["is_smaller"]), -facts["start_s"], facts["until_s"], "video/mp4"
        )

    async def playable(self, video: Video, start_s: float) -> Opened:
        """Open a part of a video that was made for a browser, see `playback`; it is made if it is not there any more.

        Raises:
            VmrError: as `thumbnail`.
        """
        await self._check(Source.of(video))
        return await self._open(*self._part(video, _start_of_part(video, start_s)))

    async def clip(self, video: Video, start_s: float, end_s: float, width: int | None = None) -> Opened:
        """Cut a clip.

        Args:
            video: the video.
            start_s: where it starts, in seconds of the video.
            end_s: where it ends; at the end of the video if that is earlier.
            width: pixels that are enough for a preview, which is made quickly if it must be encoded; None for a clip to
                keep.

        Raises:
            ClipError: there is no such clip, or it would be too long.
            VmrError: as `thumbnail`.
        """
        if not 0 <= start_s < min(end_s, video.duration_s):
            raise ClipError(f"no clip from {start_s:g} to {end_s:g} s: the video lasts {video.duration_s:g} s")
        if end_s - start_s > self._limits.clip_s:
            raise ClipError(f"a clip of {end_s - start_s:g} s is too long: ask for at most {self._limits.clip_s:g} s")
        await self._check(Source.of(video))
        span, settings = (round(start_s, 3), round(end_s, 3)), {"is_clip": True, "width": width}
        return await self._open(*self._request(f"clip {width}", video, span, settings))

    def _part(self, video: Video, start_s: float) -> tuple[str, Source, dict[str, Any]]:
        return self._request("part", video, (start_s, start_s + _PART_S), {"is_clip": False, "width": None})

    def _request(
        self, what: str, video: Video, span: tuple[float, float], settings: dict[str, Any]
    ) -> tuple[str, Source, dict[str, Any]]:
        source = Source.of(video)
        request = {"span": span, "has_clock": has_clock(video), "max_bytes": self._part_bytes, **settings}
        return f"{what} {_VERSION} {source.stamp} {span}", source, {"source": source.to_json(), **request}

    async def _open(self, key: str, source: Source, request: dict[str, Any]) -> Opened:
        """Open a file that is made of a video; it is made if it is not there."""
        await self._made(key, source, request)
        descriptor = await run_in_threadpool(self._cache.open, key)
        if descriptor is None:
            raise StorageError("the cache of videos is too small: another file has taken the place of this one")
        return Opened.of(descriptor, hashlib.sha256(key.encode()).hexdigest()[:32], "video/mp4")

    async def _made(self, key: str, source: Source, request: dict[str, Any]) -> dict[str, Any]:
        """Make a file of a video, if it is not there; return what is known about it."""

        async def make() -> dict[str, Any]:
            answer = await self._run(self._converting, "parts:serve_part", source, request, self._part_bytes * 5 // 4)
            try:
                (mp4,) = answer.pictures
                content = json.dumps({**answer.values, "num_bytes": mp4.nbytes}).encode()
                facts = _facts(content)
            except ValueError:
                raise VideoError(source.name, "the decoder sent an answer that is not valid") from None
            await run_in_threadpool(self._cache.put, key, mp4.data)
            await run_in_threadpool(self._cache.put, f"{key} facts", content)
            return facts

        facts = await self._kept(f"{key} facts", _facts)
        if facts is None or await run_in_threadpool(self._cache.size, key) != facts["num_bytes"]:
            return await self._work.once(key, make)
        return facts

    async def _check(self, source: Source) -> None:
        """Raise GoneError or ChangedError if the file of a video is not there."""
        os.close(await run_in_threadpool(source.open))

    async def _run(
        self, processes: Processes, function: str, source: Source, request: dict[str, Any], max_bytes: int
    ) -> Answer:
        """Run a function of this package in a process, unless one has failed with the same file a moment ago."""
        until, error = self._failures.get(source.stamp, (0.0, None))
        if error is not None and time.monotonic() < until:
            raise error.with_traceback(None)  # else it would hold each place where it was raised
        try:
            return await processes.run(f"{__package__}.{function}", request, source.name, max_bytes)
        except (VideoError, TimeLimitError) as failure:
            await self._check(source)  # a file that has changed meanwhile is told as such, and not remembered
            if len(self._failures) > _FAILURES_KEPT:
                self._failures.clear()
            self._failures[source.stamp] = (time.monotonic() + _FAILURE_S, failure)
            raise


def _start_of_part(video: Video, at_s: float) -> float:
    """Where the part with a moment begins, at a multiple of _STEP_S."""
    last_s = max(0.0, video.duration_s - _STEP_S)
    return math.floor(min(max(at_s, 0.0), last_s) / _STEP_S) * _STEP_S


def _whole_jpeg(content: bytes) -> bytes:
    if not (content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9")):
        raise ValueError
    return content


def _facts(content: bytes) -> dict[str, Any]:
    """Read what is known about a part; ValueError if it is not valid."""
    facts = json.loads(content)
    names = {"is_copied", "is_smaller", "start_s", "until_s", "num_bytes"}
    if not isinstance(facts, dict) or facts.keys() != names or not isinstance(facts["start_s"], float):
        raise ValueError
    return facts


def _is_there(video: Video) -> bool:
    return FileState.of(video.file) is not None
