"""The data set doctor: it finds videos of a training set that are missing, broken, repeated, or also in the test set.

Every file is decoded once, as in training, in worker processes, so that a hanging or crashing decoder does no harm.
Contents are compared by SHA-256, which is computed only for files of equal size.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.annotations.locator import MediaFolder
from vmr.data.annotations.records import Record
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.video import with_video
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.media import Media
from vmr.data.training.clip_pool import Clip, ClipPool
from vmr.data.training.clips import ClipJob, ClipSpec
from vmr.errors import VideoError
from vmr.files import sha256_of
from vmr.progress import progress_bar

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Counts the tokens of each caption as the model does, including the special tokens at both ends."""

PROBLEMS = {
    "missing": "there is no such file",
    "unreadable": "the file cannot be decoded",
    "damaged": "parts of the file are missing or broken; training takes the rest",
    "too_short": "fewer frames than training takes; the last is repeated",
    "same_content": "the same bytes as another file: training takes them for different videos",
    "same_id": "one id for several files",
    "repeated": "the same caption of the same video again",
    "empty_caption": "a caption without a word",
    "long_caption": "a caption with more tokens than the limit; the rest is cut off",
    "test_id": "a video of the test set, by its id",
    "test_content": "a video of the test set, by its bytes",
    "test_missing": "a video of the test set that is not there: its bytes were not compared",
}
"""The kinds of problems, and what they mean."""

MAX_BAD_SHARE = 0.25
"""The share of missing and unreadable files above which training is spoilt: by default, `TrainLoader` stops there."""

