"""The scores of every column of a report: by embedding, re-ranked, normalised, searched approximately, without motion.

Shapes: Q texts, V videos, D dimensions.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.eval.metrics.columns import INDEX_PREFIX
from vmr.eval.metrics.normalisation import dual_softmax, qb_norm
from vmr.eval.metrics.scoring import ColumnScores
from vmr.eval.task import Task
from vmr.eval.videos import EmbeddedSet
from vmr.models.encoder import Matcher
from vmr.processes import Processes
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.reranking.engine import rerank_videos
from vmr.retrieval.texts import embed_texts

Floats = NDArray[np.float32]


def all_scores(
    task: Task,
    data: RetrievalSet,
    embedded: EmbeddedSet,
    *,
    cache: FeatureCache | None,
    processes: Processes,
    progress: bool,
) -> dict[str, ColumnScores]:
    """Score every text of `data` against every video, for every column that the task asks for.

    Args:
        task: the evaluation.
        data: the texts and videos that can be scored, those of `embedded`.
        embedded: the videos.
        cache: keeps the texts' vectors and the log of a re-ranking; None to keep nothing.
        processes: share the matching; all of them must call this function.
        progress: show a bar.

    Returns:
        For each column, in the order of the report, its scores. See `vmr.eval.metrics.columns` for the names.
    """
    texts = embed_texts(data.texts, task.encoder, cache=cache)  # (Q, D)
    by_embedding = embedded.gallery.search_all(texts)  # (Q, V)
    scores = {"embedding": ColumnScores(by_embedding, text_vectors=texts, video_vectors=embedded.vectors)}
    if task.rerank_depth and isinstance(task.encoder, Matcher) and embedded.tokens is not None:
        reranked = rerank_videos(
            task.encoder,
            embedded.tokens,
            data.texts,
            by_embedding,
            task.rerank_depth,
            memory_bytes=task.options.memory_bytes,
            work=None if cache is None else cache.folder / "rerank" / _log_name(task, data),
            processes=processes,
            progress=progress,
        )
        scores["vtm"] = ColumnScores(reranked.text_to_video, reranked.video_to_text)
    scores |= _normalised(task, by_embedding)
    scores |= _approximate(task, embedded, texts)
    for control, vectors in embedded.controls.items():
        scores[control] = ColumnScores(Gallery(vectors).search_all(texts))
    return scores


def _normalised(task: Task, by_embedding: Floats) -> Iterator[tuple[str, ColumnScores]]:
    if task.options.normalise:
        yield "embedding+dsl", ColumnScores(*dual_softmax(by_embedding))
        yield "embedding+qbnorm", ColumnScores(*qb_norm(by_embedding))


def _approximate(task: Task, embedded: EmbeddedSet, texts: Floats) -> Iterator[tuple[str, ColumnScores]]:
    for kind in task.options.index_kinds:
        assert embedded.vectors is not None  # `check_index` refuses an index with other kinds of index
        videos, of_texts = Gallery(embedded.vectors, kind), Gallery(texts, kind)
        found = ColumnScores(
            videos.search_all(texts), of_texts.search_all(embedded.vectors), not_found=not videos.is_exact
        )
        yield f"{INDEX_PREFIX}{videos.factory}", found


def _log_name(task: Task, data: RetrievalSet) -> str:
    """A folder name for the log of a re-ranking: one for each data set, protocol and encoder."""
    parts = (data.name, str(len(data.videos)), task.protocol.hash, task.encoder.fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
