"""The videos of an evaluation: which of them can be read, their vectors and their tokens.

Shapes: V videos that can be scored, D dimensions, N tokens of a video, C their width.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.data.decoding.worker_process import damage_failure
from vmr.data.remark import Remark
from vmr.errors import VmrError
from vmr.eval.controls import WithoutMotion
from vmr.models.encoder import Encoder
from vmr.retrieval.embed import Embedding, embed_videos_with
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.results import Failure, VideoRemark

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddedSet:
    """The videos of a retrieval set that can be scored, and why the others cannot.

    Attributes:
        kept: numbers of these videos in the retrieval set, increasing.
        gallery: the gallery that finds these videos; its items are in the order of `kept`.
        vectors: float32 (V, D); None if an index holds them.
        controls: for each control, such as `static`, vectors (V, D) of the same videos without motion.
        tokens: function from the position of a video in `kept` to its tokens (1, N, C); None if no tokens were asked
            for.
        failures: every other video by its id, with the reason, in the order of the retrieval set.
        remarks: what was noticed about the videos that can be scored, by their ids.
    """

    kept: tuple[int, ...]
    gallery: Gallery
    vectors: Vectors | None
    controls: dict[str, Vectors]
    tokens: Callable[[int], Tensor] | None
    failures: tuple[Failure, ...]
    remarks: tuple[VideoRemark, ...]


def embed_retrieval_set(
    data: RetrievalSet,
    encoder: Encoder,
    frames: FrameSpec,
    *,
    controls: Sequence[str] = (),
    tokens: bool = False,
    index: VideoIndex | None = None,
    cache: FeatureCache | None = None,
    decode: DecodeOptions,
    progress: bool = False,
) -> EmbeddedSet:
    """Embed the videos of a retrieval set, each as one segment and decoded once for the encoder and its controls.

    A video that is missing, unreadable or not in the index is left out and listed in `failures`.

    Args:
        data: the retrieval set.
        encoder: the model.
        frames: which frames of a video to decode.
        controls: keys of `vmr.eval.controls.CONTROLS` to embed as well.
        tokens: keep the tokens of the videos too, for matching.
        index: take the vectors from this index; videos are then opened only for controls or tokens.
        cache: features of earlier evaluations; new features are added.
        decode: how to decode.
        progress: show a bar.

    Raises:
        VmrError: no video is left, or tokens are requested but the encoder cannot match.
        ModelError: the encoder makes vectors that are not finite.
        IndexFileError: the index was made by another encoder, or holds none of the videos.
    """
    embeddings: list[Embedding] = []
    if index is None or controls or tokens:
        encoders = [encoder, *(WithoutMotion(encoder, control) for control in controls)]
        embeddings = _embed(data, encoders, frames, tokens=tokens, cache=cache, decode=decode, progress=progress)
    noticed = _noticed(embeddings, index)
    reasons = _reasons(data, embeddings, noticed if decode.strict else {})
    kept = tuple(number for number in range(len(data.videos)) if number not in reasons)
    gallery = None
    if index is not None and kept:
        gallery = Gallery.of_index(index, _paths(data, kept), encoder)
        in_index = tuple(kept[place] for place in gallery.kept)
        reasons |= dict.fromkeys(set(kept) - set(in_index), f"not in the index {index.folder}")
        kept = in_index
    failures = tuple(Failure(data.videos[number].id, reason) for number, reason in sorted(reasons.items()))
    if not kept:
        first = f"{failures[0].video}: {failures[0].reason}"
        raise VmrError(f"{data.name}: none of {len(data.videos)} videos can be scored, first: {first}")
    paths = _paths(data, kept)
    vectors = [_vectors(embedding, paths) for embedding in embeddings]
    return EmbeddedSet(
        kept=kept,
        gallery=gallery or Gallery(vectors[0]),
        vectors=vectors[0] if index is None else None,
        controls=dict(zip(controls, vectors[1:], strict=False)),
        tokens=_tokens_by_place(embeddings, paths),
        failures=failures,
        remarks=_remarks(data, kept, noticed),
    )


def _embed(
    data: RetrievalSet,
    encoders: Sequence[Encoder],
    frames: FrameSpec,
    *,
    tokens: bool,
    cache: FeatureCache | None,
    decode: DecodeOptions,
    progress: bool,
) -> list[Embedding]:
    """One embedding for each encoder, of the videos whose files were found."""
    return embed_videos_with(
        encoders,
        [video.path for video in data.videos if video.path is not None],
        frames,
        decode=decode,
        progress=progress,
        cache=cache,
        tokens=tokens,
    )


def _reasons(
    data: RetrievalSet, embeddings: Sequence[Embedding], noticed: Mapping[str, Sequence[Remark]]
) -> dict[int, str]:
    """Number of a video -> the reason, for each video that has no file, could not be decoded or is known as damaged."""
    unreadable = {failure.path: failure.reason for failure in embeddings[0].failures} if embeddings else {}
    reasons = {}
    for number, video in enumerate(data.videos):
        if video.path is None:
            reasons[number] = "no such file"
        elif str(video.path) in unreadable:
            reasons[number] = unreadable[str(video.path)]
        elif damage := damage_failure(str(video.path), noticed.get(os.path.realpath(video.path), ())):
            reasons[number] = damage.reason
    return reasons


def _noticed(embeddings: Sequence[Embedding], index: VideoIndex | None) -> dict[str, tuple[Remark, ...]]:
    """Real path of a video -> what was noticed when it was decoded, for the index or now."""
    noticed: dict[str, tuple[Remark, ...]] = {}
    for remark in () if index is None else index.remarks:
        path = os.path.realpath(remark.video)
        noticed[path] = (*noticed.get(path, ()), Remark(remark.kind, remark.text))
    for video in embeddings[0].videos if embeddings else ():
        noticed[os.path.realpath(video.path)] = video.remarks
    return noticed


def _remarks(
    data: RetrievalSet, kept: Sequence[int], noticed: Mapping[str, Sequence[Remark]]
) -> tuple[VideoRemark, ...]:
    return tuple(
        VideoRemark(data.videos[number].id, remark.kind, remark.text)
        for number, path in zip(kept, _paths(data, kept), strict=True)
        for remark in noticed.get(os.path.realpath(path), ())
    )


def _paths(data: RetrievalSet, numbers: Iterable[int]) -> list[Path]:
    """The files of these videos, all of which have one."""
    paths = (data.videos[number].path for number in numbers)
    return [path for path in paths if path is not None]


def _vectors(embedding: Embedding, paths: Sequence[Path]) -> Vectors:
    """The vectors (V, D) in the order of `paths`, which may name a file twice."""
    vector_of_path = {video.path: video.vectors[0] for video in embedding.videos}
    return np.stack([vector_of_path[str(path)] for path in paths])


def _tokens_by_place(embeddings: Sequence[Embedding], paths: Sequence[Path]) -> Callable[[int], Tensor] | None:
    store = embeddings[0].tokens if embeddings else None
    return None if store is None else lambda place: store.tokens(paths[place])
