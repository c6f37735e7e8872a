"""The files of a training set: which are missing, broken, too short, repeated, or also in the test set.

Every file is decoded once, as in training, in worker processes, so that a hanging or crashing decoder does no harm.
Contents are compared by SHA-256, which is computed only for files of equal size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.video import with_video
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.doctor.findings import Finding
from vmr.data.media import Media
from vmr.data.training.clip_pool import Clip, ClipPool
from vmr.data.training.clips import ClipJob, ClipSpec
from vmr.data.views.frame_folder import FrameFolder
from vmr.errors import VideoError
from vmr.files import sha256_of
from vmr.progress import progress_bar

_SIZE = 32  # pixels; the size of the frames makes no difference
_JOBS_AHEAD = 64


@dataclass(frozen=True)
class SetFile:
    """A video, picture or folder of frames of a set.

    Attributes:
        name: as the file of the set spells it.
        id: what tells it from other videos: those of one id are one video.
        path: where it is.
        media: what it is.
        label: what it shows, in words; "" in a set without labels.
    """

    name: str
    id: str
    path: Path
    media: Media
    label: str = ""


def check_files(
    files: Sequence[SetFile],
    test: Sequence[SetFile],
    *,
    num_frames: int,
    decode: DecodeOptions,
    progress: bool,
) -> list[Finding]:
    """Look at every file of a training set, and look for it in the test set.

    Args:
        files: of the training set, each once.
        test: of the test set, each once.
        num_frames: how many frames of a video training takes.
        decode: how videos are decoded.
        progress: whether to show a progress bar.
    """
    present = [file for file in files if file.path.exists()]
    found = [Finding("missing", file.name, str(file.path)) for file in files if not file.path.exists()]
    with progress_bar(progress) as bar:
        checked = bar.track(_decode_all(present, num_frames, decode), len(present), description="decoding")
        found += [finding for finding in checked if finding is not None]
    found += [Finding("test_missing", file.name, str(file.path)) for file in test if not file.path.exists()]
    test_ids = {file.id: file for file in test}
    found += [
        Finding("test_id", file.name, f"in the test set as {test_ids[file.id].name}")
        for file in files
        if file.id in test_ids
    ]
    return found + list(_compare_contents(present, test))


def _decode_all(files: Sequence[SetFile], num_frames: int, decode: DecodeOptions) -> Iterator[Finding | None]:
    """What is wrong with each file, in order; None for nothing."""
    pool = ClipPool(replace(decode, strict=True))
    try:
        submitted: deque[tuple[SetFile, Future[Clip]]] = deque()
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


def _judge(file: SetFile, clip: Clip, num_frames: int, decode: DecodeOptions) -> Finding | None:
    if isinstance(clip, DecodeFailure):
        kind = "damaged" if clip.is_damage and not decode.strict else "unreadable"
        return Finding(kind, file.name, clip.reason)
    # A video with too few frames ends in its last one twice. So does one that stands still: only those are counted.
    if len(clip) < 2 or not np.array_equal(clip[-1], clip[-2]):
        return None
    try:
        num_there = _count_frames(file.path, decode)
    except VideoError as error:
        return Finding("unreadable", file.name, error.reason)
    return Finding("too_short", file.name, f"{num_there} of {num_frames} frames") if num_there < num_frames else None


def _count_frames(path: Path, decode: DecodeOptions) -> int:
    if path.is_dir():
        return FrameFolder(path).num_frames
    return with_video(str(path), decode.reader, lambda video: video.num_frames)


def _compare_contents(files: Sequence[SetFile], test: Sequence[SetFile]) -> Iterator[Finding]:
    """Find files of the same bytes. Folders of frames are not compared."""
    by_size: dict[int, list[tuple[SetFile, bool]]] = {}
    for file, is_test in [*((file, False) for file in files), *((file, True) for file in test)]:
        if file.path.is_file():
            by_size.setdefault(file.path.stat().st_size, []).append((file, is_test))
    for size, alike in by_size.items():
        if size and len(alike) > 1:
            yield from _compare_alike(alike)


def _compare_alike(files: Sequence[tuple[SetFile, bool]]) -> Iterator[Finding]:
    first_in_train: dict[str, SetFile] = {}
    digests = [_digest(file.path) for file, _ in files]
    in_test = {digest: file for digest, (file, is_test) in zip(digests, files, strict=True) if is_test and digest}
    for digest, (file, is_test) in zip(digests, files, strict=True):
        if is_test or not digest:
            continue
        first = first_in_train.setdefault(digest, file)
        if first.label != file.label:
            yield Finding("other_label", file.name, f"{file.label}, but {first.name} is {first.label}")
        elif first is not file:
            yield Finding("same_content", file.name, f"the same bytes as {first.name}")
        if digest in in_test and in_test[digest].id != file.id:  # otherwise it has been named already, by its id
            yield Finding("test_content", file.name, f"in the test set as {in_test[digest].name}")


def _digest(path: Path) -> str:
    """The SHA-256 of a file; "" if it cannot be read, which decoding has found already."""
    try:
        return sha256_of(path)
    except OSError:
        return ""
