"""A data set with labels: which clip has which label, and what the labels mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmr.data.media import Media
from vmr.errors import AnnotationError
from vmr.targets import Label, Target


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """A video, a part of a video, a picture, or a folder of frames, with its label.

    Attributes:
        path: a file; or a folder of frames that are named `img_00001.jpg` and on.
        label: a class from 0, or what the target of its set asks for.
        id: what the list calls it, with its folders: `P03/cam01/P03_cereals.avi`. Items of one file have one id.
        start_s: where the part begins, in seconds; None for a whole video.
        end_s: where the part ends, in seconds; None for a whole video.
    """

    path: str
    label: Label
    id: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A file of a list that is not there.

    Attributes:
        id: what the list calls it, with its folders.
        label: as that of a `LabelledItem`.
        place: how many items of its set stand before it in the list.
        spans: start and end in seconds of the parts that it would be; () for a whole file.
    """

    id: str
    label: Label
    place: int
    spans: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class LabelSet:
    """Items with labels. Those whose files are not there are left out, and named in `missing`.

    Attributes:
        items: at least one, in the order of the list; of a tree of folders sorted by path.
        classes: names of the classes, by number; None where nothing names them, and for regression.
        target: what a label is.
        media: what the files are; folders of frames are videos.
        name: what messages call the set.
        notes: what the user should know, one line each: what is missing, and where the order of the classes is from.
        num_outputs: C, the numbers that a network must give: classes, also those that no item has; 1 for regression.
        missing: what the list names, but is not there, in its order.

    Raises:
        AnnotationError: there is no item.
    """

    items: Sequence[LabelledItem]
    classes: tuple[str, ...] | None
    target: Target
    media: Media
    name: str
    notes: tuple[str, ...] = ()
    num_outputs: int = 1
    missing: tuple[MissingFile, ...] = ()

    def __post_init__(self) -> None:
        if not self.items:
            raise AnnotationError(f"{self.name}: there are no clips with labels in it")
