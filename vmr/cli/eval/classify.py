"""`vmr-eval --task classify`: score a classifier on a data set with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import PositiveInt

from vmr.cli.eval.outputs import WAIT_AT_MOST, CacheOptions, OutputOptions, check_outputs, finish
from vmr.cli.output import print_classification
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.targets import FrameRule

if TYPE_CHECKING:
    from vmr.eval.classification.task import ClassifyOptions


@dataclass(frozen=True)
class DataOptions:
    """Where the videos and labels are.

    Attributes:
        data_dir: with a published data set, the folder of its list and its videos
        video_dir: the folder that the paths of the list are relative to; default, the folder of the list
        classes: a file with the names of the data set's classes, one a line; default, those that it comes with
        overlap_classes: with k400-overlap-k600 or k600-overlap-k400, a file with the names of the other set's classes;
            default, k600_classes.txt or k400_classes.txt in --data-dir
        split: with a list or folder of your own, which part of it is scored, such as val, or test2 for the second of
            several
        format: with a list of your own, how it is written, such as comma, space or table
    """

    data_dir: str | None = None
    video_dir: str | None = None
    classes: str | None = None
    overlap_classes: str | None = None
    split: str | None = None
    format: str = "auto"


@dataclass(frozen=True)
class ViewOptions:
    """How a video is scored.

    Attributes:
        views: segments x crops of each video, such as 4x3, instead of the protocol's; the report says so
        frames: the rule by which a view takes frames, instead of the classifier's own; the report says so
        average: what is averaged over the views of a video, their probabilities or their logits
        join: what counts as one video; path, with all its folders; clip, each trimmed clip by itself; or basename, the
            name of the file up to the first dot, as OpenGVLab/VideoMamba joins them
        controls: also score one frame repeated, and frames out of order; default, where the data needs time
        no_controls: do not score them in any case
        num_frames: frames of a clip, if not the model's own; its positions in time are interpolated
        image_size: side of the frames in pixels, if not the model's own; its positions are interpolated
        limit: score only this many videos, the first ones; the report is marked as partial
    """

    views: str | None = None
    frames: FrameRule | None = None
    average: Literal["probabilities", "logits"] = "probabilities"
    join: Literal["path", "clip", "basename"] = "path"
    controls: bool = False
    no_controls: bool = False
    num_frames: PositiveInt | None = None
    image_size: PositiveInt | None = None
    limit: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.controls and self.no_controls:
            raise VmrError("--controls and --no-controls contradict each other: give one of them")


def classify(
    dataset: str,
    model: str,
    task: Literal["retrieval", "classify"] = "classify",
    *,
    data: DataOptions,
    scoring: ViewOptions,
    outputs: OutputOptions,
    caching: CacheOptions,
    decode: DecodeOptions,
) -> None:
    """Score a classifier on videos or pictures with labels. `vmr-eval compare A B` compares reports.

    Args:
        dataset: a list of labels, a folder with a subfolder for each class, a published data set such as k400, a
            protocol file of your own (.yaml), or shapes-actions (synthetic, needs no files)
        model: name or path of a classifier; vmr-info lists them
        task: classify
    """
    from vmr.eval.classification.load import labelled_for

    check_outputs(outputs)
    options = _options(scoring, decode)
    load = labelled_for(  # a misspelt name is reported before torch is imported
        dataset,
        data_dir=data.data_dir,
        video_dir=data.video_dir,
        classes=data.classes,
        overlap_classes=data.overlap_classes,
        split=data.split,
        format=data.format,
    )

    import torch

    from vmr.eval.classification.runner import evaluate_classifier
    from vmr.eval.classification.task import load_classifier
    from vmr.processes import joined
    from vmr.retrieval.feature_cache import FeatureCache

    with joined(torch.device("cpu"), WAIT_AT_MOST) as processes:
        classifier = load_classifier(
            model, num_frames=scoring.num_frames, image_size=scoring.image_size, progress=processes.is_main
        )
        report = evaluate_classifier(
            load(classifier.target),
            classifier,
            options=options,
            cache=None if caching.no_cache else FeatureCache(caching.cache),
            processes=processes,
            progress=True,
        )
    finish(report, print_classification, outputs, processes.is_main)


def _options(scoring: ViewOptions, decode: DecodeOptions) -> ClassifyOptions:
    from vmr.eval.classification.task import ClassifyOptions

    return ClassifyOptions(
        views=scoring.views,
        frames=scoring.frames,
        average=scoring.average,
        join=scoring.join,
        controls=True if scoring.controls else False if scoring.no_controls else None,
        limit=scoring.limit,
        decode=decode,
    )
