"""From a retrieval set and an encoder to a report: embed each side once, score all pairs, count."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.data.annotations import RetrievalSet
from vmr.data.clips import FrameSpec, read_clip
from vmr.data.decode_pool import DecodeFailure
from vmr.errors import VmrError
from vmr.eval.controls import CONTROLS, WithoutMotion
from vmr.eval.metrics import bidirectional_metrics
from vmr.eval.report import Report
from vmr.models.encoder import Encoder, Matcher
from vmr.progress import progress_bar
from vmr.retrieval.embed import embed_texts, embed_videos, frame_spec
from vmr.retrieval.manifest import Failure
from vmr.retrieval.rerank import rerank

RERANK_DEPTH = 128  # upstream's

Scores = NDArray[np.float32]


def evaluate(
    data: RetrievalSet,
    encoder: Encoder,
    *,
    rerank_depth: int | None = None,
    reader: str = "pyav",
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    progress: bool = False,
) -> Report:
    """Scores `encoder` on `data`, text to video and video to text.

    Each video is one segment, sampled as the encoder wants. A video that is missing or unreadable is left out together
    with its texts; the report lists it, and counts both what was asked and what was scored.

    The report has a column for each kind of score: `embedding`; `vtm`, the rerank_depth best candidates of each query
    scored again by matching (default: 128 where the data needs time and the encoder can match, else 0 for no such
    column); and where the data needs time `static` and `shuffled`, the embeddings of videos that are one frame
    repeated, or whose frames are out of order.

    Raises VmrError where no video is left, a score is not finite, or an encoder that cannot match is to re-rank.
    """
    if rerank_depth is None:
        rerank_depth = RERANK_DEPTH if data.needs_time and isinstance(encoder, Matcher) else 0
    if rerank_depth and not isinstance(encoder, Matcher):
        raise VmrError(f"{encoder.name} cannot match videos and texts token by token: leave re-ranking out")
    frames = frame_spec(encoder, reader=reader)
    videos = _Videos(data, frames, num_workers, timeout_s, progress)
    vectors, failures = videos.embed(encoder)
    scored = _scored_part(data, videos.kept)
    texts = embed_texts(scored.texts, encoder)  # (num_texts, D)
    scores = texts @ vectors.T  # (num_texts, num_videos)
    columns = {"embedding": bidirectional_metrics(scores, scored.video_of_text)}
    if rerank_depth and isinstance(encoder, Matcher):
        columns["vtm"] = _match(encoder, videos, scored, scores, rerank_depth)
    for control in CONTROLS if data.needs_time else ():
        denied, _ = videos.embed(WithoutMotion(encoder, control))
        columns[control] = bidirectional_metrics(texts @ denied.T, scored.video_of_text)
    return Report(
        dataset=data.name,
        encoder=encoder.name,
        about=encoder.about,
        fingerprint=encoder.fingerprint,
        num_frames=frames.num_frames,
        sampling=frames.sampling,
        reader=frames.reader,
        num_videos=len(vectors),
        num_videos_asked=len(data.videos),
        num_texts=len(texts),
        num_texts_asked=len(data.texts),
        failures=failures,
        scores=columns,
        rerank_depth=rerank_depth,
    )


class _Videos:
    """The videos of a retrieval set that can be read; which those are, the first embedding finds out."""

    def __init__(
        self, data: RetrievalSet, frames: FrameSpec, num_workers: int | None, timeout_s: float, progress: bool
    ) -> None:
        self.data = data
        self.frames = frames
        self.num_workers, self.timeout_s, self.progress = num_workers, timeout_s, progress
        self.kept = [index for index, video in enumerate(data.videos) if video.path is not None]

    @property
    def paths(self) -> list[Path]:
        """Of the videos that are kept."""
        return [path for index in self.kept if (path := self.data.videos[index].path) is not None]

    def embed(self, encoder: Encoder) -> tuple[Scores, tuple[Failure, ...]]:
        """Vectors (num_kept, D), and what was left out. Raises VmrError where no video is left."""
        embedding = embed_videos(
            self.paths,
            encoder,
            self.frames,
            num_workers=self.num_workers,
            timeout_s=self.timeout_s,
            progress=self.progress,
        )
        vector_of_path = {video.path: video.vectors[0] for video in embedding.videos}
        failures = self._failures(embedding.failures)
        self.kept = [index for index in self.kept if str(self.data.videos[index].path) in vector_of_path]
        if not self.kept:
            first = failures[0]
            raise VmrError(
                f"{self.data.name}: none of {len(self.data.videos)} videos can be read, "
                f"first: {first.video}: {first.reason}"
            )
        return np.stack([vector_of_path[str(path)] for path in self.paths]), failures

    def _failures(self, failures: list[DecodeFailure]) -> tuple[Failure, ...]:
        reasons = {failure.path: failure.reason for failure in failures}
        return tuple(
            Failure(video.id, "no such file" if video.path is None else reasons[str(video.path)])
            for video in self.data.videos
            if video.path is None or str(video.path) in reasons
        )


def _match(encoder: Matcher, videos: _Videos, scored: "_ScoredPart", scores: Scores, depth: int) -> dict[str, float]:
    """The metrics of the candidates' matching logits; each video is read once more, for its tokens."""
    texts_read = encoder.read_texts(scored.texts)
    with progress_bar(videos.progress) as bar:
        task = bar.add_task("matching", total=len(videos.paths))

        def match(video: int, texts: NDArray[np.int64]) -> Scores:
            (segment,) = read_clip(videos.paths[video], videos.frames)
            tokens = encoder.video_tokens(torch.from_numpy(segment.video).unsqueeze(0))
            bar.advance(task)
            some = texts_read.select(torch.from_numpy(texts).to(texts_read.tokens.device))
            return encoder.match(tokens, some)[0].cpu().numpy()

        reranked = rerank(scores, match, depth)
    return bidirectional_metrics(reranked.text_to_video, scored.video_of_text, reranked.video_to_text)


@dataclass(frozen=True)
class _ScoredPart:
    """The texts whose video has a vector, and for each the row of that vector."""

    texts: list[str]
    video_of_text: NDArray[np.int64]


def _scored_part(data: RetrievalSet, kept: list[int]) -> _ScoredPart:
    row_of_video = {video: row for row, video in enumerate(kept)}
    pairs = [
        (text, row_of_video[video])
        for text, video in zip(data.texts, data.video_of_text, strict=True)
        if video in row_of_video
    ]
    return _ScoredPart([text for text, _ in pairs], np.array([row for _, row in pairs], dtype=np.int64))
