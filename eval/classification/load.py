"""Loading a data set with labels for an evaluation: from a name and a folder to items, and the protocol's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmr.checks import check_path
from vmr.data.labels.class_names import read_class_names
from vmr.data.labels.label_set import LabelledItem, LabelSet
from vmr.data.labels.read import read_labels
from vmr.data.shapes.actions import ACTIONS
from vmr.errors import AnnotationError, VmrError
from vmr.eval.classification.protocols.catalogue import FILE, SHAPES_ACTIONS, find_protocol
from vmr.eval.classification.protocols.protocol import ClassificationProtocol
from vmr.eval.classification.videos import action_videos
from vmr.targets import Target


@dataclass(frozen=True)
class LabelledData:
    """A data set, and the rules to score it by.

    Attributes:
        labels: the items and their classes.
        protocol: the rules.
        overlap: names of the classes of the second data set, where the protocol needs one.
    """

    labels: LabelSet
    protocol: ClassificationProtocol
    overlap: tuple[str, ...] | None = None

    @property
    def drawn(self) -> bool:
        """Whether the clips are drawn and need no files."""
        return self.protocol.name == SHAPES_ACTIONS.name

    @property
    def num_classes(self) -> int:
        """How many classes there are, also those that no item has; 1 for a regression."""
        known = self.protocol.num_classes if self.labels.classes is None else None
        return known or self.labels.num_outputs


def load_labelled(
    dataset: str | Path,
    *,
    data_dir: str | Path | None = None,
    video_dir: str | Path | None = None,
    classes: str | Path | None = None,
    overlap_classes: str | Path | None = None,
    split: str | None = None,
    format: str = "auto",
    assumed: Target | None = None,
) -> LabelledData:
    """Load a data set with labels. No video is opened.

    Args:
        dataset: the name of a protocol, a protocol file of one's own (.yaml), or a list of labels or a folder with a
            subfolder for each class.
        data_dir: with a protocol, the folder of its list and its videos.
        video_dir: the folder that the paths of the list are relative to; default, the folder of the list.
        classes: a file with the names of the data set's classes; default, those that it comes with.
        overlap_classes: with a protocol of overlapping classes, a file with the names of the other set's classes;
            default, the file `NAME_classes.txt` in `data_dir`.
        split: with a folder of one's own: train, val or test, or test2 for the second of several.
        format: with a list of one's own, how it is written; see `vmr.data.labels.read.FORMATS`.
        assumed: with a list of one's own, what the classifier predicts; it decides what the list leaves open.

    Raises:
        AnnotationError: there is no such data set, its list is damaged, or no file is there.
        VmrError: a folder or option is missing or of no use, or the classes are more than the protocol has.
    """
    protocol = find_protocol(str(check_path("dataset", dataset)))
    if protocol is SHAPES_ACTIONS:
        _refuse(protocol, "needs no files", locals())
        names = tuple(map(str, ACTIONS))
        items = [LabelledItem(video.name, video.label, video.name) for video in action_videos()]
        return LabelledData(LabelSet(items, names, "single", "video", protocol.name, num_outputs=len(names)), protocol)
    if protocol.overlap is None and overlap_classes is not None:
        raise VmrError(f"{protocol.name} has no overlapping classes: leave out overlap_classes")
    if protocol is FILE:
        if data_dir is not None:
            raise VmrError(f"{dataset} is a list or folder itself: leave out data_dir; video_dir says where videos are")
        place: str | Path = dataset
    else:
        if split is not None or format != "auto":
            raise VmrError(f"{protocol.name} says split and format itself: leave them out, or name the list")
        if data_dir is None:
            raise AnnotationError(f"data set '{protocol.name}' needs data_dir, the folder of its list and its videos")
        place, split, format = data_dir, protocol.split, protocol.format
    target = None if protocol is FILE else protocol.target
    labels = read_labels(
        place, format, video_dir=video_dir, classes=classes, target=target, split=split, assumed=assumed
    )
    if protocol is FILE:
        protocol = _own_protocol(labels)
    else:
        labels = replace(labels, name=protocol.name)
    _check(labels, protocol)
    return LabelledData(labels, protocol, _overlap(protocol, data_dir, overlap_classes))


def labelled_for(dataset: str | Path, **where: Any) -> Callable[[Target], LabelledData]:
    """Load a data set with labels for a classifier that is loaded later; a mistake is found now, as far as it can be.

    Args:
        dataset: as for `load_labelled`.
        where: the other arguments of `load_labelled`, except for `assumed`.

    Returns:
        A function from what the classifier predicts to the data set. It reads a list of one's own only then, since the
        classifier decides what such a list leaves open.

    Raises:
        AnnotationError: as `load_labelled` raises.
        VmrError: likewise.
    """
    if find_protocol(str(check_path("dataset", dataset))) is FILE:
        return lambda target: load_labelled(dataset, **where, assumed=target)
    loaded = load_labelled(dataset, **where)
    return lambda target: loaded


def _own_protocol(labels: LabelSet) -> ClassificationProtocol:
    """The rules for a user's own files, which say themselves what they are."""
    if labels.media == "image":
        return replace(FILE, target=labels.target, media="image", num_segments=1, num_crops=1)
    return replace(FILE, target=labels.target)


def _check(labels: LabelSet, protocol: ClassificationProtocol) -> None:
    if labels.target != protocol.target or labels.media != protocol.media:
        raise AnnotationError(
            f"{labels.name}: {labels.media}s with labels for {labels.target}, but {protocol.title} has "
            f"{protocol.media}s with labels for {protocol.target}"
        )
    if protocol.num_classes is not None and labels.num_outputs > protocol.num_classes:
        raise AnnotationError(
            f"{labels.name}: the list has {labels.num_outputs} classes, but {protocol.title} has "
            f"{protocol.num_classes}: is it the list of another data set?"
        )


def _overlap(
    protocol: ClassificationProtocol, data_dir: str | Path | None, file: str | Path | None
) -> tuple[str, ...] | None:
    if protocol.overlap is None:
        return None
    if file is None:
        assert data_dir is not None
        file = Path(data_dir) / f"{protocol.overlap}_classes.txt"
        if not file.is_file():
            raise AnnotationError(
                f"{file}: no such file: {protocol.name} needs the names of the classes of {protocol.overlap}, one a "
                "line, there or by overlap_classes"
            )
    return read_class_names(file)


def _refuse(protocol: ClassificationProtocol, reason: str, given: dict[str, object]) -> None:
    for name in ("data_dir", "video_dir", "classes", "overlap_classes", "split"):
        if given[name] is not None:
            raise VmrError(f"{protocol.name} {reason}: leave out {name}")
    if given["format"] != "auto":
        raise VmrError(f"{protocol.name} {reason}: leave out format")