_SPOILING = ("empty_caption", "test_id", "test_content")
_SIZE = 32  # pixels; the size of the frames makes no difference
_CAPTIONS_AT_ONCE = 1024
_JOBS_AHEAD = 64


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of PROBLEMS.
        name: the video, as the annotation file spells it.
        detail: one line.
    """

    kind: str
    name: str
    detail: str


@dataclass
class Diagnosis:
    """What the doctor found.

    Attributes:
        num_records: how many records were looked at.
        num_captions: how many captions.
        num_files: how many files.
        findings: what is wrong.
    """

    num_records: int = 0
    num_captions: int = 0
    num_files: int = 0
    findings: list[Finding] = field(default_factory=list)

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind, a key of PROBLEMS."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def spoiled_by(self) -> list[str]:
        """Why training on this set would be spoilt, one line each; empty if it would not.

        It is spoilt by a video of the test set, by a caption without a word (which teaches nothing, or which the table
        of records refuses), and by more than MAX_BAD_SHARE of the files missing or unreadable, which stops training.
        All other findings cost a little and are for a person to judge.
        """
        reasons = [f"{PROBLEMS[kind]}: {len(self.of(kind))}" for kind in _SPOILING if self.of(kind)]
        num_bad = len(self.of("missing")) + len(self.of("unreadable"))
        if num_bad > MAX_BAD_SHARE * self.num_files:
            reasons.append(f"missing or unreadable: {num_bad} of {self.num_files} files")
        return reasons

    def as_dict(self) -> dict[str, Any]:
        """Return all findings as JSON types, for a report."""
        return {
            "num_records": self.num_records,
            "num_captions": self.num_captions,
            "num_files": self.num_files,
            "spoiled_by": self.spoiled_by,
            "problems": {
                kind: {
                    "meaning": meaning,
                    "count": len(self.of(kind)),
                    "found": [{"name": finding.name, "detail": finding.detail} for finding in self.of(kind)],
                }
                for kind, meaning in PROBLEMS.items()
            },
        }


@dataclass(frozen=True)
class _File:
    """A video or picture of a set."""

    name: str
    id: str
    path: Path
    media: Media


def diagnose(
    records: Iterable[Record],
    video_dir: str | Path,
    count_tokens: CountTokens,
    *,
    max_tokens: int,
    num_frames: int = 8,
    test: Iterable[Record] = (),
    test_dir: str | Path | None = None,
    decode: DecodeOptions = DecodeOptions(),
    progress: bool = False,
) -> Diagnosis:
    """Look at every caption and every file of a training set.

    Args:
        records: the training set. Errors of reading it are raised.
        video_dir: the folder of its files.
        count_tokens: counts tokens as the model does.
        max_tokens: how many tokens of a caption the model reads, including those at its ends.
        num_frames: how many frames of a video training takes.
        test: the test set, whose videos must not be in the training set.
        test_dir: the folder of its files; None for `video_dir`.
        decode: how videos are decoded.
        progress: whether to show a progress bar.
    """
    found = Diagnosis()
    files = _read_records(records, MediaFolder(video_dir), count_tokens, max_tokens, found)
    _look_for_same_ids(files, found)
    present = [file for file in files if file.path.exists()]
    found.findings += [Finding("missing", file.name, str(file.path)) for file in files if not file.path.exists()]
    with progress_bar(progress) as bar:
        checked = _decode_all(present, num_frames, decode)
        found.findings += [
            finding for finding in bar.track(checked, len(present), description="decoding") if finding is not None
        ]
    test_folder = MediaFolder(test_dir or video_dir)
    tested = {file.name: file for file in (_file(record, test_folder) for record in test)}
    found.findings += [
        Finding("test_missing", file.name, str(file.path)) for file in tested.values() if not file.path.is_file()
    ]
    _compare(files, present, list(tested.values()), found)
    return found


def _file(record: Record, video_dir: MediaFolder) -> _File:
    return _File(record.path, record.id, video_dir.locate(record.path, record.media), record.media)


def _read_records(
    records: Iterable[Record], video_dir: MediaFolder, count_tokens: CountTokens, max_tokens: int, found: Diagnosis
) -> list[_File]:
    """The files that records name, once each; what is wrong with captions is added to `found`."""
    files: dict[str, _File] = {}

    def captions() -> Iterator[tuple[str, str]]:
        seen: set[bytes] = set()
        for record in records:
            found.num_records += 1
            if record.path not in files:
                files[record.path] = _file(record, video_dir)
            for caption in record.captions:
                found.num_captions += 1
                what = repr((record.path, record.start_s, record.end_s, caption)).encode()
                key = hashlib.blake2b(what, digest_size=8).digest()
                if key in seen:
                    found.findings.append(Finding("repeated", record.path, caption))
                seen.add(key)
                yield record.path, caption

    (num_empty,) = count_tokens([""])
    all_captions = captions()
    while some := list(islice(all_captions, _CAPTIONS_AT_ONCE)):
        for (name, caption), count in zip(some, count_tokens([caption for _, caption in some]), strict=True):
            if count <= num_empty:
                found.findings.append(Finding("empty_caption", name, repr(caption)))
            elif count > max_tokens:
                found.findings.append(Finding("long_caption", name, f"{count} tokens: {caption}"))
    found.num_files = len(files)
    return list(files.values())


def _look_for_same_ids(files: Sequence[_File], found: Diagnosis) -> None:
    first_of: dict[str, _File] = {}
    for file in files:
        first = first_of.setdefault(file.id, file)
        if first is not file:
            found.findings.append(Finding("same_id", file.name, f"{file.id} is also {first.name}"))


def _decode_all(files: Sequence[_File], num_frames: int, decode: DecodeOptions) -> Iterator[Finding | None]:
    """What is wrong with each file, in order; None for nothing."""
    pool = ClipPool(replace(decode, strict=True))
    try:
        submitted: deque[tuple[_File, Future[Clip]]] = deque()
        rest = iter(files)
        while True:
            for file in islice(rest, _JOBS_AHEAD - len(submitted)):
                still = file.media == "image"
                spec = ClipSpec(1 if still else num_frames, _SIZE, sampling="middle", crop="stretch", flip=False)
                job = ClipJob(str(file.path), spec, seed=(0,), still=still, reader=decode.reader)
                submitted.append((file, pool.submit(job)))
            if not submitted:
                return
            file, future = submitted.popleft()
            yield _judge(file, future.result(), num_frames, decode)
    finally:
        pool.close()


def _judge(file: _File, clip: Clip, num_frames: int, decode: DecodeOptions) -> Finding | None:
    if isinstance(clip, DecodeFailure):
        kind = "damaged" if clip.is_damage and not decode.strict else "unreadable"
        return Finding(kind, file.name, clip.reason)
    # A video with too few frames ends in its last one twice. So does one that stands still: only those are counted.
    if len(clip) < 2 or not np.array_equal(clip[-1], clip[-2]):
        return None
    try:
        num_there = with_video(str(file.path), decode.reader, lambda video: video.num_frames)
    except VideoError as error:
        return Finding("unreadable", file.name, error.reason)
    return Finding("too_short", file.name, f"{num_there} of {num_frames} frames") if num_there < num_frames else None


def _compare(files: Sequence[_File], present: Sequence[_File], test: Sequence[_File], found: Diagnosis) -> None:
    """Find files of the same content, and videos of the test set."""
    test_ids = {file.id: file for file in test}
    for file in files:
        if file.id in test_ids:
            found.findings.append(Finding("test_id", file.name, f"in the test set as {test_ids[file.id].name}"))
    by_size: dict[int, list[tuple[_File, bool]]] = {}
    for file, is_test in [*((file, False) for file in present), *((file, True) for file in test)]:
        if file.path.is_file():
            by_size.setdefault(file.path.stat().st_size, []).append((file, is_test))
    for size, alike in by_size.items():
        if size and len(alike) > 1:
            _compare_contents(alike, found)


def _compare_contents(files: Sequence[tuple[_File, bool]], found: Diagnosis) -> None:
    first_in_train: dict[str, _File] = {}
    digests = [_digest(file.path) for file, _ in files]
    in_test = {digest: file for digest, (file, is_test) in zip(digests, files, strict=True) if is_test and digest}
    for digest, (file, is_test) in zip(digests, files, strict=True):
        if is_test or not digest:
            continue
        first = first_in_train.setdefault(digest, file)
        if first is not file:
            found.findings.append(Finding("same_content", file.name, f"the same bytes as {first.name}"))
        if digest in in_test and in_test[digest].id != file.id:  # otherwise it has been named already, by its id
            found.findings.append(Finding("test_content", file.name, f"in the test set as {in_test[digest].name}"))


def _digest(path: Path) -> str:
    """The SHA-256 of a file; "" if it cannot be read, which decoding has found already."""
    try:
        return sha256_of(path)
    except OSError:
        return ""
