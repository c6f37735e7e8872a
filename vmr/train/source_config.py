"""The sources of a training run in its config: one dataclass for each kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeAlias

from jsonargparse import ArgumentError, ArgumentParser

from vmr.data.media import Media
from vmr.data.shapes.split import TRAIN_CLIPS, Difference
from vmr.errors import VmrError
from vmr.parsing import explain, keys_of
from vmr.targets import Target


def require(holds: bool, message: str) -> None:
    """Raise VmrError with the message unless the condition holds."""
    if not holds:
        raise VmrError(message)


def _check_weight(weight: float) -> None:
    require(weight > 0, f"data.sources: weight is {weight}, but must be above 0")


@dataclass(frozen=True, kw_only=True)
class AnnotatedSourceConfig:
    """An annotation file, and a folder of clips.

    Attributes:
        kind: annotations, which is the default.
        path: the annotation file, relative to data.root.
        media: video or image.
        weight: how often a pair is taken from this source rather than another; weights need not sum to 1.
        video_dir: the folder of the clips, relative to data.root; null for the folder of the annotation file.
        format: format of the annotation file; auto finds it from the content. See `vmr.data.annotations.formats`.
        only: a list of the videos to keep, relative to data.root; null for all.
    """

    kind: Literal["annotations"] = "annotations"
    path: str
    media: Media = "video"
    weight: float = 1.0
    video_dir: str | None = None
    format: str = "auto"
    only: str | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class LabelledSourceConfig:
    """Clips with labels: a list, a folder with such lists, or a folder with a subfolder for each class.

    Attributes:
        kind: labelled.
        path: the list or the folder, relative to data.root.
        weight: how often a clip is taken from this source rather than another; weights need not sum to 1.
        video_dir: the folder of the clips, relative to data.root; null for that of the list, or one near it.
        format: format of the list; auto finds it from the content. See `vmr.data.labels.read.FORMATS`.
        classes: a file with the names of the classes in order, relative to data.root; null where the data set has it.
        target: single (one class), multi (several classes) or regression; null to find out.
        split: train, val or test of a folder, with a number where there are several (train1); null where there is one.
    """

    kind: Literal["labelled"] = "labelled"
    path: str
    weight: float = 1.0
    video_dir: str | None = None
    format: str = "auto"
    classes: str | None = None
    target: Target | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class FolderSourceConfig:
    """Every video below a folder, without captions and labels: for masked pre-training.

    Attributes:
        kind: folder.
        path: the folder, relative to data.root.
        weight: how often a clip is taken from this source rather than another; weights need not sum to 1.
    """

    kind: Literal["folder"] = "folder"
    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class TarSourceConfig:
    """WebDataset shards: tar files of clips with their captions or labels.

    Attributes:
        kind: tar.
        path: a folder of shards, or a pattern such as "{0000..0099}.tar"; relative to data.root.
        media: video or image.
        weight: how often a pair is taken from this source rather than another; weights need not sum to 1.
        labels: whether to learn labels instead of captions - .cls files, or "label" in .json files.
        classes: a file with the names of the classes in order, relative to data.root; null to sort those that occur.
        target: single (one class), multi (several classes) or regression; null to find out.
    """

    kind: Literal["tar"] = "tar"
    path: str
    media: Media = "video"
    weight: float = 1.0
    labels: bool = False
    classes: str | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class HubSourceConfig:
    """A data set of the Hugging Face hub, or a folder in one of its formats.

    Attributes:
        kind: hub.
        path: the name of the data set on the hub, or a folder, relative to data.root.
        media: video or image.
        weight: how often a pair is taken from this source rather than another; weights need not sum to 1.
        video_dir: the folder of the clips if rows hold paths, relative to data.root; null for data.root.
        split: split of the data set.
        subset: configuration of a data set that has several.
        revision: a branch, tag or commit; null for the newest.
        video_column: the column of clips: videos, images, bytes or paths.
        caption_column: the column of captions: a text, or a list of texts to choose from.
        label_column: the column of labels, to learn labels instead of captions; null for captions.
        classes: a file with the names of the classes in order, relative to data.root; null where the column names them,
            or to sort those that occur.
        target: single (one class), multi (several classes) or regression; null to find out.
        stream: read the data set while it is downloaded, for a data set that does not fit on the disk.
        shuffle_buffer: how many consecutive rows of such a stream are shuffled together. Clips that are not separate
            files are kept in run.out: those of twice as many rows, and those that are decoded in advance.
    """

    kind: Literal["hub"] = "hub"
    path: str
    media: Media = "video"
    weight: float = 1.0
    video_dir: str | None = None
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    video_column: str = "video"
    caption_column: str = "caption"
    label_column: str | None = None
    classes: str | None = None
    target: Target | None = None
    stream: bool = False
    shuffle_buffer: int = 1000

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        size = self.shuffle_buffer
        require(size >= 1, f"data.sources: shuffle_buffer is {size}, but must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ShapesSourceConfig:
    """The synthetic benchmark: clips of moving shapes, drawn when they are needed.

    Attributes:
        kind: shapes.
        weight: how often a pair is taken from this source rather than another; weights need not sum to 1.
        parts: the kinds of scenes: pairs, order, passage, collision.
        num_clips: clips in an epoch.
        seed: seed of the clips.
        group: this many consecutive clips differ only in `difference`; 1 for no groups.
        difference: motion or shape of the objects, or relation, which needs group: 2 and the part order or collision.
    """

    kind: Literal["shapes"] = "shapes"
    weight: float = 1.0
    parts: tuple[str, ...] = ("pairs",)
    num_clips: int = TRAIN_CLIPS
    seed: int = 0
    group: int = 1
    difference: Difference = "motion"

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class ShapesActionsSourceConfig:
    """The synthetic classes of motion: labelled clips of moving shapes, drawn when they are needed.

    Attributes:
        kind: shapes_actions.
        weight: how often a clip is taken from this source rather than another; weights need not sum to 1.
        num_clips: clips in an epoch.
        seed: seed of the clips.
    """

    kind: Literal["shapes_actions"] = "shapes_actions"
    weight: float = 1.0
    num_clips: int = TRAIN_CLIPS
    seed: int = 0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


SourceConfig: TypeAlias = (
    AnnotatedSourceConfig
    | LabelledSourceConfig
    | FolderSourceConfig
    | TarSourceConfig
    | HubSourceConfig
    | ShapesSourceConfig
    | ShapesActionsSourceConfig
)
"""A source of any kind; the key `kind` names its kind."""

SOURCE_KINDS: dict[str, type[SourceConfig]] = {
    "annotations": AnnotatedSourceConfig,
    "labelled": LabelledSourceConfig,
    "folder": FolderSourceConfig,
    "tar": TarSourceConfig,
    "hub": HubSourceConfig,
    "shapes": ShapesSourceConfig,
    "shapes_actions": ShapesActionsSourceConfig,
}

_OLD_NAMES = {"shuffle_rows": "shuffle_buffer"}
# In older versions all kinds of sources had the same keys, with these defaults, and configs and checkpoints were saved
# with all of them. They are still read: a key that a kind does not have is ignored if it has its default.
_SHARED_DEFAULTS: dict[str, Any] = {
    "path": None,
    "media": "video",
    "video_dir": None,
    "format": "auto",
    "only": None,
    "split": "train",
    "subset": None,
    "revision": None,
    "video_column": "video",
    "caption_column": "caption",
    "stream": False,
    "shuffle_buffer": 1000,
    "parts": ["pairs"],
    "num_clips": 20_000,
    "seed": 0,
    "group": 1,
    "difference": "motion",
}


def read_source(content: Any) -> dict[str, Any]:
    """Check one source of a config before the parser does, whose message would be about every kind.

    Args:
        content: the source, as YAML or JSON types.

    Returns:
        The source with today's names of keys, without keys of other kinds that have their defaults.

    Raises:
        VmrError: the kind is unknown, a key is not one of its kind, a key is missing, or a value is not allowed. The
            message is one line.
    """
    require(
        isinstance(content, Mapping), f"data.sources: {content!r:.60} is no source: expected keys, as in kind: shapes"
    )
    kind = content.get("kind", "annotations")
    require(kind in SOURCE_KINDS, f"data.sources: there is no kind {kind!r:.60}: use one of {', '.join(SOURCE_KINDS)}")
    known, said = _keys_of(kind), {}
    for name, value in content.items():
        key = _OLD_NAMES.get(name, name)
        if key in known:
            said[key] = value
            continue
        plain = list(value) if isinstance(value, tuple) else value
        says_nothing = key in _SHARED_DEFAULTS and plain == _SHARED_DEFAULTS[key]
        require(says_nothing, f"data.sources: kind {kind} has no key {name!r}; its keys are {', '.join(known)}")
    require("path" not in known or said.get("path") is not None, f"data.sources: kind {kind} needs the key 'path'")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SOURCE_KINDS[kind])
    try:
        SOURCE_KINDS[kind](**parser.parse_object(said).as_dict())
    except (ArgumentError, TypeError, ValueError) as error:
        wrong = explain(str(error), keys_of(SOURCE_KINDS[kind]), lambda key: key)
        raise VmrError(f"data.sources: kind {kind}: {wrong}") from None
    return said


def completed_source(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a source in a checkpoint to today's keys.

    Args:
        saved: a `SourceConfig` as JSON types, maybe from an older version of vmr.

    Returns:
        All keys of its kind, with defaults for keys that the older version did not have; and keys that are unknown to
        this version.
    """
    kind = saved.get("kind", "annotations")
    known = _keys_of(kind) if kind in SOURCE_KINDS else []
    renamed = {_OLD_NAMES.get(name, name): value for name, value in saved.items()}
    kept = {name: value for name, value in renamed.items() if name in known or name not in _SHARED_DEFAULTS}
    defaults = {field.name: field.default for field in fields(SOURCE_KINDS[kind])} if known else {}
    filled = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return {**{name: value for name, value in filled.items() if value is not MISSING}, **kept}


def _keys_of(kind: str) -> list[str]:
    return [field.name for field in fields(SOURCE_KINDS[kind])]
