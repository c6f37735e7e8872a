"""`vmr-data check`: is this training set fit to train on?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

from vmr.cli.common import refuse
from vmr.cli.data_findings import finish_check
from vmr.cli.data_protocols import check_protocol
from vmr.data.decoding.options import DecodeOptions

if TYPE_CHECKING:
    from vmr.data.doctor.findings import Diagnosis

_NO_LIMIT = 1 << 20  # tokens


@dataclass(frozen=True)
class FileOptions:
    """Which files hold the training set and the test set.

    Attributes:
        video_dir: folder that the paths in the file are relative to; default, the folder of the file
        data_dir: with a name, the folder of the data set's videos and annotations, in any layout
        report: JSON file to write, with every finding by name
        test: annotation file of the test set, whose videos must not be in this one
        test_dir: folder that the paths in the test file are relative to; default, video_dir
        kind: format of the file: auto, json, json_paragraphs, jsonl, csv, webvid, msrvtt, msvd, vatex, activitynet,
            activitynet_sentences, didemo, didemo_sentences or lsmdc
        only: list of the videos to keep (a split), one per line or in the column video_id of a table
    """

    video_dir: str | None = None
    data_dir: str | None = None
    report: str | None = None
    test: str | None = None
    test_dir: str | None = None
    kind: str = "auto"
    only: str | None = None

    def folder(self, file: str) -> Path:
        """Return the folder that the paths in an annotation file are relative to."""
        return Path(file).parent if self.video_dir is None else Path(self.video_dir)


@dataclass(frozen=True)
class CheckOptions:
    """Which part of the captions and videos is checked.

    Attributes:
        max_tokens: tokens that the model reads of a caption, including the special tokens at both ends
        num_frames: frames that training takes of a video
    """

    max_tokens: PositiveInt = 32
    num_frames: PositiveInt = 8


def check(file: str, *, files: FileOptions, checks: CheckOptions, decode: DecodeOptions) -> None:
    """Check every caption and file of a training set: list what is missing, broken, doubled, or also in the test set.

    With the name of a published data set and --data-dir: list which of its files are found and which are missing, and
    where to get them.

    The exit status is 2 if the set is not fit for training: if it contains videos of the test set or captions without a
    word, or if more than a quarter of the files are missing or unreadable. Other findings are only listed.

    Args:
        file: the annotation file: JSON list, JSON lines, CSV, or that of a data set (see kind); or a name of vmr-data
            list
    """
    if files.data_dir is not None:
        reason = "is for an annotation file, but --data-dir names the folder of a published data set: leave out one"
        refuse(files, reason, ("video_dir", "test", "test_dir", "kind", "only"))
        for group in (checks, decode):
            refuse(group, reason)
        check_protocol(file, files.data_dir, files.report)
        return

    if files.test is None:
        refuse(files, "needs --test: give both, or none", ("test_dir",))

    from vmr.files import require_folder, require_writable

    for path in (files.folder(file), files.folder(file) if files.test_dir is None else Path(files.test_dir)):
        require_folder(path)
    if files.report is not None:
        require_writable(files.report)
    found = _diagnose(file, files, checks, decode)
    about = {"file": file, "video_dir": str(files.folder(file)), "test": files.test, "max_tokens": checks.max_tokens}
    finish_check(file, found, files.report, about)


def _diagnose(file: str, files: FileOptions, checks: CheckOptions, decode: DecodeOptions) -> "Diagnosis":
    from vmr.data.annotations.formats import read_annotations
    from vmr.data.doctor.captions import diagnose

    return diagnose(
        read_annotations(file, files.kind, files.only),
        files.folder(file),
        _token_counter(),
        max_tokens=checks.max_tokens,
        num_frames=checks.num_frames,
        test=[] if files.test is None else read_annotations(files.test),
        test_dir=files.test_dir,
        decode=decode,
        progress=True,
    )


def _token_counter() -> Callable[[Sequence[str]], list[int]]:
    """Counts the tokens of captions as our models read them: cleaned, between [CLS] and [SEP]."""
    from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption

    tokenizer = CaptionTokenizer()

    def count_tokens(captions: Sequence[str]) -> list[int]:
        _, mask = tokenizer([clean_caption(caption) for caption in captions], max_length=_NO_LIMIT)
        return [int(count) for count in mask.sum(dim=1)]

    return count_tokens
