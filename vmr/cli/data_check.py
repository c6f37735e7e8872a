"""`vmr-data check`: is this training set fit to train on?"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse.typing import PositiveFloat, PositiveInt

from vmr.cli.data_protocols import check_protocol
from vmr.cli.output import print_table, printable
from vmr.errors import VmrError

_NO_LIMIT = 1 << 20  # tokens


def check(
    file: str,
    video_dir: str | None = None,
    data_dir: str | None = None,
    report: str | None = None,
    test: str | None = None,
    test_dir: str | None = None,
    kind: str = "auto",
    only: str | None = None,
    max_tokens: PositiveInt = 32,
    num_frames: PositiveInt = 8,
    num_workers: PositiveInt | None = None,
    timeout_s: PositiveFloat = 120.0,
) -> None:
    """Look at every caption and every file of a training set: what is missing, broken, doubled, or in the test set too.

    With the name of a published data set and --data-dir: what of it is there, what is missing, and where to get it.

    The exit status is 2 if training would be spoilt: by videos of the test set, by captions without a word, or because
    more than a quarter of the files are missing or unreadable. Anything else is only listed.

    Args:
        file: the annotation file: JSON list, JSON lines, CSV, or that of a data set (see kind); or a name of vmr-data
            list
        video_dir: folder that the paths in it are relative to; that of the file if not given
        data_dir: with a name, the folder of the data set's videos and annotations, in any layout
        report: JSON file to write, with every finding by name
        test: annotation file of the test set, whose videos must not be in this one
        test_dir: folder that the paths in it are relative to; video_dir if not given
        kind: format of the file: auto, json, json_paragraphs, jsonl, csv, webvid, msrvtt, msvd, vatex, activitynet,
            activitynet_sentences, didemo, didemo_sentences or lsmdc
        only: list of the videos to keep of the file (a split), one a line or the column video_id of a table
        max_tokens: tokens that the model reads of a caption, those at its ends included
        num_frames: frames that training takes of a video
        num_workers: decoding processes; by default one for each CPU, at most 8
        timeout_s: seconds after which a file that delivers nothing is given up
    """
    if data_dir is not None:
        check_protocol(file, data_dir, report)
        return

    from vmr.data.annotations.formats import read_annotations
    from vmr.data.training.doctor import PROBLEMS, diagnose
    from vmr.files import require_folder, require_writable, write_atomically

    folder = Path(file).parent if video_dir is None else Path(video_dir)
    for path in (folder, folder if test_dir is None else Path(test_dir)):
        require_folder(path)
    if report is not None:
        require_writable(report)
    found = diagnose(
        read_annotations(file, kind, only),
        folder,
        _token_counter(),
        max_tokens=max_tokens,
        num_frames=num_frames,
        test=[] if test is None else read_annotations(test),
        test_dir=test_dir,
        num_workers=num_workers,
        timeout_s=timeout_s,
        progress=True,
    )
    about = f"{file}: {found.num_records} rows, {found.num_captions} captions, {found.num_files} files"
    rows = [
        (meaning, str(len(findings)), ", ".join(dict.fromkeys(finding.name for finding in findings[:3])))
        for problem, meaning in PROBLEMS.items()
        if (findings := found.of(problem))
    ]
    print(printable(about if rows else f"{about}: nothing wrong"))
    if rows:
        print_table("", ("found", "count", "such as"), rows)
    if report is not None:
        content = {"file": file, "video_dir": str(folder), "test": test, "max_tokens": max_tokens} | found.as_dict()
        text = json.dumps(content, indent=1) + "\n"
        write_atomically(Path(report), lambda temporary: temporary.write_text(text, encoding="utf-8"))
        print(f"report: {report}")
    if found.spoiled_by:
        raise VmrError(f"{file} is not fit to train on: {'; '.join(found.spoiled_by)}")


def _token_counter() -> Callable[[Sequence[str]], list[int]]:
    """Counts the tokens of captions as our models read them: cleaned, between [CLS] and [SEP]."""
    from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption

    tokenizer = CaptionTokenizer()

    def count_tokens(captions: Sequence[str]) -> list[int]:
        _, mask = tokenizer([clean_caption(caption) for caption in captions], max_length=_NO_LIMIT)
        return [int(count) for count in mask.sum(dim=1)]

    return count_tokens
