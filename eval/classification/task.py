"""The task of an evaluation of a classifier: data, rules, classifier and options, checked before decoding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from vmr.checks import check_type, whole_number
from vmr.data.decoding.options import DecodeOptions
from vmr.data.views.spec import ViewSpec
from vmr.errors import ModelError, VmrError
from vmr.eval.classification.classes import ClassMap, match_classes
from vmr.eval.classification.load import LabelledData
from vmr.eval.classification.report.report import Join
from vmr.eval.classification.videos import Video, action_videos, videos_of
from vmr.eval.metrics.accuracy import Average
from vmr.models.catalogue import load_classifier as load_by_name
from vmr.models.catalogue import shows_progress
from vmr.models.classifier import Classifier
from vmr.progress import spinner
from vmr.targets import FrameRule


@dataclass(frozen=True)
class ClassifyOptions:
    """The settings of an evaluation that the user chooses; the protocol decides all others.

    Attributes:
        views: segments x crops, such as "4x3", instead of the protocol's; the report says so.
        frames: the rule by which a view takes frames, instead of the classifier's own; the report says so.
        average: what is averaged over the views of a video: `probabilities` or `logits`.
        join: what counts as one video: `path`, `clip` or `basename`; see `vmr.eval.classification.report.report.Join`.
        controls: also score one frame repeated, and frames out of order, in columns of their own; None for controls
            where the data needs time.
        limit: evaluate only this many videos of the data set, the first ones, for a smoke run; None for all.
        decode: how videos are decoded.

    Raises:
        VmrError: a value has a wrong type or is out of range.
    """

    views: str | None = None
    frames: FrameRule | None = None
    average: Average = "probabilities"
    join: Join = "path"
    controls: bool | None = None
    limit: int | None = None
    decode: DecodeOptions = field(default_factory=DecodeOptions)

    def __post_init__(self) -> None:
        for name, kind in (("average", Average), ("join", Join)):
            if getattr(self, name) not in get_args(kind):
                raise VmrError(f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        if self.frames is not None and self.frames not in get_args(FrameRule):
            raise VmrError(f"frames must be one of {', '.join(get_args(FrameRule))}, not {self.frames!r}")
        if self.limit is not None:
            whole_number("limit", self.limit)
        check_type("decode", self.decode, DecodeOptions)
        if self.views is not None:
            parse_views(self.views)


@dataclass(frozen=True)
class ClassifyTask:
    """One evaluation, ready to run.

    Attributes:
        data: the data set and its protocol.
        classifier: the classifier.
        classes: the classes that compete.
        spec: the views.
        videos: those to be scored, of the first `options.limit` of the list.
        missing: those of them whose files are not there.
        num_asked: how many videos the data set holds.
        controls: keys of `vmr.eval.controls.CONTROLS` that get a column.
        notes: what there is to know about the data.
        options: what the user chose.
    """

    data: LabelledData
    classifier: Classifier
    classes: ClassMap
    spec: ViewSpec
    videos: tuple[Video, ...]
    missing: tuple[Video, ...]
    num_asked: int
    controls: tuple[str, ...]
    notes: tuple[str, ...]
    options: ClassifyOptions


def prepare_classification(data: LabelledData, classifier: Classifier, options: ClassifyOptions) -> ClassifyTask:
    """Put together what an evaluation needs, and check that data and classifier fit.

    Args:
        data: the data set and its protocol.
        classifier: the classifier to evaluate.
        options: what the user chose.

    Raises:
        VmrError: the classifier predicts something else, lacks classes, or has another number of them; or an option is
            of no use with this data.
        AnnotationError: the list contradicts itself.
    """
    labels, protocol = data.labels, data.protocol
    if labels.target != classifier.target:
        raise VmrError(
            f"{labels.name} has labels for {_TARGETS[labels.target]}, but {classifier.name} predicts "
            f"{_TARGETS[classifier.target]}: use another classifier"
        )
    classes = _classes(data, classifier)
    spec, view_notes = _views(data, classifier, options)
    if data.drawn and options.join != "path":
        raise VmrError(f"{protocol.name} has no files that could be joined: leave out join")
    videos, notes = (action_videos(), []) if data.drawn else videos_of(labels, options.join)
    if labels.target == "single":
        videos = [video for video in videos if video.label in classes.class_of]
    num_listed = len(labels.items) + len(labels.missing)
    if protocol.num_videos not in (None, num_listed) and protocol.overlap is None:
        notes.append(f"the list names {num_listed} videos, the published one {protocol.num_videos}")
    chosen = videos[: options.limit]
    return ClassifyTask(
        data=data,
        classifier=classifier,
        classes=classes,
        spec=spec,
        videos=tuple(video for video in chosen if not video.missing),
        missing=tuple(video for video in chosen if video.missing),
        num_asked=len(videos),
        controls=_controls(data, spec, options),
        notes=(*labels.notes, *getattr(classifier, "notes", ()), *classes.notes, *view_notes, *notes),
        options=options,
    )


def parse_views(views: str) -> tuple[int, int]:
    """Return the numbers of segments and crops of "4x3".

    Raises:
        VmrError: it is written in another way.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", str(views).strip().lower())
    if match is None or "0" in match.groups():
        raise VmrError(f"views is {views!r}: give segments x crops, such as 4x3")
    return int(match[1]), int(match[2])


