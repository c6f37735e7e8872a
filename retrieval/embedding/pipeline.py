"""Embedding what the decoding processes send, in batches, for several encoders.

Shapes: S segments of a video, T frames of a segment, N tokens of a segment, C their width, D dimensions, F features of
a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.segments import DecodedSegment, Frame, Part
from vmr.data.decoding.worker_process import Decoded, DecodedPart, DecodedVideo, DecodeFailure
from vmr.data.remark import Remark
from vmr.models.encoder import Encoder, FrameEncoder, Matcher
from vmr.retrieval.embedding.token_files import TokenSpool

if TYPE_CHECKING:
    from torch import Tensor

# Segments of one video that are embedded together, where the encoder takes all frames of a segment together. Such
# batches never mix videos, nor parts of a video, so a video's vectors are identical to the last bit whichever others
# are decoded at the same time.
BATCH_SEGMENTS = 16

Vectors = NDArray[np.float32]
_FrameKey = tuple[Part, int]  # a part of a video, and the number of a frame in it


@dataclass(frozen=True)
class EmbeddedVideo:
    """The vectors of one video.

    Attributes:
        path: the video.
        spans: start and end of each segment, in seconds, in the order of time.
        vectors: float32 (S, D), as `Encoder.encode_video` makes them.
        remarks: what was noticed while it was decoded, see `vmr.VideoReader.remarks`.
        width: of its pictures, upright, in pixels; 0 if the vectors come from a cache.
        height: likewise.
        tokens: the tokens of the segments, if `embed_each` was asked for them; to be closed.
    """

    path: str
    spans: tuple[tuple[float, float], ...]
    vectors: Vectors
    remarks: tuple[Remark, ...] = ()
    width: int = 0
    height: int = 0
    tokens: TokenSpool | None = None


class Results(Protocol):
    """Where the vectors of one encoder go.

    Attributes:
        encoder: the encoder.
        with_tokens: whether it is to give its tokens as well; only for a `Matcher`.
    """

    encoder: Encoder
    with_tokens: bool

    def lacks(self, path: str) -> bool:
        """Whether the vectors of a video are wanted."""

    def new_tokens(self) -> TokenSpool | list[Vectors]:
        """Return what takes the tokens of a video, (b, N, C) at a time, if they are wanted."""

    def keep(self, video: EmbeddedVideo, tokens: TokenSpool | list[Vectors] | None) -> None:
        """Take a finished video, and its tokens if they are wanted."""


class Pipeline:
    """Embeds videos whose segments come in any order of videos, each encoder in the batches that are best for it.

    An encoder of single frames gets frames of several videos in one batch, each distinct frame of a video once.

    Args:
        results: the encoders, and where their vectors go.
    """

    def __init__(self, results: Sequence[Results]) -> None:
        self._results = results
        self._batches = [
            _FrameBatch(each.encoder) if isinstance(each.encoder, FrameEncoder) and not each.with_tokens else None
            for each in results
        ]
        self._videos: dict[str, _Video] = {}

    def add(self, message: Decoded) -> list[DecodedVideo | DecodeFailure]:
        """Take a message, embed if a batch is full, and return the ends of the videos that are done."""
        if isinstance(message, DecodedSegment):
            if message.path not in self._videos:
                self._videos[message.path] = self._begin(message.path)
            self._videos[message.path].add(message)
        elif isinstance(message, DecodedVideo):
            self._videos[message.path].end(message)
        elif isinstance(message, DecodedPart):
            if message.path in self._videos:
                self._videos[message.path].end_part(message.part)
        else:
            self._drop(self._videos.pop(message.path, None))
            return [message] if isinstance(message, DecodeFailure) else []
        return self._finished()

    def flush(self) -> list[DecodedVideo | DecodeFailure]:
        """Embed all that waits for the rest of a batch, and return the ends of the videos that are done."""
        for batch in self._batches:
            if batch is not None:
                batch.encode()
        return self._finished()

    def _begin(self, path: str) -> _Video:
        encoders: list[tuple[Results, _FrameVectors | _SegmentVectors]] = []
        for result, batch in zip(self._results, self._batches, strict=True):
            if result.lacks(path):
                encoders.append((result, _SegmentVectors(result) if batch is None else _FrameVectors(batch)))
        return _Video(encoders)

    def _drop(self, video: _Video | None) -> None:
        for _, vectors in [] if video is None else video.encoders:
            if isinstance(vectors, _FrameVectors):
                vectors.batch.drop(vectors)

    def _finished(self) -> list[DecodedVideo | DecodeFailure]:
        ends: list[DecodedVideo | DecodeFailure] = []
        for path, video in list(self._videos.items()):
            if video.is_done:
                assert video.ended is not None
                del self._videos[path]
                video.keep(video.ended)
                ends.append(video.ended)
        return ends


@dataclass
class _Video:
    """A video under way, for all encoders that lack it."""

    encoders: list[tuple[Results, _FrameVectors | _SegmentVectors]]
    spans: list[tuple[float, float]] = field(default_factory=list)
    ended: DecodedVideo | None = None

    def add(self, segment: DecodedSegment) -> None:
        self.spans.append((segment.start_s, segment.end_s))
        for _, vectors in self.encoders:
            vectors.add(segment)

    def end_part(self, part: Part) -> None:
        for _, vectors in self.encoders:
            vectors.end_part(part)

    def end(self, end: DecodedVideo) -> None:
        self.ended = end
        for _, vectors in self.encoders:
            vectors.end()

    @property
    def is_done(self) -> bool:
        return self.ended is not None and all(vectors.num_waiting == 0 for _, vectors in self.encoders)

    def keep(self, end: DecodedVideo) -> None:
        order = sorted(range(len(self.spans)), key=self.spans.__getitem__)
        spans = tuple(self.spans[place] for place in order)
        for result, each in self.encoders:
            vectors, tokens = each.vectors(order)
            result.keep(EmbeddedVideo(end.path, spans, vectors, end.remarks, end.width, end.height), tokens)


def _reordered(tokens: TokenSpool | list[Vectors] | None, order: Sequence[int]) -> TokenSpool | list[Vectors] | None:
    """Bring the tokens of windows into another order."""
    if isinstance(tokens, list):
        return [np.concatenate(tokens)[order]]
    if tokens is not None:
        tokens.reorder(order)
    return tokens


class _SegmentVectors:
    """The vectors of one video from an encoder that takes all frames of a segment together."""

    def __init__(self, result: Results) -> None:
        self._encoder = result.encoder
        self._matcher = result.encoder if result.with_tokens and isinstance(result.encoder, Matcher) else None
        self._waiting: dict[Part, list[tuple[int, NDArray[np.uint8]]]] = {}  # with the places of the segments
        self._num_segments = 0
        self._embedded: list[int] = []  # their places, in the order in which they were embedded
        self._vectors: list[Vectors] = []
        self._tokens = None if self._matcher is None else result.new_tokens()

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, segment: DecodedSegment) -> None:
        waiting = self._waiting.setdefault(segment.part, [])
        waiting.append((self._num_segments, segment.video))
        self._num_segments += 1
        if len(waiting) == BATCH_SEGMENTS:
            self.end_part(segment.part)

    def end(self) -> None:
        """Embed what waits."""
        for part in list(self._waiting):
            self.end_part(part)

    def end_part(self, part: Part) -> None:
        """Embed what waits of a part of the video."""
        import torch

        waiting = self._waiting.pop(part, None)
        if not waiting:
            return
        self._embedded += [place for place, _ in waiting]
        batch = torch.from_numpy(np.stack([frames for _, frames in waiting]))  # (b, T, 3, S, S)
        if self._matcher is None or self._tokens is None:
            self._vectors.append(_array(self._encoder.encode_video(batch)))
            return
        features = self._matcher.video_features(batch)
        self._vectors.append(_array(features.vectors))
        self._tokens.append(_array(features.tokens))

    def vectors(self, order: Sequence[int]) -> tuple[Vectors, TokenSpool | list[Vectors] | None]:
        """The vectors (S, D), and the tokens if they are wanted, in this order of the segments' places."""
        vectors, rows = np.concatenate(self._vectors), np.argsort(self._embedded)[order].tolist()
        if rows == sorted(rows):
            return vectors, self._tokens
        return vectors[rows], _reordered(self._tokens, rows)


