"""`vmr-data check-labels`: is this training set of a classifier fit to train on?"""

from dataclasses import dataclass
from pathlib import Path

from jsonargparse.typing import PositiveInt

from vmr.cli.common import refuse
from vmr.cli.data_findings import finish_check
from vmr.data.decoding.options import DecodeOptions
from vmr.progress import printable
from vmr.targets import Target


@dataclass(frozen=True)
class LabelOptions:
    """Which files hold the training set and the test set.

    Attributes:
        video_dir: folder that the paths in the list are relative to; default, the folder of the list
        split: which list or subfolder of a folder, such as train, or train2 for the second of several
        format: how the list is written, such as comma, space or table
        classes: a file with the names of the classes, one a line; default, those that the set comes with
        target: what a label is: single (one class), multi (several) or regression (a number); default, what it looks
            like
        report: JSON file to write, with every finding by name
        test: list or folder of the test set, whose videos must not be in this one
        test_dir: folder that the paths in the test list are relative to; default, the folder of that list
        test_split: as split, of the test set
    """

    video_dir: str | None = None
    split: str | None = None
    format: str = "auto"
    classes: str | None = None
    target: Target | None = None
    report: str | None = None
    test: str | None = None
    test_dir: str | None = None
    test_split: str | None = None


def check_labels(place: str, num_frames: PositiveInt = 8, *, labels: LabelOptions, decode: DecodeOptions) -> None:
    """Check every class and file of a training set with labels: what is missing, broken, doubled, or in the test set.

    The exit status is 2 if the set is not fit for training: if it contains videos of the test set, or if more than a
    quarter of the files are missing or unreadable. Other findings are only listed.

    Args:
        place: a list of labels, a folder that holds such a list, or a folder with a subfolder for each class
        num_frames: frames that training takes of a video
    """
    if labels.test is None:
        refuse(labels, "needs --test: give both, or leave it out", ("test_dir", "test_split"))

    from vmr.data.doctor.labels import diagnose_labels
    from vmr.data.labels.read import read_labels
    from vmr.files import require_writable

    if labels.report is not None:
        require_writable(labels.report)
    train = read_labels(
        place,
        labels.format,
        video_dir=labels.video_dir,
        classes=labels.classes,
        target=labels.target,
        split=labels.split,
    )
    test = None
    if labels.test is not None:
        test = read_labels(
            labels.test,
            video_dir=labels.test_dir,
            classes=labels.classes,
            target=labels.target,
            split=labels.test_split,
            assumed=train.target,
        )
    for note in (*train.notes, *(() if test is None else test.notes)):
        print(printable(f"noticed: {note}"))
    found = diagnose_labels(train, num_frames=num_frames, test=test, decode=decode, progress=True)
    about = {"place": str(Path(place)), "split": labels.split, "test": labels.test, "test_split": labels.test_split}
    finish_check(place, found, labels.report, about)
