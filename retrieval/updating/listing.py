"""The files that an update was given, and the roots that their paths are relative to."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

from vmr.checks import check_paths
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.discovery.find import find_videos
from vmr.data.media import has_video_suffix
from vmr.errors import VmrError
from vmr.files import require_folder
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.updating.hooks import Hooks


@dataclass(frozen=True)
class Listing:
    """What an update was given. All paths are absolute.

    Attributes:
        files: each video -> its state; None if it is not there or no regular file. Those of folders come sorted.
        folders: the folders that were searched.
        failures: folders that cannot be listed and files that cannot be examined. Nobody knows what is below them.
        other_files: folder that was searched -> kind of files that are no videos -> how many.
        held: files that are still being written, or went while the folders were listed, perhaps to another place. What
            the index says about them stays as it is.
    """

    files: Mapping[str, FileState | None]
    folders: tuple[str, ...] = ()
    failures: tuple[DecodeFailure, ...] = ()
    other_files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    held: frozenset[str] = frozenset()

    def covers(self, file: str) -> bool:
        """Whether a file that is not among `files` is known not to be there."""
        is_hidden = any(is_below(file, failure.path) for failure in self.failures)
        return not is_hidden and file not in self.held and any(is_below(file, folder) for folder in self.folders)


def list_files(
    videos: str | Path | Sequence[str | os.PathLike[str]],
    decode: DecodeOptions = DecodeOptions(),
    hooks: Hooks = Hooks(),
) -> Listing:
    """List the videos that were named, and those in the folders that were named.

    Args:
        videos: a folder or a file, or a list of them. A file counts as a video whatever its name.
        decode: how files with unusual names are examined, see `vmr.find_videos`.
        hooks: tell which files are still being written, and whether there may be no video.

    Raises:
        VmrError: nothing is given, a folder does not exist, cannot be listed or holds no video.
    """
    named = [videos] if isinstance(videos, str | Path) else check_paths(videos)
    if not named:
        raise VmrError("no videos given: name a folder or a list of files")
    files: dict[str, bool] = {}  # whether it was found, and not named
    failures: dict[str, DecodeFailure] = {}
    other_files: dict[str, Mapping[str, int]] = {}
    for one in named:
        place = absolute(one)
        if not Path(place).is_dir() and (os.path.lexists(place) or has_video_suffix(Path(place))):
            files[place] = False
            continue
        require_folder(Path(one))
        found = find_videos(Path(one), decode, may_be_empty=hooks.may_be_empty)
        files |= dict.fromkeys((_below(place, path, one) for path in found), True)
        for failure in found.failures:
            path = _below(place, Path(failure.path), one)
            failures[path] = DecodeFailure(path, failure.reason)
        other_files[place] = found.other_files
    states = {file: FileState.of(file) for file in (*files, *failures)}
    moving = {
        file for file, is_found in files.items() if is_found and states[file] is None and not os.path.lexists(file)
    }
    held = {file for file, state in states.items() if state is not None and hooks.hold(file, state)} | moving
    return Listing(
        files={file: states[file] for file in files if file not in held},
        folders=tuple(other_files),
        failures=tuple(failure for file, failure in failures.items() if file not in held),
        other_files=other_files,
        held=frozenset(held),
    )


class Roots:
    """The folders that the paths of an index are relative to.

    Args:
        known: those of the index.
        listing: folders and files that were named; new roots are added for those that are below no root.
    """

    def __init__(self, known: Iterable[str], listing: Listing) -> None:
        self._roots = list(known)
        for folder in sorted(listing.folders, key=len):
            if not self._above(folder):
                self._roots.append(folder)
        lonely = [str(Path(file).parent) for file in listing.files if not self._above(file)]
        if lonely:
            self._roots.append(commonpath(lonely))

    def place(self, file: str) -> tuple[str, str]:
        """Return the deepest root above a file, and the path of the file relative to it."""
        root = max(self._above(file), key=len)
        return root, file[len(root.rstrip("/")) + 1 :]

    def __contains__(self, folder: str) -> bool:
        """Whether a folder is a root."""
        return folder in self._roots

    def _above(self, file: str) -> list[str]:
        return [root for root in self._roots if is_below(file, root)]


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path without `..` and without two slashes; links stay unless `..` follows one."""
    plain = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps `..`
    if ".." in Path(path).parts and os.path.realpath(path) != os.path.realpath(plain):
        plain = os.path.realpath(path)
    return f"/{plain.lstrip('/')}"  # POSIX allows two slashes at the beginning


def is_below(file: str, folder: str) -> bool:
    """Whether an absolute path is that of a folder, or below it."""
    return file == folder or file.startswith(folder.rstrip("/") + "/")


def _below(place: str, path: Path, folder: str | os.PathLike[str]) -> str:
    """The absolute path of something that was found below a folder as it was typed."""
    relative = path.relative_to(folder)
    return f"{place.rstrip('/')}/{relative}" if relative.parts else place