class _FrameVectors:
    """The vectors of one video from an encoder of single frames."""

    def __init__(self, batch: _FrameBatch) -> None:
        self.batch = batch
        self.features: dict[_FrameKey, Vectors] = {}  # of a frame, (F,)
        self.num_waiting = 0
        self._given: set[_FrameKey] = set()
        self._segments: list[list[_FrameKey]] = []

    def add(self, segment: DecodedSegment) -> None:
        keys = [(segment.part, number) for number in segment.numbers]
        self._segments.append(keys)
        for key, frame in zip(keys, segment.frames, strict=True):
            if key not in self._given:
                self._given.add(key)
                self.batch.add(self, key, frame)

    def end_part(self, part: Part) -> None:
        """Nothing more of this part comes."""

    def end(self) -> None:
        """Nothing more comes. What waits is encoded with frames of other videos."""

    def vectors(self, order: Sequence[int]) -> tuple[Vectors, None]:
        """The vectors (S, D), in this order of the segments' places."""
        pool = self.batch.encoder.pool_frames
        # Each segment by itself, because a product of matrices may depend on their number in the last bit.
        segments = [self._segments[place] for place in order]
        pooled = [pool(np.stack([self.features[key] for key in keys])[None]) for keys in segments]
        return np.concatenate(pooled), None


