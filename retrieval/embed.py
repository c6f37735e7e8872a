"""From video files to vectors: decode in workers, embed here, account for every file.

Shapes: N segments of all videos together, D dimensions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.data.clips import DecodedSegment, FrameSpec, read_clip
from vmr.data.decode_pool import DecodedVideo, DecodeFailure, DecodePool
from vmr.errors import ModelError
from vmr.models.encoder import Encoder
from vmr.progress import progress_bar

# Segments of one video that are embedded together. Batches never mix videos, so a video's vectors do not depend, to
# the last bit, on which other videos were decoded at the same time.
BATCH_SEGMENTS = 16


@dataclass(frozen=True)
class EmbeddedVideo:
    """One video's vectors: float32 (S, D), unit length, and the seconds [start_s, end_s) of each of its S segments."""

    path: str
    spans: tuple[tuple[float, float], ...]
    vectors: NDArray[np.float32]


@dataclass
class Embedding:
    """What became of a list of videos: each is in exactly one of the two lists, in the order given."""

    videos: list[EmbeddedVideo] = field(default_factory=list)
    failures: list[DecodeFailure] = field(default_factory=list)


def embed_videos(
    paths: Iterable[str | Path],
    encoder: Encoder,
    frames: FrameSpec | None = None,
    *,
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    progress: bool = False,
) -> Embedding:
    """Embeds every video, or says why not.

    frames: how to cut and sample (default: the encoder's own, each video one segment). timeout_s: how long a file may
    go without delivering frames before its decoder is stopped. A video fails as a whole: no segment of it is kept.
    Raises ModelError where the encoder's vectors are not finite.
    """
    unique = list(dict.fromkeys(str(path) for path in paths))
    done: dict[str, EmbeddedVideo | DecodeFailure] = {}
    open_videos: dict[str, _OpenVideo] = {}
    with DecodePool(frames or frame_spec(encoder), num_workers, timeout_s) as pool, progress_bar(progress) as bar:
        task = bar.add_task("embedding", total=len(unique))
        for message in pool.decode(unique):
            if isinstance(message, DecodedSegment):
                open_videos.setdefault(message.path, _OpenVideo(encoder)).add(message)
                continue
            if isinstance(message, DecodedVideo):
                done[message.path] = open_videos.pop(message.path).finish(message.path)
            else:
                open_videos.pop(message.path, None)
                done[message.path] = message
            bar.advance(task)
    results = [done[path] for path in unique]
    return Embedding(
        [result for result in results if isinstance(result, EmbeddedVideo)],
        [result for result in results if isinstance(result, DecodeFailure)],
    )


def frame_spec(
    encoder: Encoder, *, window_s: float | None = None, stride_s: float | None = None, reader: str = "pyav"
) -> FrameSpec:
    """What to decode for `encoder`: windows of `window_s` every `stride_s` seconds (default, half a window).

    window_s None makes each video one segment.
    """
    wanted = encoder.preprocess
    if window_s is not None:
        window_s, stride_s = float(window_s), float(window_s / 2 if stride_s is None else stride_s)
    return FrameSpec(wanted.num_frames, wanted.size, wanted.resize, window_s=window_s, stride_s=stride_s, reader=reader)


def read_video(path: str | Path, encoder: Encoder) -> torch.Tensor:
    """One whole video as `encoder` wants it: uint8 in [0, 255], (1, T, 3, S, S), for `encoder.encode_video`.

    Raises VideoError where the file cannot be read.
    """
    (segment,) = read_clip(path, frame_spec(encoder))
    return torch.from_numpy(segment.video).unsqueeze(0)


class _OpenVideo:
    """The segments of one video that have come so far, embedded a batch at a time."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.waiting: list[NDArray[np.uint8]] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.spans: list[tuple[float, float]] = []

    def add(self, segment: DecodedSegment) -> None:
        self.waiting.append(segment.video)
        self.spans.append((segment.start_s, segment.end_s))
        if len(self.waiting) == BATCH_SEGMENTS:
            self._embed_waiting()

    def finish(self, path: str) -> EmbeddedVideo:
        if self.waiting:
            self._embed_waiting()
        vectors = np.concatenate(self.vectors)  # (S, D)
        if not np.isfinite(vectors).all():
            raise ModelError(f"{path}: {self.encoder.name} makes vectors that are not finite: its weights are damaged")
        return EmbeddedVideo(path, tuple(self.spans), vectors)

    def _embed_waiting(self) -> None:
        batch = torch.from_numpy(np.stack(self.waiting))  # (b, T, 3, S, S)
        self.vectors.append(self.encoder.encode_video(batch).float().cpu().numpy())
        self.waiting.clear()


def embed_texts(texts: Sequence[str], encoder: Encoder) -> NDArray[np.float32]:
    """texts: N strings -> float32 unit vectors (N, D)."""
    return encoder.encode_text(texts).float().cpu().numpy()
