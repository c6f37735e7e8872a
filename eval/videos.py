"""The videos of an evaluation as the encoder sees them: which can be read, their vectors, their tokens.

Shapes: V videos that are kept, D dimensions, N tokens of a video, C their width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.errors import VmrError
from vmr.eval.controls import WithoutMotion
from vmr.models.encoder import Encoder
from vmr.retrieval.embed import Embedding, embed_videos_with
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.manifest import Failure

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class SeenVideos:
    """Those of a retrieval set that can be scored, and why the others cannot.

    kept: their numbers in the set, increasing. gallery: where they are searched. vectors: (V, D), None where an index
    holds them. controls: control -> vectors (V, D) of the same videos without motion. tokens: number of a kept video,
    from 0 -> (1, N, C); None where they were not asked for.
    """

    kept: tuple[int, ...]
    gallery: Gallery
    vectors: Vectors | None
    controls: dict[str, Vectors]
    tokens: Callable[[int], Tensor] | None
    failures: tuple[Failure, ...]


def see_videos(
    data: RetrievalSet,
    encoder: Encoder,
    frames: FrameSpec,
    *,
    controls: Sequence[str] = (),
    tokens: bool = False,
    index: VideoIndex | None = None,
    cache: FeatureCache | None = None,
    decode: DecodeOptions = DecodeOptions(),
    progress: bool = False,
) -> SeenVideos:
    """Embeds the videos of `data`, each as one segment and decoded once for the encoder and its controls.

    index: takes the vectors from there; then videos are opened only for controls or tokens. A video that is missing,
    unreadable or not in the index is left out and listed. Raises VmrError where no video is left.
    """
    reasons = {number: "no such file" for number, video in enumerate(data.videos) if video.path is None}
    paths = {number: video.path for number, video in enumerate(data.videos) if video.path is not None}
    embeddings: list[Embedding] = []
    if index is None or controls or tokens:
        encoders = [encoder, *(WithoutMotion(encoder, control) for control in controls)]
        embeddings = embed_videos_with(
            encoders,
            paths.values(),
            frames,
            decode=decode,
            progress=progress,
            cache=cache,
            tokens=tokens,
        )
        broken = {failure.path: failure.reason for failure in embeddings[0].failures}
        reasons |= {number: broken[str(path)] for number, path in paths.items() if str(path) in broken}
    kept = [number for number in paths if number not in reasons]
    gallery = None
    if index is not None and kept:
        gallery = Gallery.of_index(index, [paths[number] for number in kept], encoder)
        held = {kept[place] for place in gallery.kept}
        reasons |= dict.fromkeys(set(kept) - held, f"not in the index {index.folder}")
        kept = sorted(held)
    failures = tuple(Failure(data.videos[number].id, reason) for number, reason in sorted(reasons.items()))
    if not kept:
        raise VmrError(
            f"{data.name}: none of {len(data.videos)} videos can be scored, "
            f"first: {failures[0].video}: {failures[0].reason}"
        )
    kept_paths = [paths[number] for number in kept]
    vectors = [_vectors(embedding, kept_paths) for embedding in embeddings]
    store = embeddings[0].tokens if embeddings else None
    return SeenVideos(
        tuple(kept),
        gallery or Gallery(vectors[0]),
        vectors[0] if index is None else None,
        dict(zip(controls, vectors[1:], strict=False)),
        None if store is None else lambda video: store.tokens(kept_paths[video]),
        failures,
    )


def _vectors(embedding: Embedding, paths: Sequence[Path]) -> Vectors:
    """(V, D), in the order of `paths`, which may name a file twice."""
    vector_of_path = {video.path: video.vectors[0] for video in embedding.videos}
    return np.stack([vector_of_path[str(path)] for path in paths])
