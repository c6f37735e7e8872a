"""From video files to vectors: decode in worker processes, embed in this process, list every failure.

Shapes: S segments of one video, N tokens of a segment, C their width.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from vmr.checks import check_paths, check_type
from vmr.cpus import let_threads_sleep
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import FrameSpec, Segmenter
from vmr.data.decoding.worker_process import Decoded, DecodedVideo, DecodeFailure, damage_failure
from vmr.errors import ModelError, VideoError, VmrError
from vmr.hashes import FileContent, state_of
from vmr.models.encoder import Encoder, Matcher, check_encoder
from vmr.progress import progress_bar
from vmr.retrieval.embedding.pipeline import EmbeddedVideo, Pipeline, Reached
from vmr.retrieval.embedding.token_files import TokenSpool
from vmr.retrieval.feature_cache import FeatureCache, Features, video_key
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.tokens import TokenStore

At = Callable[[str, float], object]
"""Is told a path, and how many seconds of this video are embedded or wait for the rest of their batch."""


@dataclass
class Embedding:
    """The result of embedding a list of videos: each video is in `videos` or in `failures`, in the order given.

    Attributes:
        videos: those that were embedded.
        failures: those that could not be decoded, with the reason.
        tokens: the video tokens, where they were asked for.
    """

    videos: list[EmbeddedVideo] = field(default_factory=list)
    failures: list[DecodeFailure] = field(default_factory=list)
    tokens: TokenStore | None = None


def embed_videos(
    paths: Iterable[str | Path],
    encoder: Encoder,
    frames: FrameSpec | None = None,
    segmenter: Segmenter | None = None,
    *,
    decode: DecodeOptions = DecodeOptions(),
    cache: FeatureCache | None = None,
    tokens: bool = False,
    progress: bool = False,
) -> Embedding:
    """Embed every video, or say why it failed. If one segment of a video fails, none of its segments is kept.

    Args:
        paths: the videos; one that is given twice is embedded once.
        encoder: the model.
        frames: which frames to take; None for the encoder's own choice.
        segmenter: into which segments to cut each video, see `vmr.retrieval.segments`; None for whole videos.
        decode: how videos are decoded.
        cache: features of earlier calls are read from it, and those of each finished video are written to it; failures
            are not kept.
        tokens: keep the video tokens as well, computed from the same frames; without a cache they lie in a temporary
            folder that is removed with the result.
        progress: show a progress bar.

    Raises:
        ModelError: the encoder's vectors are not finite.
        VmrError: tokens are asked of an encoder that has none.
    """
    (embedding,) = embed_videos_with(
        [encoder], paths, frames, segmenter, decode=decode, cache=cache, tokens=tokens, progress=progress
    )
    return embedding


def embed_videos_with(
    encoders: Sequence[Encoder],
    paths: Iterable[str | Path],
    frames: FrameSpec | None = None,
    segmenter: Segmenter | None = None,
    *,
    decode: DecodeOptions = DecodeOptions(),
    cache: FeatureCache | None = None,
    tokens: bool = False,
    progress: bool = False,
) -> list[Embedding]:
    """Embed videos as `embed_videos` does, for several encoders that take the same frames; decode each video once.

    Args:
        encoders: the models. With `tokens`, at least one must be able to match; those that can give their tokens.
        paths: the videos, as in `embed_videos`.
        frames: which frames to take.
        segmenter: into which segments to cut each video.
        decode: how videos are decoded.
        cache: the cache of features, as in `embed_videos`.
        tokens: keep the video tokens as well.
        progress: show a progress bar.

    Returns:
        One embedding for each encoder, all of the same videos: a video that cannot be decoded for one encoder is a
        failure for every encoder.
    """
    unique = list(dict.fromkeys(str(path) for path in check_paths(paths)))
    check_type("decode", decode, DecodeOptions)
    check_type("cache", cache, FeatureCache, NoneType)
    _check(encoders, tokens)
    let_torch_threads_sleep()
    temporary = tempfile.TemporaryDirectory(prefix="vmr-features-") if tokens and cache is None else None
    cache = cache if temporary is None else FeatureCache(temporary.name)
    run = _Run(frames or frame_spec(encoders[0]), segmenter, decode, cache, temporary)
    results = [_EncoderResults(encoder, run, tokens) for encoder in encoders]
    with DecodePool(run.frames, segmenter, decode) as pool, progress_bar(progress) as bar:
        if cache is not None:
            contents = _known_contents(cache, unique, bar)
            for result in results:
                result.look_up(contents)
        missing = [path for path in unique if not all(path in result.done for result in results)]
        task = bar.add_task("embedding", total=len(unique), completed=len(unique) - len(missing))
        failures = {}
        for end in _embed_missing(pool.decode(missing), results):
            if isinstance(end, DecodeFailure):
                failures[end.path] = end
            bar.advance(task)
    if decode.strict:
        damaged = (damage_failure(video.path, video.remarks) for video in results[0].done.values())
        failures |= {failure.path: failure for failure in damaged if failure is not None}
    failed = [failures[path] for path in unique if path in failures]
    done = [path for path in unique if path not in failures]
    return [Embedding([result.done[path] for path in done], list(failed), result.token_store()) for result in results]


def embed_each(
    paths: Iterable[str | Path],
    encoders: Sequence[Encoder],
    frames: FrameSpec | None = None,
    segmenter: Segmenter | None = None,
    *,
    decode: DecodeOptions = DecodeOptions(),
    at: At | None = None,
    tokens_in: Path | None = None,
    memory_bytes: int | None = None,
) -> Generator[tuple[EmbeddedVideo, ...] | DecodeFailure, None, None]:
    """Embed videos as `embed_videos_with` does, and yield each as soon as it is done.

    Memory does not grow with the number of videos. Leaving the loop early ends the decoding processes.

    Args:
        paths: the videos; one that is given twice is embedded once.
        encoders: the models, which take the same frames.
        frames: which frames to take; None for the encoders' own choice.
        segmenter: into which segments to cut each video; None for whole videos.
        decode: how videos are decoded.
        at: is told how far a video is, after each of its segments.
        memory_bytes: how much memory this process and the decoding processes may use together; None for no limit.
        tokens_in: also give the tokens of those encoders that can match, in temporary files of this folder.

    Yields:
        For each video, in any order: one result of each encoder, or why it failed.
    """
    _check(encoders, tokens=False)
    let_torch_threads_sleep()
    run = _Run(frames or frame_spec(encoders[0]), segmenter, decode, None, None, tokens_in)
    results = [_EncoderResults(encoder, run, tokens=tokens_in is not None) for encoder in encoders]
    with DecodePool(run.frames, segmenter, decode, memory_bytes) as pool:
        for end in _embed_missing(pool.decode(paths), results, at):
            if isinstance(end, DecodeFailure):
                yield end
                continue
            videos = tuple(result.done.pop(end.path) for result in results)
            failure = damage_failure(end.path, end.remarks) if decode.strict else None
            yield failure or videos


def _embed_missing(
    messages: Iterable[Decoded], results: Sequence[_EncoderResults], at: At | None = None
) -> Iterator[DecodedVideo | DecodeFailure]:
    """Embed what is decoded, with every encoder that lacks it; yield the end of each video."""
    pipeline, reached = Pipeline(results), Reached()
    for message in messages:
        yield from pipeline.add(message)
        seconds = reached.seconds(message)
        if at is not None and seconds is not None:
            at(message.path, seconds)
    yield from pipeline.flush()


@dataclass(frozen=True)
class _Run:
    """The settings that all encoders of a call share."""

    frames: FrameSpec
    segmenter: Segmenter | None
    decode: DecodeOptions
    cache: FeatureCache | None
    temporary: tempfile.TemporaryDirectory[str] | None
    tokens_in: Path | None = None


class _EncoderResults:
    """The features that one encoder has computed, and where they are kept."""

    def __init__(self, encoder: Encoder, run: _Run, tokens: bool) -> None:
        self.encoder = encoder
        self.matcher = encoder if tokens and isinstance(encoder, Matcher) else None
        self.with_tokens = self.matcher is not None
        self.done: dict[str, EmbeddedVideo] = {}
        self._run = run
        self._contents: Mapping[str, FileContent] = {}
        self._keys: dict[str, str] = {}

    def look_up(self, contents: Mapping[str, FileContent]) -> None:
        """Take the features that the cache holds."""
        run = self._run
        assert run.cache is not None
        self._contents = contents
        self._keys = {
            path: video_key(content, run.frames, run.segmenter, run.decode.reader, self.encoder.fingerprint)
            for path, content in contents.items()
        }
        known = run.cache.find(self._keys.values(), with_tokens=self.with_tokens)
        for path, key in self._keys.items():
            if key in known:
                features = known[key]
                self.done[path] = EmbeddedVideo(path, features.spans, features.vectors, features.remarks)

    def lacks(self, path: str) -> bool:
        """Whether a video was not found in the cache."""
        return path not in self.done

    def new_tokens(self) -> TokenSpool | list[NDArray[np.float32]]:
        """Return what takes the tokens of a video, batch by batch."""
        return [] if self._run.tokens_in is None else TokenSpool(self._run.tokens_in)

    def keep(self, video: EmbeddedVideo, tokens: TokenSpool | list[NDArray[np.float32]] | None) -> None:
        """Add a finished video, and put it into the cache unless the file changed while it was decoded."""
        if not np.isfinite(video.vectors).all():
            raise ModelError(
                f"{video.path}: {self.encoder.name} makes vectors that are not finite: its weights are damaged"
            )
        self.done[video.path] = replace(video, tokens=tokens) if isinstance(tokens, TokenSpool) else video
        content = self._contents.get(video.path)
        if self._run.cache is not None and content is not None and content.state == state_of(video.path):
            all_tokens = np.concatenate(tokens) if isinstance(tokens, list) else None
            self._run.cache.put(self._keys[video.path], Features(video.spans, video.vectors, video.remarks), all_tokens)

    def token_store(self) -> TokenStore | None:
        """Return the store of the tokens, if they were asked for."""
        run, matcher = self._run, self.matcher
        if matcher is None or run.cache is None:
            return None

        def make(path: str) -> None:
            one = DecodeOptions(run.decode.reader, 1, run.decode.timeout_s)
            again = embed_videos([path], matcher, run.frames, run.segmenter, decode=one, cache=run.cache, tokens=True)
            for failure in again.failures:
                raise VideoError(failure.path, failure.reason)

        return TokenStore(run.cache, self._keys, make, run.temporary)


def let_torch_threads_sleep() -> None:
    """Let threads of torch sleep while they wait: an encoder of the user's own did not come through `load_model`."""
    if "torch" in sys.modules:
        let_threads_sleep()


def _known_contents(cache: FeatureCache, paths: Sequence[str], bar: Progress) -> dict[str, FileContent]:
    """Return the contents (hashes) of the files, without files that cannot be read."""
    task = bar.add_task("looking up", total=len(paths))
    contents = {}
    for path, content in cache.contents(paths):
        if content is not None:
            contents[path] = content
        bar.advance(task)
    return contents


def _check(encoders: Sequence[Encoder], tokens: bool) -> None:
    """Raise VmrError unless all encoders take the same frames and, if tokens are asked for, one encoder has tokens."""
    for encoder in encoders:
        check_encoder(encoder)
    first = encoders[0]
    for encoder in encoders[1:]:
        if frame_spec(encoder) != frame_spec(first):
            raise VmrError(f"{first.name} and {encoder.name} want different frames: embed for each by itself")
    if tokens and not any(isinstance(encoder, Matcher) for encoder in encoders):
        raise VmrError(f"{first.name} cannot match videos and texts token by token: ask for its vectors only")
