"""From a data set and an encoder to a report: prepare, embed, score, report."""

from pathlib import Path
from types import NoneType

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_type
from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.eval.metrics.columns import CONTROL_KINDS
from vmr.eval.metrics.ranks import query_indices
from vmr.eval.metrics.scoring import ColumnResult, ColumnScores, score_column
from vmr.eval.protocols.load import Loaded
from vmr.eval.report.examples import Example, pick_examples
from vmr.eval.report.reference import reference_rows
from vmr.eval.report.report import ProtocolInfo, Report
from vmr.eval.scores import all_scores
from vmr.eval.task import EvalOptions, Task, check_index, load, load_encoder, prepare
from vmr.eval.videos import EmbeddedSet, embed_retrieval_set
from vmr.models.encoder import Encoder
from vmr.processes import ALONE, Processes
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.index import VideoIndex, open_index
from vmr.retrieval.vectors.faiss_store import require_faiss

__all__ = ["EvalOptions", "evaluate"]


def evaluate(
    dataset: str | Path | RetrievalSet | Loaded,
    encoder: str | Path | Encoder = "offline",
    *,
    video_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    options: EvalOptions | None = None,
    index: str | Path | VideoIndex | None = None,
    cache: FeatureCache | None = None,
    processes: Processes = ALONE,
    progress: bool = False,
) -> Report:
    """Score an encoder on a data set by retrieval, text to video and video to text.

    Each video is one segment. A video that is missing or unreadable is left out together with its texts; the report
    lists it, and counts requested and scored videos and texts. The search is exact.

    Args:
        dataset: the name of a published data set or of a part of the synthetic benchmark (`shapes`, ...), a JSON
            annotation file, or a data set that is loaded already.
        encoder: the name or path of a model (see `vmr.load_model`), or an encoder.
        video_dir: with an annotation file, the folder of its videos; default, the folder of the file.
        data_dir: with a published data set, the folder of its videos and annotations.
        options: which further columns to add, how many videos to evaluate, how to decode.
        index: an index that was built with the same encoder, or its folder: take the videos' vectors from there.
        cache: features of earlier evaluations; new features are added. With a cache, interrupted matching is continued.
        processes: the processes that share the matching; all of them must call with the same arguments.
        progress: show a progress bar on a terminal.

    Returns:
        A report with a column for each kind of score, see `vmr.eval.metrics.columns`: `embedding`; `vtm` if videos are
        re-ranked; the columns that `options` add; `static` and `shuffled` if the data needs time.

    Raises:
        VmrError: the data set cannot be loaded, no video can be scored, a score is not finite, or re-ranking was asked
            for but the encoder cannot match.
        MissingExtraError: FAISS, or a package of the encoder, is not installed.
    """
    options = EvalOptions() if options is None else options
    check_type("options", options, EvalOptions)
    check_type("cache", cache, FeatureCache, NoneType)
    require_faiss()  # what is missing is found before any work
    loaded = load(dataset, video_dir, data_dir)
    model = load_encoder(encoder, progress=progress and processes.is_main)
    task = prepare(loaded, model, options)
    if index is not None and not isinstance(index, VideoIndex):
        index = open_index(index, model)
    if index is not None:
        check_index(index, task)
    embedded = _embed(task, index, cache, processes, progress)
    data = task.data.restricted_to(embedded.kept)
    scores = all_scores(task, data, embedded, cache=cache, processes=processes, progress=progress)
    return _report(task, data, embedded, scores)


def _embed(
    task: Task, index: VideoIndex | None, cache: FeatureCache | None, processes: Processes, progress: bool
) -> EmbeddedSet:
    """Embed the videos of the task, first in the main process: the others read its features from the cache."""

    def embed() -> EmbeddedSet:
        return embed_retrieval_set(
            task.data,
            task.encoder,
            task.frames,
            controls=CONTROL_KINDS if task.data.needs_time else (),
            tokens=task.rerank_depth > 0,
            index=index,
            cache=cache,
            decode=task.options.decode,
            progress=progress and processes.is_main,
        )

    embedded = embed() if processes.is_main else None
    processes.share(None)  # the other processes wait here until the main process has finished
    return embedded or embed()


def _report(task: Task, data: RetrievalSet, embedded: EmbeddedSet, scores: dict[str, ColumnScores]) -> Report:
    """The report on the scores of `data`, the part of the task's data that could be scored."""
    columns = {kind: score_column(one, data, with_alarms=kind not in CONTROL_KINDS) for kind, one in scores.items()}
    text_rows, video_rows = query_indices(data.video_of_text, len(data.videos))
    protocol = task.protocol
    return Report(
        dataset=task.dataset.name,
        encoder=task.encoder.name,
        about=task.encoder.about,
        fingerprint=task.encoder.fingerprint,
        num_frames=task.frames.num_frames,
        sampling=task.frames.sampling,
        reader=task.options.decode.reader,
        num_videos=len(data.videos),
        num_videos_asked=len(task.dataset.videos),
        num_texts=len(data.texts),
        num_texts_asked=len(task.dataset.texts),
        failures=embedded.failures,
        remarks=embedded.remarks,
        scores={kind: column.metrics for kind, column in columns.items()},
        rerank_depth=task.rerank_depth,
        protocol=ProtocolInfo(protocol.name, protocol.version, protocol.hash, protocol.title, protocol.note),
        limit=task.options.limit,
        alarms=tuple(f"{kind}: {alarm}" for kind, column in columns.items() for alarm in column.alarms),
        intervals={kind: column.intervals for kind, column in columns.items()},
        reference=reference_rows(protocol.name),
        examples=_examples(scores, columns, data, text_rows),
        text_ids=() if data.choices else tuple(data.texts[text] for text in text_rows),
        video_ids=() if data.choices else tuple(data.videos[video].id for video in video_rows),
        ranks={kind: column.ranks_by_direction() for kind, column in columns.items() if column.ranks is not None},
        video_files={video.id: video.path for video in task.dataset.videos if video.path is not None},
    )


def _examples(
    scores: dict[str, ColumnScores],
    columns: dict[str, ColumnResult],
    data: RetrievalSet,
    text_rows: NDArray[np.int64],
) -> dict[str, tuple[Example, ...]]:
    """The worst and the best queries of each column that is not a control."""
    texts = [data.texts[text] for text in text_rows]
    own = [data.videos_of(text)[0] for text in text_rows.tolist()]
    video_ids = [video.id for video in data.videos]
    return {
        kind: pick_examples(scores[kind].text_to_video[text_rows], column.ranks.text_to_video, texts, own, video_ids)
        for kind, column in columns.items()
        if column.ranks is not None and kind not in CONTROL_KINDS
    }