class _FrameBatch:
    """The frames, of any videos, that an encoder is to encode next."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self.encoder = encoder
        self._waiting: list[tuple[_FrameVectors, _FrameKey, Frame]] = []

    def add(self, video: _FrameVectors, key: _FrameKey, frame: Frame) -> None:
        self._waiting.append((video, key, frame))
        video.num_waiting += 1
        if len(self._waiting) == self.encoder.frames_at_once:
            self.encode()

    def drop(self, video: _FrameVectors) -> None:
        self._waiting = [each for each in self._waiting if each[0] is not video]

    def encode(self) -> None:
        """Encode all frames that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        features = self.encoder.encode_frames(np.stack([frame for _, _, frame in waiting]))
        for (video, key, _), row in zip(waiting, features, strict=True):
            video.features[key] = row
            video.num_waiting -= 1


class Reached:
    """How far videos are that are decoded in parts: the seconds that are done, over all parts of each."""

    def __init__(self) -> None:
        self._done_s: dict[str, dict[Part, float]] = {}
        self._most_s: dict[str, float] = {}

    def seconds(self, message: Decoded) -> float | None:
        """Take each message; return how many seconds of its video are done if it is a segment. They never decrease."""
        path = message.path
        if isinstance(message, DecodedSegment):
            start_s, stop_s = message.part
            done_s = self._done_s.setdefault(path, {})
            done_s[message.part] = max(done_s.get(message.part, 0.0), min(message.end_s, stop_s) - start_s)
            self._most_s[path] = max(self._most_s.get(path, 0.0), sum(done_s.values()))
            return self._most_s[path]
        if not isinstance(message, DecodedPart):
            self._done_s.pop(path, None)
        if isinstance(message, DecodedVideo | DecodeFailure):
            self._most_s.pop(path, None)
        return None


def _array(tensor: Tensor) -> Vectors:
    array: Vectors = tensor.float().cpu().numpy()
    return array
