"""From a retrieval set and an encoder to a report: embed each side once, score all pairs, count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotations import RetrievalSet
from vmr.errors import VmrError
from vmr.eval.metrics import bidirectional_metrics
from vmr.eval.report import Report
from vmr.models.encoder import Encoder
from vmr.retrieval.embed import embed_texts, embed_videos, frame_spec
from vmr.retrieval.manifest import Failure


def evaluate(
    data: RetrievalSet,
    encoder: Encoder,
    *,
    reader: str = "pyav",
    num_workers: int | None = None,
    timeout_s: float = 120.0,
    progress: bool = False,
) -> Report:
    """Scores `encoder` on `data`, text to video and video to text.

    Each video is one segment, sampled as the encoder wants. A video that is missing or unreadable is left out together
    with its texts; the report lists it, and counts both what was asked and what was scored. Raises VmrError where no
    video is left or an embedding is not finite.
    """
    frames = frame_spec(encoder, reader=reader)
    paths = [video.path for video in data.videos if video.path is not None]
    embedding = embed_videos(paths, encoder, frames, num_workers=num_workers, timeout_s=timeout_s, progress=progress)
    vector_of_path = {video.path: video.vectors[0] for video in embedding.videos}
    reasons = {failure.path: failure.reason for failure in embedding.failures}
    kept = [index for index, video in enumerate(data.videos) if str(video.path) in vector_of_path]
    failures = tuple(
        Failure(video.id, "no such file" if video.path is None else reasons[str(video.path)])
        for video in data.videos
        if str(video.path) not in vector_of_path
    )
    if not kept:
        first = failures[0]
        raise VmrError(
            f"{data.name}: none of {len(data.videos)} videos can be read, first: {first.video}: {first.reason}"
        )
    scored = _scored_part(data, kept)
    videos = np.stack([vector_of_path[str(data.videos[index].path)] for index in kept])  # (num_videos, D)
    texts = embed_texts(scored.texts, encoder)  # (num_texts, D)
    scores = texts @ videos.T  # (num_texts, num_videos)
    return Report(
        dataset=data.name,
        encoder=encoder.name,
        about=encoder.about,
        fingerprint=encoder.fingerprint,
        num_frames=frames.num_frames,
        sampling=frames.sampling,
        reader=frames.reader,
        num_videos=len(videos),
        num_videos_asked=len(data.videos),
        num_texts=len(texts),
        num_texts_asked=len(data.texts),
        failures=failures,
        scores={"embedding": bidirectional_metrics(scores, scored.video_of_text)},
    )


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
