"""From video files to vectors: decode in workers, embed here, account for every file.

Shapes: S segments of one video, N tokens of a segment, C their width, D dimensions.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.data.decoding.pool import DecodedVideo, DecodeFailure, DecodePool
from vmr.data.decoding.segments import DecodedSegment, FrameSpec, read_clip
from vmr.errors import ModelError, VideoError, VmrError
from vmr.models.encoder import Encoder, Matcher, TextLimited
from vmr.models.text.tokenizer import check_texts
from vmr.progress import progress_bar
from vmr.retrieval.feature_cache import Content, FeatureCache, Features, state_of, texts_key, video_key

# Segments of one video that are embedded together. Batches never mix videos, so a video's vectors do not depend, to
# the last bit, on which other videos were decoded at the same time.
BATCH_SEGMENTS = 16
TEXTS_AT_ONCE = 1024  # bounds what an encoder is given, which makes smaller batches of its own


@dataclass(frozen=True)
class EmbeddedVideo:
    """One video: float32 vectors (S, D), as of `Encoder`, and the seconds [start_s, end_s) of each segment."""

    path: str
    spans: tuple[tuple[float, float], ...]
    vectors: NDArray[np.float32]


@dataclass
class Embedding:
    """What became of a list of videos: each is in exactly one of the two lists, in the order given.

    tokens: those of the videos, where they were asked for.
    """

    videos: list[EmbeddedVideo] = field(default_factory=list)
    failures: list[DecodeFailure] = field(default_factory=list)
    tokens: "TokenStore | None" = None


def embed_videos(
    paths: Iterable[str | Path],
    encoder: Encoder,
    frames: FrameSpec | None = None,
    *,
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    progress: bool = False,
    cache: FeatureCache | None = None,
    tokens: bool = False,
) -> Embedding:
    """Embeds every video, or says why not.

    frames: how to cut and sample (default: the encoder's own, each video one segment). timeout_s: how long a file may
    go without delivering frames before its decoder is stopped. A video fails as a whole: no segment of it is kept.

    cache: where the features of earlier calls are taken from, and those of this one are put as each video is done;
    failures are not. tokens: keep the video tokens as well, of the same look at each video; without a cache, in a
    temporary folder that goes with the result.

    Raises ModelError where the encoder's vectors are not finite, VmrError where tokens are asked of one that has none.
    """
    (embedding,) = embed_videos_with(
        [encoder],
        paths,
        frames,
        num_workers=num_workers,
        timeout_s=timeout_s,
        progress=progress,
        cache=cache,
        tokens=tokens,
    )
    return embedding


def embed_videos_with(
    encoders: Sequence[Encoder],
    paths: Iterable[str | Path],
    frames: FrameSpec | None = None,
    *,
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    progress: bool = False,
    cache: FeatureCache | None = None,
    tokens: bool = False,
) -> list[Embedding]:
    """As `embed_videos`, for several encoders that want the same frames; each video is decoded once for all of them.

    tokens: of those encoders that can match, of which there must be one. All embeddings are of the same videos: one
    that has to be decoded for any encoder and cannot be is a failure for every encoder.
    """
    unique = list(dict.fromkeys(str(path) for path in paths))
    frames = frames or frame_spec(encoders[0])
    _check(encoders, tokens)
    temporary = tempfile.TemporaryDirectory(prefix="vmr-features-") if tokens and cache is None else None
    cache = cache if temporary is None else FeatureCache(temporary.name)
    sides = [_Side(encoder, cache, tokens) for encoder in encoders]
    failures: dict[str, DecodeFailure] = {}
    with DecodePool(frames, num_workers, timeout_s) as pool, progress_bar(progress) as bar:
        if cache is not None:
            task = bar.add_task("looking up", total=len(unique))
            contents = {}
            for path, content in cache.contents(unique):
                if content is not None:
                    contents[path] = content
                bar.advance(task)
            for side in sides:
                side.look_up(contents, frames)
        missing = [path for path in unique if not all(path in side.done for side in sides)]
        task = bar.add_task("embedding", total=len(unique), completed=len(unique) - len(missing))
        open_videos: dict[str, _OpenVideo] = {}
        for message in pool.decode(missing):
            if isinstance(message, DecodedSegment):
                if message.path not in open_videos:
                    open_videos[message.path] = _OpenVideo(message.path, sides)
                open_videos[message.path].add(message)
                continue
            if isinstance(message, DecodedVideo):
                open_videos.pop(message.path).finish()
            else:
                open_videos.pop(message.path, None)
                failures[message.path] = message
            bar.advance(task)
    failed = [failures[path] for path in unique if path in failures]
    done = [path for path in unique if path not in failures]
    return [
        Embedding([side.done[path] for path in done], list(failed), side.token_store(frames, timeout_s, temporary))
        for side in sides
    ]


def frame_spec(
    encoder: Encoder,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    reader: str = "pyav",
    sampling: str = "middle",
    num_frames: int | None = None,
) -> FrameSpec:
    """What to decode for `encoder`: windows of `window_s` every `stride_s` seconds (default, half a window).

    window_s None makes each video one segment. sampling: which frames of a whole video, see `FrameSpec`. num_frames:
    default, as many as the encoder wants.
    """
    wanted = encoder.preprocess
    if window_s is not None:
        window_s, stride_s = float(window_s), float(window_s / 2 if stride_s is None else stride_s)
    return FrameSpec(
        wanted.num_frames if num_frames is None else num_frames,
        wanted.size,
        wanted.resize,
        window_s=window_s,
        stride_s=stride_s,
        reader=reader,
        sampling=sampling,
    )


def read_video(path: str | Path, encoder: Encoder) -> torch.Tensor:
    """One whole video as `encoder` wants it: uint8 in [0, 255], (1, T, 3, S, S), for `encoder.encode_video`.

    Raises VideoError where the file cannot be read.
    """
    (segment,) = read_clip(path, frame_spec(encoder))
    return torch.from_numpy(segment.video).unsqueeze(0)


def embed_texts(texts: Sequence[str], encoder: Encoder, *, cache: FeatureCache | None = None) -> NDArray[np.float32]:
    """texts: N strings -> float32 unit vectors (N, D); equal texts have equal vectors, to the last bit.

    cache: where the vectors of the same list are taken from, or put. Raises ModelError for one text instead of a list.
    """
    check_texts(texts)
    limit = getattr(encoder, "max_text_tokens", None)
    if isinstance(encoder, TextLimited) and limit is None:
        cache = None  # its vectors depend on something that cannot be known
    key = texts_key(texts, limit, encoder.fingerprint)
    kept = None if cache is None else cache.texts(key)
    if kept is not None:
        return kept
    row_of_text = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    distinct = list(row_of_text)
    batches = [distinct[start : start + TEXTS_AT_ONCE] for start in range(0, len(distinct), TEXTS_AT_ONCE)] or [[]]
    vectors = np.concatenate([encoder.encode_text(batch).float().cpu().numpy() for batch in batches])
    vectors = vectors[[row_of_text[text] for text in texts]]
    if cache is not None:
        cache.put_texts(key, vectors)
    return vectors


class TokenStore:
    """The tokens of embedded videos, on disk. Made by `embed_videos`."""

    def __init__(
        self,
        encoder: Matcher,
        frames: FrameSpec,
        cache: FeatureCache,
        keys: Mapping[str, str],
        timeout_s: float,
        temporary: tempfile.TemporaryDirectory[str] | None,
    ) -> None:
        self._encoder = encoder
        self._frames = frames
        self._cache = cache
        self._keys = keys
        self._timeout_s = timeout_s
        self._temporary = temporary  # goes when nobody refers to it any more

    def tokens(self, path: str | Path) -> torch.Tensor:
        """A video's tokens, float32 (S, N, C), S = 1 without windows, mapped from disk.

        Tokens that have been removed or damaged are made again. Raises VideoError where that is needed and the video
        can no longer be read or is another one by now.
        """
        key = self._keys.get(str(path))
        kept = None if key is None else self._cache.tokens(key)
        if key is not None and kept is None:
            self._cache.forget(key)
            (again,) = embed_videos_with(
                [self._encoder],
                [path],
                self._frames,
                num_workers=1,
                timeout_s=self._timeout_s,
                cache=self._cache,
                tokens=True,
            )
            for failure in again.failures:
                raise VideoError(failure.path, failure.reason)
            kept = self._cache.tokens(key)
        if kept is None:
            raise VideoError(path, "has changed since it was embedded: do so again")
        return torch.from_numpy(kept)


class _Side:
    """One encoder's part: what it has made of the videos, and where that is kept."""

    def __init__(self, encoder: Encoder, cache: FeatureCache | None, tokens: bool) -> None:
        self.encoder = encoder
        self.cache = cache
        self.matcher = encoder if tokens and isinstance(encoder, Matcher) else None
        self.done: dict[str, EmbeddedVideo] = {}
        self.contents: Mapping[str, Content] = {}
        self.keys: dict[str, str] = {}

    def look_up(self, contents: Mapping[str, Content], frames: FrameSpec) -> None:
        """Takes over what the cache knows of the videos."""
        assert self.cache is not None
        self.contents = contents
        self.keys = {path: video_key(content, frames, self.encoder.fingerprint) for path, content in contents.items()}
        known = self.cache.find(self.keys.values(), with_tokens=self.matcher is not None)
        for path, key in self.keys.items():
            if key in known:
                self.done[path] = EmbeddedVideo(path, known[key].spans, known[key].vectors)

    def embed(self, batch: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """batch: uint8 (b, T, 3, S, S) -> vectors (b, D), and tokens (b, N, C) if they are wanted."""
        if self.matcher is None:
            return self.encoder.encode_video(batch).float().cpu().numpy(), None
        features = self.matcher.video_features(batch)
        return features.vectors.float().cpu().numpy(), features.tokens.float().cpu().numpy()

    def keep(self, video: EmbeddedVideo, tokens: NDArray[np.float32] | None) -> None:
        """Takes over a finished video, and puts it into the cache unless the file changed while it was decoded."""
        if not np.isfinite(video.vectors).all():
            raise ModelError(
                f"{video.path}: {self.encoder.name} makes vectors that are not finite: its weights are damaged"
            )
        self.done[video.path] = video
        content = self.contents.get(video.path)
        if self.cache is not None and content is not None and content.state == state_of(video.path):
            self.cache.put(self.keys[video.path], Features(video.spans, video.vectors), tokens)

    def token_store(
        self, frames: FrameSpec, timeout_s: float, temporary: tempfile.TemporaryDirectory[str] | None
    ) -> TokenStore | None:
        """Where the tokens can be had, if they were wanted."""
        if self.matcher is None or self.cache is None:
            return None
        return TokenStore(self.matcher, frames, self.cache, self.keys, timeout_s, temporary)


class _OpenVideo:
    """The segments of one video that have come so far, embedded a batch at a time by every encoder that lacks it."""

    def __init__(self, path: str, sides: Sequence[_Side]) -> None:
        self.path = path
        self.sides = [side for side in sides if path not in side.done]
        self.waiting: list[NDArray[np.uint8]] = []
        self.spans: list[tuple[float, float]] = []
        self.vectors: list[list[NDArray[np.float32]]] = [[] for _ in self.sides]
        self.tokens: list[list[NDArray[np.float32]]] = [[] for _ in self.sides]

    def add(self, segment: DecodedSegment) -> None:
        self.waiting.append(segment.video)
        self.spans.append((segment.start_s, segment.end_s))
        if len(self.waiting) == BATCH_SEGMENTS:
            self._embed_waiting()

    def finish(self) -> None:
        if self.waiting:
            self._embed_waiting()
        for side, vectors, tokens in zip(self.sides, self.vectors, self.tokens, strict=True):
            video = EmbeddedVideo(self.path, tuple(self.spans), np.concatenate(vectors))
            side.keep(video, np.concatenate(tokens) if tokens else None)

    def _embed_waiting(self) -> None:
        batch = torch.from_numpy(np.stack(self.waiting))  # (b, T, 3, S, S)
        for side, vectors, tokens in zip(self.sides, self.vectors, self.tokens, strict=True):
            some_vectors, some_tokens = side.embed(batch)
            vectors.append(some_vectors)
            if some_tokens is not None:
                tokens.append(some_tokens)
        self.waiting.clear()


def _check(encoders: Sequence[Encoder], tokens: bool) -> None:
    """Raises VmrError unless one decoding serves all encoders and, if tokens are wanted, one of them has some."""
    first = encoders[0]
    for encoder in encoders[1:]:
        if frame_spec(encoder) != frame_spec(first):
            raise VmrError(f"{first.name} and {encoder.name} want different frames: embed for each by itself")
    if tokens and not any(isinstance(encoder, Matcher) for encoder in encoders):
        raise VmrError(f"{first.name} cannot match videos and texts token by token: ask for its vectors only")
