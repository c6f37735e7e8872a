"""From a retrieval set and an encoder to a report: embed each side once, search, score again, count.

Shapes: Q texts, V videos, D dimensions.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.errors import IndexFileError, VmrError
from vmr.eval.metrics.columns import CONTROLS, INDEX_PREFIX
from vmr.eval.metrics.normalisation import dual_softmax, qb_norm
from vmr.eval.metrics.ranks import query_indices
from vmr.eval.metrics.scoring import Column, Scores, measure
from vmr.eval.protocols.catalogue import FILE
from vmr.eval.protocols.protocol import Protocol
from vmr.eval.report.examples import Example, pick_examples
from vmr.eval.report.reference import reference_rows
from vmr.eval.report.report import ProtocolInfo, Report
from vmr.eval.videos import SeenVideos, see_videos
from vmr.models.encoder import Encoder, Matcher, TextLimited
from vmr.processes import ALONE, Processes
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.reranking.engine import rerank_videos
from vmr.retrieval.texts import embed_texts


@dataclass(frozen=True)
class Options:
    """What of an evaluation is not the protocol's to say. Raises VmrError for values that make no sense.

    rerank_depth: candidates of each query that are scored again by matching, in a column of their own; None for the
    protocol's where the data needs time and the encoder can match, 0 for no such column.
    normalise: add the columns of DSL and QB-Norm, which use the other test queries.
    index_kinds: kinds of approximate index (see `vmr.retrieval.gallery.FACTORIES`), each of which gets a column.
    limit: of videos, for a smoke run. memory_bytes: bound of a process while it matches.
    reader, num_workers, timeout_s: of decoding, see `vmr.data.decoding.pool`.
    """

    rerank_depth: int | None = None
    normalise: bool = False
    index_kinds: tuple[str, ...] = ()
    limit: int | None = None
    memory_bytes: int | None = None
    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise VmrError(f"limit is {self.limit}: evaluate at least 1 video")


def evaluate(
    data: RetrievalSet,
    encoder: Encoder,
    protocol: Protocol = FILE,
    options: Options = Options(),
    *,
    index: VideoIndex | None = None,
    cache: FeatureCache | None = None,
    among: Processes = ALONE,
    progress: bool = False,
) -> Report:
    """Scores `encoder` on `data` by the rules of `protocol`, text to video and video to text.

    Each video is one segment. One that is missing or unreadable is left out together with its texts; the report lists
    it, and counts both what was asked and what was scored. The videos are searched in a `Gallery`, which is exact
    unless `options` ask for more kinds.

    The report has a column for each kind of score, see `vmr.eval.metrics.columns`: `embedding`; `vtm`; those that
    `options` add; and where the data needs time `static` and `shuffled`.

    index: takes the videos' vectors from an index that was built with the same encoder. cache: features of earlier
    evaluations; with one, matching that was interrupted goes on where it was. among: processes that share the matching.

    Raises VmrError where no video is left, a score is not finite, or an encoder that cannot match is to re-rank.
    """
    depth = _depth(options, protocol, data, encoder)
    asked, encoder = prepare(data, encoder, protocol, options)
    frames = frame_spec(encoder, sampling=protocol.sampling, num_frames=protocol.num_frames)

    if index is not None:
        _check_index(index, frames, protocol, options.reader)

    def see() -> SeenVideos:
        return see_videos(
            asked,
            encoder,
            frames,
            controls=CONTROLS if data.needs_time else (),
            tokens=depth > 0,
            index=index,
            cache=cache,
            decode=DecodeOptions(options.reader, options.num_workers, options.timeout_s),
            progress=progress and among.is_main,
        )

    seen = see() if among.is_main else None
    among.share(None)  # the others wait, and find in the cache what the first has put there
    seen = seen or see()
    scored = asked.restricted_to(seen.kept)
    texts = embed_texts(scored.texts, encoder, cache=cache)  # (Q, D)
    kinds: dict[str, Scores] = {
        "embedding": Scores(seen.gallery.search_all(texts), text_vectors=texts, video_vectors=seen.vectors)
    }
    if depth and isinstance(encoder, Matcher) and seen.tokens is not None:
        reranked = rerank_videos(
            encoder,
            seen.tokens,
            scored.texts,
            kinds["embedding"].text_to_video,
            depth,
            memory_bytes=options.memory_bytes,
            work=_work_folder(cache, scored, protocol, encoder),
            processes=among,
            progress=progress,
        )
        kinds["vtm"] = Scores(reranked.text_to_video, reranked.video_to_text)
    kinds |= dict(_more_kinds(options, seen, texts, kinds["embedding"].text_to_video))
    columns = {kind: measure(scores, scored, alarming=kind not in CONTROLS) for kind, scores in kinds.items()}
    text_rows, video_rows = query_indices(scored.video_of_text, len(scored.videos))
    return Report(
        dataset=data.name,
        encoder=encoder.name,
        about=encoder.about,
        fingerprint=encoder.fingerprint,
        num_frames=frames.num_frames,
        sampling=frames.sampling,
        reader=options.reader,
        num_videos=len(scored.videos),
        num_videos_asked=len(data.videos),
        num_texts=len(scored.texts),
        num_texts_asked=len(data.texts),
        failures=seen.failures,
        scores={kind: column.metrics for kind, column in columns.items()},
        rerank_depth=depth,
        protocol=ProtocolInfo(protocol.name, protocol.version, protocol.hash, protocol.title, protocol.note),
        limit=options.limit,
        alarms=tuple(f"{kind}: {alarm}" for kind, column in columns.items() for alarm in column.alarms),
        intervals={kind: column.intervals for kind, column in columns.items()},
        reference=reference_rows(protocol.name),
        examples=_examples(kinds, columns, scored, text_rows),
        text_ids=() if data.choices else tuple(scored.texts[text] for text in text_rows),
        video_ids=() if data.choices else tuple(scored.videos[video].id for video in video_rows),
        ranks={kind: _as_lists(column) for kind, column in columns.items() if column.ranks is not None},
    )


def prepare(data: RetrievalSet, encoder: Encoder, protocol: Protocol, options: Options) -> tuple[RetrievalSet, Encoder]:
    """The part of `data` that is asked for, and `encoder` reading as much of a caption as the protocol says."""
    if isinstance(encoder, TextLimited) and protocol.max_text_tokens is not None:
        encoder = encoder.with_text_limit(protocol.max_text_tokens)
    asked = data if options.limit is None else data.restricted_to(range(min(options.limit, len(data.videos))))
    return asked, encoder


def _depth(options: Options, protocol: Protocol, data: RetrievalSet, encoder: Encoder) -> int:
    """How many candidates are matched. Raises VmrError where an encoder cannot that is to."""
    if options.rerank_depth is None:
        return protocol.rerank_depth if data.needs_time and isinstance(encoder, Matcher) else 0
    if options.rerank_depth and not isinstance(encoder, Matcher):
        raise VmrError(f"{encoder.name} cannot match videos and texts token by token: leave re-ranking out")
    return options.rerank_depth


def _check_index(index: VideoIndex, frames: FrameSpec, protocol: Protocol, reader: str) -> None:
    """Raises IndexFileError where the index has looked at other frames than the protocol says."""
    held = index.manifest
    wanted = ("middle", held.num_frames, held.reader)  # an index samples by no other rule
    if (frames.sampling, frames.num_frames, reader) != wanted:
        raise IndexFileError(
            f"{index.folder} holds {held.num_frames} frames of each video by rule middle, read by {held.reader}, but "
            f"{protocol.name} is evaluated with {frames.num_frames} by rule {frames.sampling}, read by "
            f"{reader}: leave the index out, or give its --reader"
        )


def _more_kinds(
    options: Options, seen: SeenVideos, texts: NDArray[np.float32], scores: NDArray[np.float32]
) -> Iterator[tuple[str, Scores]]:
    """Normalised scores, approximate searches, and the controls."""
    if options.normalise:
        yield "embedding+dsl", Scores(*dual_softmax(scores))
        yield "embedding+qbnorm", Scores(*qb_norm(scores))
    for kind in options.index_kinds:
        if seen.vectors is None:
            raise VmrError("what another kind of index costs is measured on vectors, not on an index: leave one out")
        videos, of_texts = Gallery(seen.vectors, kind), Gallery(texts, kind)
        found = Scores(videos.search_all(texts), of_texts.search_all(seen.vectors), not_found=not videos.is_exact)
        yield f"{INDEX_PREFIX}{videos.factory}", found
    for control, vectors in seen.controls.items():
        yield control, Scores(Gallery(vectors).search_all(texts))


def _work_folder(cache: FeatureCache | None, data: RetrievalSet, protocol: Protocol, encoder: Encoder) -> Path | None:
    """Where the log of a re-ranking is kept, one folder for each data set, protocol and encoder."""
    if cache is None:
        return None
    parts = (data.name, str(len(data.videos)), protocol.hash, encoder.fingerprint)
    return cache.folder / "rerank" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _examples(
    kinds: dict[str, Scores], columns: dict[str, Column], data: RetrievalSet, text_rows: NDArray[np.int64]
) -> dict[str, tuple[Example, ...]]:
    """The worst and the best queries of each kind that is no control."""
    texts = [data.texts[text] for text in text_rows]
    own = [data.videos_of(text)[0] for text in text_rows.tolist()]
    video_ids = [video.id for video in data.videos]
    return {
        kind: pick_examples(kinds[kind].text_to_video[text_rows], column.ranks.text_to_video, texts, own, video_ids)
        for kind, column in columns.items()
        if column.ranks is not None and kind not in CONTROLS
    }


def _as_lists(column: Column) -> dict[str, tuple[int, ...]]:
    assert column.ranks is not None
    return {direction: tuple(ranks.tolist()) for direction, ranks in column.ranks._asdict().items()}
