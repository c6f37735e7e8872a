"""Finding all videos below a folder, and counting everything else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from vmr.checks import check_path
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.discovery.contents import describe_others, kind_of_other, suffix_kind
from vmr.data.discovery.probe import are_videos
from vmr.data.media import has_video_suffix
from vmr.errors import VmrError
from vmr.files import walk_files


class FoundVideos(list[Path]):
    """The videos of a folder: a list of paths. It also says what else is in the folder.

    Everything in the folder is in the list, in `failures` or in `other_files`, each once.

    Attributes:
        failures: folders that cannot be listed and files that cannot be examined, with the reason.
        other_files: kind -> how many files of this kind are no videos, the most frequent first. A kind is a suffix in
            lower case, "no suffix", "hidden" (a hidden folder counts as one), or "fifo", "socket" or "device".
    """

    def __init__(
        self,
        videos: Iterable[str | os.PathLike[str]],
        failures: Iterable[DecodeFailure] = (),
        other_files: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(map(Path, videos))
        self.failures = tuple(sorted(failures, key=lambda failure: failure.path))
        counts = (other_files or {}).items()
        self.other_files = dict(sorted(counts, key=lambda kind_count: (-kind_count[1], kind_count[0])))


def find_videos(folder: str | Path, decode: DecodeOptions = DecodeOptions()) -> FoundVideos:
    """List every video in a folder and below, sorted by path.

    A file with a usual suffix, such as .mp4 or .MTS, counts as a video without being opened. Of every other file the
    first bytes are read; if they are not those of a text, a picture or another well-known kind, FFmpeg decides, in a
    worker process. Hidden files and folders, and downloads that are not finished (.part, .crdownload, .tmp, ...), are
    skipped. Linked folders are followed, but no folder is searched twice. A folder that cannot be listed is a failure.

    Args:
        folder: the folder to search.
        decode: the number of worker processes, and how long FFmpeg may take for a file.

    Returns:
        Paths that start with `folder` as it was given.

    Raises:
        VmrError: `folder` is not a readable folder, or there is no video in it.
    """
    check_path("folder", folder)
    videos: list[Path] = []
    unclear: list[Path] = []
    failures: list[DecodeFailure] = []
    others: Counter[str] = Counter()

    def pass_over(path: Path, error: OSError | None) -> None:
        if error is None:
            others["hidden"] += 1
        else:
            failures.append(DecodeFailure(str(path), f"cannot list this folder: {error.strerror}"))

    for path in walk_files(folder, pass_over=pass_over):
        if has_video_suffix(path):
            videos.append(path)
            continue
        try:
            kind = kind_of_other(path)
        except OSError as error:
            failures.append(DecodeFailure(str(path), f"cannot be read: {error.strerror}"))
            continue
        if kind is None:
            unclear.append(path)
        else:
            others[kind] += 1
    for path, answer in zip(unclear, are_videos(unclear, decode), strict=True):
        if isinstance(answer, DecodeFailure):
            failures.append(answer)
        elif answer:
            videos.append(path)
        else:
            others[suffix_kind(path)] += 1
    found = FoundVideos(sorted(videos), failures, others)
    if not found:
        raise VmrError("; ".join(_nothing(folder, found)))
    return found


def _nothing(folder: str | Path, found: FoundVideos) -> list[str]:
    """Why there is no video in a folder, in parts of a sentence."""
    parts = [f"{folder}: no video in this folder or below it"]
    if found.failures:
        first = found.failures[0]
        parts.append(f"{len(found.failures)} cannot be examined, first: {first.path}: {first.reason}")
    return [*parts, *filter(None, [describe_others(found.other_files)])]
