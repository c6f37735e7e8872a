"""From a data set with labels and a classifier to a report: prepare, classify each view, score, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.checks import check_type
from vmr.data.labels.label_set import LabelSet
from vmr.errors import ModelError, VmrError
from vmr.eval.classification.alarms import classification_alarms
from vmr.eval.classification.load import LabelledData, labelled_for
from vmr.eval.classification.logits import ClipLogits, clip_logits
from vmr.eval.classification.protocols.catalogue import FILE
from vmr.eval.classification.report.reference import published_accuracies
from vmr.eval.classification.report.report import MAIN, ClassificationReport, ColumnResult, Cost, Join
from vmr.eval.classification.task import ClassifyOptions, ClassifyTask, load_classifier, prepare_classification
from vmr.eval.classification.videos import Clip, Video, files_of
from vmr.eval.controls import ClassifierWithoutMotion
from vmr.eval.metrics.accuracy import (
    best_classes,
    merge_views,
    metric_intervals,
    metric_rows,
    metrics,
)
from vmr.eval.report.report import ProtocolInfo
from vmr.models.classifier import Classifier
from vmr.processes import ALONE, Processes
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.results import Failure, VideoRemark
from vmr.targets import Target

__all__ = ["ClassifyOptions", "evaluate_classifier"]

Scores = NDArray[np.float64]


def evaluate_classifier(
    dataset: str | Path | LabelledData | LabelSet,
    model: str | Path | Classifier,
    *,
    data_dir: str | Path | None = None,
    video_dir: str | Path | None = None,
    options: ClassifyOptions | None = None,
    cache: FeatureCache | None = None,
    processes: Processes = ALONE,
    progress: bool = False,
) -> ClassificationReport:
    """Score a classifier on a data set with labels.

    Each file is decoded once, for all its views and for the controls. A video that is missing or unreadable is left
    out; the report lists it, and counts requested and scored videos.

    Args:
        dataset: the name of a published data set (`k400`, ...) or of the synthetic one (`shapes-actions`), a list of
            labels, a folder with a subfolder for each class, or a data set that is loaded already.
        model: the name or path of a classifier (see `vmr.load_model`), or a classifier.
        data_dir: with a published data set, the folder of its list and its videos.
        video_dir: the folder that the paths of a list are relative to; default, the folder of the list.
        options: views, average, join and controls; how many videos to evaluate, and how to decode.
        cache: logits of earlier evaluations; new ones are added. With a cache, an interrupted evaluation is continued.
        processes: the processes that share the clips; all of them must call with the same arguments.
        progress: show a progress bar on a terminal.

    Returns:
        A report with the column `views`, and `static` and `shuffled` where controls are scored.

    Raises:
        VmrError: the data set cannot be loaded, does not fit the classifier, or no video can be scored.
        ModelError: the model is unknown or no classifier, or its logits are not finite.
    """
    options = ClassifyOptions() if options is None else options
    check_type("options", options, ClassifyOptions)
    check_type("cache", cache, FeatureCache, NoneType)
    if isinstance(dataset, LabelledData | LabelSet) and not (data_dir is video_dir is None):
        raise VmrError("this data set is loaded already and knows its files: leave out data_dir and video_dir")
    if isinstance(dataset, LabelSet):
        dataset = LabelledData(dataset, FILE)
    if isinstance(dataset, LabelledData):
        classifier = load_classifier(model, progress=progress and processes.is_main)
    else:
        load = labelled_for(dataset, data_dir=data_dir, video_dir=video_dir)
        classifier = load_classifier(model, progress=progress and processes.is_main)
        dataset = load(classifier.target)
    task = prepare_classification(dataset, classifier, options)
    columns = [classifier, *(ClassifierWithoutMotion(classifier, control) for control in task.controls)]
    clips = [clip for video in task.videos for clip in video.clips]
    found = clip_logits(clips, columns, task.spec, options.decode, cache=cache, processes=processes, progress=progress)
    return _report(task, found)


def _report(task: ClassifyTask, found: ClipLogits) -> ClassificationReport:
    target = task.data.labels.target
    kept = [video for video in task.videos if _readable(video, found)]
    failures = _failures(task, found)
    if not kept:
        first = f", first: {failures[0].video}: {failures[0].reason}" if failures else ""
        num_chosen = len(task.videos) + len(task.missing)
        raise VmrError(f"{task.data.labels.name}: none of {num_chosen} videos can be scored{first}")
    truth = _truth(task, kept)
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    results: dict[str, ColumnResult] = {}
    alarms: tuple[str, ...] = ()
    num_classes = len(task.classes.names)
    for number, column in enumerate((MAIN, *task.controls)):
        table = np.stack([_scores(task, video, found, number) for video in kept])
        rows = metric_rows(table, truth, target)
        scores[column] = metrics(rows, target, num_classes)
        intervals[column] = metric_intervals(rows, target, num_classes)
        results[column] = _result(table, truth, rows, target)
        if column == MAIN and target == "single":
            alarms = tuple(classification_alarms(table, truth, intervals[column], task.classes.names))
    protocol, classifier = task.data.protocol, task.classifier
    return ClassificationReport(
        dataset=task.data.labels.name,
        model=classifier.name,
        about=classifier.about,
        fingerprint=classifier.fingerprint,
        target=target,
        classes=task.classes.names,
        views=task.spec,
        views_of_protocol=(task.spec.num_segments, task.spec.num_crops) == (protocol.num_segments, protocol.num_crops),
        average=task.options.average,
        join=task.options.join,
        reader=task.options.decode.reader,
        num_videos=len(kept),
        num_videos_asked=task.num_asked,
        failures=failures,
        remarks=_remarks(kept, found),
        scores=scores,
        intervals=intervals,
        videos=tuple(video.name for video in kept),
        labels=_labels(truth, target),
        values=tuple(truth.tolist()) if target == "regression" else (),
        results=results,
        protocol=ProtocolInfo(protocol.name, protocol.version, protocol.hash, protocol.title, protocol.note),
        notes=task.notes,
        limit=task.options.limit,
        alarms=alarms,
        reference=published_accuracies(protocol.name),
        cost=_cost(classifier),
        video_files=files_of(kept),
    )


def _readable(video: Video, found: ClipLogits) -> list[Clip]:
    return [clip for clip in video.clips if clip.name in found.logits]


def _scores(task: ClassifyTask, video: Video, found: ClipLogits, column: int) -> Scores:
    """The scores (C,) of a video, over the views of all its clips."""
    views = np.concatenate([found.logits[clip.name][column] for clip in _readable(video, found)])
    return merge_views(views[:, task.classes.outputs], task.data.labels.target, task.options.average)


def _truth(task: ClassifyTask, videos: Sequence[Video]) -> NDArray[Any]:
    """Classes (V,); 0 or 1 for each class that competes (V, C); or numbers (V,)."""
    labels, target = [video.label for video in videos], task.data.labels.target
    if target == "regression":
        return np.array([label[0] if isinstance(label, tuple) else label for label in labels], np.float64)
    if target == "single":
        return np.array([task.classes.class_of[int(label)] for label in labels], np.int64)  # type: ignore[arg-type]
    truth = np.zeros((len(videos), len(task.classes.names)), np.int64)
    for row, label in zip(truth, labels, strict=True):
        assert isinstance(label, tuple)
        row[[task.classes.class_of[number] for number, there in enumerate(label) if there]] = 1
    return truth


def _labels(truth: NDArray[Any], target: Target) -> tuple[tuple[int, ...], ...]:
    if target == "single":
        return tuple((int(number),) for number in truth)
    return tuple(tuple(np.flatnonzero(row).tolist()) for row in truth) if target == "multi" else ()


def _result(table: Scores, truth: NDArray[Any], rows: NDArray[Any], target: Target) -> ColumnResult:
    as_tuples = tuple(tuple(row) for row in table.tolist())
    if target == "regression":
        return ColumnResult(scores=as_tuples)
    own = truth if target == "single" else np.full(len(table), -1)  # no class comes last among equal ones
    top = best_classes(table, own)
    return ColumnResult(
        top=tuple(tuple(row) for row in top.tolist()),
        probabilities=tuple(tuple(round(p, 6) for p in row) for row in np.take_along_axis(table, top, 1).tolist()),
        ranks=tuple(rows[:, 1].tolist()) if target == "single" else (),
        scores=as_tuples if target == "multi" else (),
    )


def _failures(task: ClassifyTask, found: ClipLogits) -> tuple[Failure, ...]:
    """A failure for each video that is lost, and for each part that a scored video lacks; by the names of videos."""
    failures: list[Failure] = []
    for video in task.videos:
        failed = [clip for clip in video.clips if clip.name in found.failures]
        if len(failed) == len(video.clips):
            failures.append(Failure(_name(video, task.options.join), found.failures[failed[0].name]))
        else:
            parts = ((clip, "part {:g}-{:g} s".format(*clip.span or ())) for clip in failed)
            failures += [Failure(video.name, f"{part}: {found.failures[clip.name]}") for clip, part in parts]
    return (*failures, *(Failure(_name(video, task.options.join), "no such file") for video in task.missing))


def _name(video: Video, join: Join) -> str:
    """What a failure calls a video; if it stands for several files, the one that counts."""
    return video.clips[0].name if join == "basename" else video.name


def _remarks(videos: Sequence[Video], found: ClipLogits) -> tuple[VideoRemark, ...]:
    return tuple(
        VideoRemark(clip.name, remark.kind, remark.text)
        for video in videos
        for clip in video.clips
        for remark in found.remarks.get(clip.name, ())
    )


def _cost(classifier: Classifier) -> Cost | None:
    """What the classifier's network costs; None for one that vmr does not know."""
    from vmr.models.classification.cost import cost_of

    network = getattr(classifier, "network", None)
    if network is None:
        return None
    try:
        cost = cost_of(network, classifier.num_frames, classifier.size)
    except ModelError:
        return None
    return Cost(cost.parameters, cost.operations.total, asdict(network.config))
