"""Reading of a data set with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmr.data.labels.label_set import LabelSet
from vmr.targets import Target


def read_labels(
    place: str | Path,
    format: str = "auto",
    *,
    video_dir: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    target: Target | None = None,
    split: str | None = None,
) -> LabelSet:
    """Read a list of labels, or a folder that holds such lists, or a folder with a subfolder for each class.

    Args:
        place: the file or the folder.
        format: one of FORMATS; "auto" finds it from the content.
        video_dir: the folder that paths of the list are relative to; None for the folder of the list.
        classes: names of the classes by number, or a file with them: a name a line, `number name`, `name,number`, or
            JSON. None to take them from the data set, where it names them.
        target: what a label is; None to find out: one class, unless the list says something else.
        split: "train", "val" or "test": which list or subfolder of a folder; None where there is only one.

    Returns:
        The items, with what their labels mean.

    Raises:
        AnnotationError: the list does not follow its format, a label is none of the classes, no file is there, ... The
            message is one line that names file and line, and says what to do.
    """
    raise NotImplementedError
