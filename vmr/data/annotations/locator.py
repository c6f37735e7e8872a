"""Finding the files of a data set: the video that a path or an id means, in any layout of folders."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vmr.data.media import IMAGE_SUFFIXES, SUFFIXES, VIDEO_SUFFIXES, Media, special_kind
from vmr.errors import AnnotationError, VmrError
from vmr.files import require_folder, walk_files

MAX_DEPTH = 3
"""Levels of folders that `DataFolder` goes down: enough for `LSMDC_Videos/avi/FILM/clip.avi`."""

_ALL_SUFFIXES = frozenset(VIDEO_SUFFIXES + IMAGE_SUFFIXES)
_FRESH_NS = 2_000_000_000  # a folder changed so recently may change again within the resolution of its time of change


class MediaFolder:
    """The folder that the paths and ids of an annotation file are relative to.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._listed: dict[Path, tuple[int, dict[str, str]]] = {}  # folder -> when it changed, the files in it

    def locate(self, path: str, media: Media) -> Path:
        """Return the file that the path of a record means: the one that `find` finds, otherwise `path` as it is."""
        return self.find(path, media) or Path(self._path, path)

    def find(self, path: str, media: Media) -> Path | None:
        """Return the file that the path of a record means, or None if there is none.

        A path that leads to no file is tried with another case of its suffix: a.mp4 may be a.MP4. If it has no suffix
        of its media, it is tried with all of them, the most usual first. Some names of DiDeMo end in a dot, because
        they lost their suffix: they are tried without the dot as well.

        Args:
            path: relative to the folder, or absolute; it may lack its suffix.
            media: what the file is.

        Returns:
            A file, or a fifo or the like, which decoding refuses by name.
        """
        named = Path(self._path, path)
        if special_kind(named) != "folder" and named.exists():
            return named
        # Not with_suffix: ids such as "clip.12_30" contain dots that start no suffix.
        guesses = [_same_case(named.name)]
        if named.suffix.lower() not in SUFFIXES[media]:
            stems = dict.fromkeys((named.name.rstrip("."), named.name))
            guesses = [stem + suffix for stem in stems for suffix in SUFFIXES[media]]
        files = self._files(named.parent)
        there = (named.with_name(files[guess]) for guess in guesses if guess in files)
        return next((file for file in there if special_kind(file) != "folder"), None)

    def _files(self, folder: Path) -> dict[str, str]:
        """The media files in a folder: name with its suffix in lower case -> name. It is listed again if it changed."""
        try:
            changed = folder.stat().st_mtime_ns
            known = self._listed.get(folder)
            if known is not None and known[0] == changed:
                return known[1]
            # a.mp4 is sorted after a.MP4, so it is the one that is kept.
            files = {_same_case(file.name): file.name for file in sorted(folder.iterdir()) if _has_suffix(file.name)}
        except OSError:
            return {}
        if time.time_ns() - changed > _FRESH_NS:
            self._listed[folder] = changed, files
        return files


def _has_suffix(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in _ALL_SUFFIXES


def _same_case(name: str) -> str:
    """A name with its suffix in lower case."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) + suffix.lower()


def require_data_folder(folder: str | Path) -> None:
    """Raise AnnotationError unless `folder` is an existing folder."""
    try:
        require_folder(folder)
    except VmrError as error:
        raise AnnotationError(str(error)) from None


def media_id(name: str) -> str:
    """Reduce the name of a file to the id that data sets give it.

    "all/video9770.mp4" and "video9770" become "video9770". "a.3gp.mp4", a copy in another container, becomes "a", and
    so does DiDeMo's "a.", which lost its suffix. `vmr.data.annotations.records.id_of` is stricter: it removes one
    suffix, and only a usual one.
    """
    base = PurePosixPath(name).name
    while (path := PurePosixPath(base)).suffix.lower() in _ALL_SUFFIXES:
        base = path.stem
    return base.rstrip(".") or base


class DataFolder:
    """The files in a folder and up to MAX_DEPTH levels below it, as they are when this object is made.

    Attributes:
        path: the folder.
        unlistable: the folders below it that cannot be listed, each with the reason.

    Raises:
        AnnotationError: there is no such folder, or it cannot be listed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.unlistable: list[str] = []
        try:
            require_folder(self.path)
            files = [file.relative_to(self.path) for file in walk_files(self.path, MAX_DEPTH, self._pass_over)]
        except VmrError as error:
            raise AnnotationError(str(error)) from None
        self._nearest_first = sorted(files, key=lambda file: (len(file.parts), file))

    def _pass_over(self, path: Path, error: OSError | None) -> None:
        if error is not None:
            self.unlistable.append(f"{path}: cannot list this folder: {error.strerror}")

    def require_all_listed(self) -> None:
        """Raise AnnotationError if a folder cannot be listed; what is missing may be in it."""
        if self.unlistable:
            raise AnnotationError(self.unlistable[0])

    def find(self, names: Sequence[str], beside: Path | None = None) -> Path | None:
        """Return a file with one of several names; None where there is none.

        Args:
            names: the names, the preferred one first.
            beside: if several files have these names, a file in the folder of `beside` is preferred, then the file in
                the nearest folder.
        """
        found = [self.path / file for name in names for file in self._nearest_first if file.name == name]
        together = (file for file in found if beside is not None and file.parent == beside.parent)
        return next(together, found[0] if found else None)

    def media_files(self, media: Media) -> MediaFiles:
        """Return the videos, or the pictures, of this folder."""
        return MediaFiles(self.path, self._nearest_first, media)


class MediaFiles:
    """The videos (or pictures) of a folder, found by the names and ids that data sets give them.

    Several files may have one id. A re-encoded copy (in a folder named compress...) is taken only if there is no other
    file. Then the file with exactly the name that is asked for is preferred (DiDeMo has a.mov and a.mp4 side by side),
    then the one in the nearest folder.

    Args:
        folder: the folder.
        files: relative to the folder, the nearest first.
        media: which of the files count.
    """

    def __init__(self, folder: Path, files: Sequence[Path], media: Media) -> None:
        self._folder = folder
        self._of_id: dict[str, list[Path]] = defaultdict(list)
        for file in files:
            if file.suffix.lower() in SUFFIXES[media]:
                self._of_id[media_id(file.name)].append(file)

    def find(self, name: str) -> Path | None:
        """Return the file that an annotation means, by its name with or without folders and suffix; None for none."""
        base = PurePosixPath(name).name
        files = self._of_id.get(media_id(name), [])
        best = min(files, key=lambda file: (_is_copy(file), file.name != base), default=None)
        return None if best is None else self._folder / best


def _is_copy(file: Path) -> bool:
    return any(part.startswith("compress") for part in file.parts[:-1])
