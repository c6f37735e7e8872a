"""Finding all videos below folders, and counting everything else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """The videos of one or more folders: a list of paths. It also says what else is in the folders.

    Everything in the folders is in the list, in `failures` or in `other_files`, each once.

    Attributes:
        failures: folders that cannot be listed and files that cannot be examined, with the reason.
        unlisted: those of the failures that are folders. Nobody knows which videos are below them.
        other_files: kind -> how many files of this kind are no videos, the most frequent first. A kind is a suffix in
            lower case, "no suffix", "hidden" (a hidden folder counts as one), or "fifo", "socket" or "device".
    """

    def __init__(
        self,
        videos: Iterable[str | os.PathLike[str]],
        failures: Iterable[DecodeFailure] = (),
        other_files: Mapping[str, int] | None = None,
        unlisted: Iterable[Path] = (),
    ) -> None:
        super().__init__(map(Path, videos))
        self.unlisted = tuple(sorted(unlisted))
        self.failures = tuple(sorted(failures, key=lambda failure: failure.path))
        counts = (other_files or {}).items()
        self.other_files = dict(sorted(counts, key=lambda kind_count: (-kind_count[1], kind_count[0])))


def find_videos(
    folder: str | Path | Sequence[str | Path],
    decode: DecodeOptions = DecodeOptions(),
    *,
    may_be_empty: bool = False,
) -> FoundVideos:
    """List every video in a folder and below, sorted by path.

    A file with a usual suffix, such as .mp4 or .MTS, counts as a video without being opened. Of every other file the
    first bytes are read; if they are not those of a text, a picture or another well-known kind, FFmpeg decides, in a
    worker process. Hidden files and folders, and downloads that are not finished (.part, .crdownload, .tmp, ...), are
    skipped. Linked folders are followed, but no folder is searched twice. A folder that cannot be listed is a failure.

    Args:
        folder: the folder to search, or several. A file that is below two of them is found once.
        decode: the number of worker processes, and how long FFmpeg may take for a file.
        may_be_empty: return an empty list if there is no video.

    Returns:
        Paths that start with a folder as it was given.

    Raises:
        VmrError: `folder` is not a readable folder, or there is no video in it or in any of them.
    """
    folders: list[str | Path] = list(folder) if isinstance(folder, list | tuple) else [folder]  # type: ignore[list-item]
    if not folders:
        raise VmrError("no folder given: name at least one to search")
    found = _Search(decode)
    for one in folders:
        check_path("folder", one)
        found.walk(one)
    videos = found.result()
    if not videos and not may_be_empty:
        raise VmrError("; ".join(_nothing(", ".join(map(str, folders)), videos)))
    return videos


class _Search:
    """What was found so far below folders."""

    def __init__(self, decode: DecodeOptions) -> None:
        self._decode = decode
        self._seen: set[str] = set()
        self._videos: list[Path] = []
        self._unclear: list[Path] = []
        self._failures: list[DecodeFailure] = []
        self._unlisted: list[Path] = []
        self._others: Counter[str] = Counter()

    def walk(self, folder: str | Path) -> None:
        """Search a folder."""
        for path in walk_files(folder, pass_over=self._pass_over):
            if self._is_new(path):
                self._look_at(path)

    def result(self) -> FoundVideos:
        """Ask FFmpeg about the files that nothing else decides, and return what was found."""
        for path, answer in zip(self._unclear, are_videos(self._unclear, self._decode), strict=True):
            if isinstance(answer, DecodeFailure):
                self._failures.append(answer)
            elif answer:
                self._videos.append(path)
            else:
                self._others[suffix_kind(path)] += 1
        return FoundVideos(sorted(self._videos), self._failures, self._others, self._unlisted)

    def _is_new(self, path: Path) -> bool:
        place = os.path.normpath(path.absolute())
        is_new = place not in self._seen
        self._seen.add(place)
        return is_new

    def _pass_over(self, path: Path, error: OSError | None) -> None:
        if not self._is_new(path):
            return
        if error is None:
            self._others["hidden"] += 1
        else:
            self._unlisted.append(path)
            self._failures.append(DecodeFailure(str(path), f"cannot list this folder: {error.strerror}"))

    def _look_at(self, path: Path) -> None:
        if has_video_suffix(path):
            self._videos.append(path)
            return
        try:
            kind = kind_of_other(path)
        except OSError as error:
            self._failures.append(DecodeFailure(str(path), f"cannot be read: {error.strerror}"))
            return
        if kind is None:
            self._unclear.append(path)
        else:
            self._others[kind] += 1


def _nothing(folder: str, found: FoundVideos) -> list[str]:
    """Why there is no video in a folder, in parts of a sentence."""
    parts = [f"{folder}: no video in this folder or below it"]
    if found.failures:
        first = found.failures[0]
        parts.append(f"{len(found.failures)} cannot be examined, first: {first.path}: {first.reason}")
    return [*parts, *filter(None, [describe_others(found.other_files)])]