def load_classifier(
    model: str | Path | Classifier,
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
    progress: bool = False,
) -> Classifier:
    """Load a classifier by name; a loaded classifier is returned unchanged.

    Args:
        model: the name or path of a model, or a classifier.
        num_frames: frames of a clip, if another number than the model's own is to be used; see `vmr.load_model`.
        image_size: side of its frames in pixels, likewise.
        progress: show on a terminal that it is being loaded.

    Raises:
        ModelError: the model is unknown, its weights cannot be loaded, or it is no classifier.
        VmrError: sizes are given for a classifier that is loaded already.
    """
    if isinstance(model, str | Path):
        with spinner(progress and not shows_progress(model), "loading the classifier"):
            return load_by_name(model, num_frames=num_frames, image_size=image_size)
    if num_frames is not None or image_size is not None:
        raise VmrError("the classifier is loaded already: give num_frames and image_size to load_model")
    if not isinstance(model, Classifier):
        raise ModelError(f"{type(model).__name__} is no classifier: see vmr.Classifier for what it must have")
    return model


_TARGETS = {"single": "one class", "multi": "several classes", "regression": "a number"}


def _classes(data: LabelledData, classifier: Classifier) -> ClassMap:
    labels = data.labels
    if labels.target == "regression":
        if len(classifier.labels) != 1:
            raise VmrError(f"{classifier.name} gives {len(classifier.labels)} numbers, expected one")
        return ClassMap((), (0,), {}, ())
    return match_classes(
        labels.name,
        labels.classes,
        data.num_classes,
        classifier.name,
        classifier.labels,
        overlap=data.overlap,
        published=data.protocol.num_classes is not None,
    )


def _views(data: LabelledData, classifier: Classifier, options: ClassifyOptions) -> tuple[ViewSpec, list[str]]:
    """The views, and a note if their rule of frames is not the protocol's or not the classifier's."""
    protocol = data.protocol
    if options.views is not None:
        if data.drawn:
            raise VmrError(f"{protocol.name} draws one view of each clip: leave out views")
        num_segments, num_crops = parse_views(options.views)
        protocol = replace(protocol, num_segments=num_segments, num_crops=num_crops)
    if protocol.media == "image" and classifier.num_frames != 1:
        raise VmrError(
            f"{data.labels.name} has pictures, but {classifier.name} takes clips of {classifier.num_frames} frames: "
            "give num_frames 1, if this classifier can take pictures"
        )
    if options.frames is not None and (data.drawn or protocol.media == "image"):
        raise VmrError(f"{data.labels.name} has no videos to take frames of: leave out frames")
    own = protocol.frames_for(classifier.frames)
    frames = options.frames or own
    rules = {"the classifier's own": classifier.frames and own, "the protocol's": protocol.frames}
    others = [f"{whose} is {rule}" for whose, rule in rules.items() if rule not in (None, frames)]
    chosen = "the user's choice" if options.frames else "the classifier's own"
    notes = [f"frames by rule {frames}, {chosen}; {' and '.join(others)}"] if others and not data.drawn else []
    return protocol.view_spec(classifier.num_frames, classifier.size, frames), notes


def _controls(data: LabelledData, spec: ViewSpec, options: ClassifyOptions) -> tuple[str, ...]:
    wanted = data.protocol.needs_time if options.controls is None else options.controls
    if options.controls and spec.num_frames == 1:
        raise VmrError("controls show what motion is needed for, but this classifier sees one frame: leave them out")
    return ("static", "shuffled") if wanted and spec.num_frames > 1 else ()
