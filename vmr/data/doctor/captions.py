"""A training set with captions: what is wrong with its captions and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from vmr.data.annotations.locator import MediaFolder
from vmr.data.annotations.records import Record
from vmr.data.decoding.options import DecodeOptions
from vmr.data.doctor.files import SetFile, check_files
from vmr.data.doctor.findings import CAPTION_PROBLEMS, Diagnosis, Finding

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Counts the tokens of each caption as the model does, including the special tokens at both ends."""

_CAPTIONS_AT_ONCE = 1024


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

    Returns:
        What was found among `records`, `captions` and `files`.
    """
    reading = _Reading(MediaFolder(video_dir))
    findings = list(_check_captions(reading.captions(records), count_tokens, max_tokens))
    files, test_folder = list(reading.files.values()), MediaFolder(test_dir or video_dir)
    tested = {record.path: _file(record, test_folder) for record in test}
    findings = [*reading.repeated, *findings, *_same_ids(files)]
    findings += check_files(files, list(tested.values()), num_frames=num_frames, decode=decode, progress=progress)
    counts = {"records": reading.num_records, "captions": reading.num_captions, "files": len(files)}
    return Diagnosis(counts, findings, CAPTION_PROBLEMS)


def _file(record: Record, video_dir: MediaFolder) -> SetFile:
    return SetFile(record.path, record.id, video_dir.locate(record.path, record.media), record.media)


class _Reading:
    """Goes through records once, and keeps the files that they name and what is there twice.

    Args:
        video_dir: the folder of the files.
    """

    def __init__(self, video_dir: MediaFolder) -> None:
        self.files: dict[str, SetFile] = {}
        self.repeated: list[Finding] = []
        self.num_records = self.num_captions = 0
        self._video_dir = video_dir

    def captions(self, records: Iterable[Record]) -> Iterator[tuple[str, str]]:
        """All captions, each with the path of its file."""
        seen: set[bytes] = set()
        for record in records:
            self.num_records += 1
            if record.path not in self.files:
                self.files[record.path] = _file(record, self._video_dir)
            for caption in record.captions:
                self.num_captions += 1
                what = repr((record.path, record.start_s, record.end_s, caption)).encode()
                key = hashlib.blake2b(what, digest_size=8).digest()
                if key in seen:
                    self.repeated.append(Finding("repeated", record.path, caption))
                seen.add(key)
                yield record.path, caption


def _check_captions(
    captions: Iterator[tuple[str, str]], count_tokens: CountTokens, max_tokens: int
) -> Iterator[Finding]:
    (num_empty,) = count_tokens([""])
    while some := list(islice(captions, _CAPTIONS_AT_ONCE)):
        for (name, caption), count in zip(some, count_tokens([caption for _, caption in some]), strict=True):
            if count <= num_empty:
                yield Finding("empty_caption", name, repr(caption))
            elif count > max_tokens:
                yield Finding("long_caption", name, f"{count} tokens: {caption}")


def _same_ids(files: Sequence[SetFile]) -> Iterator[Finding]:
    first_of: dict[str, SetFile] = {}
    for file in files:
        first = first_of.setdefault(file.id, file)
        if first is not file:
            yield Finding("same_id", file.name, f"{file.id} is also {first.name}")
