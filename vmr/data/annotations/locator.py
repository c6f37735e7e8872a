"""Finding the files of a data set: the video that a path or an id means, in any layout of folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vmr.data.media import SUFFIXES, Media
from vmr.errors import AnnotationError, VmrError
from vmr.files import require_folder, walk_files

MAX_DEPTH = 3
"""Levels of folders that `DataFolder` goes down: enough for `LSMDC_Videos/avi/FILM/clip.avi`."""

# Some videos of DiDeMo were uploaded with unusual suffixes.
_PUBLISHED_SUFFIXES: dict[Media, tuple[str, ...]] = {
    "video": (*SUFFIXES["video"], ".3gp", ".3g2", ".mts"),
    "image": SUFFIXES["image"],
}


def locate(root: str | Path, path: str, media: Media) -> Path:
    """Return the file that the path of a record means, whether or not it exists.

    A path with a suffix of its media is returned without a check on the disk, so that training does not check a million
    files before it starts.

    Args:
        root: the folder that `path` is relative to.
        path: relative or absolute; it may lack its suffix.
        media: what the file is.

    Returns:
        The file that `find_file` finds, otherwise `path` below `root`.
    """
    named = Path(root, path)
    if named.suffix.lower() in SUFFIXES[media]:
        return named
    return find_file(root, path, media) or named


def find_file(root: str | Path, path: str, media: Media) -> Path | None:
    """Return the file that the path of a record means, or None if there is none.

    A path that leads to no file and has no suffix of its media is tried with the usual suffixes. Some names of DiDeMo
    end in a dot, because they lost their suffix: they are tried without the dot as well.

    Args:
        root: the folder that `path` is relative to.
        path: relative or absolute; it may lack its suffix.
        media: what the file is.
    """
    named = Path(root, path)
    if named.is_file():
        return named
    if named.suffix.lower() in SUFFIXES[media]:
        return None
    # Not with_suffix: ids such as "clip.12_30" contain dots that start no suffix.
    stems = dict.fromkeys((named.name.rstrip("."), named.name))
    guesses = (named.with_name(stem + suffix) for stem in stems for suffix in SUFFIXES[media])
    return next((guess for guess in guesses if guess.is_file()), None)


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
    known = {*_PUBLISHED_SUFFIXES["video"], *_PUBLISHED_SUFFIXES["image"]}
    while (path := PurePosixPath(base)).suffix.lower() in known:
        base = path.stem
    return base.rstrip(".") or base


class DataFolder:
    """The files in a folder and up to MAX_DEPTH levels below it, as they are when this object is made.

    Attributes:
        path: the folder.

    Raises:
        AnnotationError: there is no such folder, or it cannot be listed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            require_folder(self.path)
            files = [file.relative_to(self.path) for file in walk_files(self.path, MAX_DEPTH)]
        except VmrError as error:
            raise AnnotationError(str(error)) from None
        self._nearest_first = sorted(files, key=lambda file: (len(file.parts), file))

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
            if file.suffix.lower() in _PUBLISHED_SUFFIXES[media]:
                self._of_id[media_id(file.name)].append(file)

    def find(self, name: str) -> Path | None:
        """Return the file that an annotation means, by its name with or without folders and suffix; None for none."""
        base = PurePosixPath(name).name
        files = self._of_id.get(media_id(name), [])
        best = min(files, key=lambda file: (_is_copy(file), file.name != base), default=None)
        return None if best is None else self._folder / best


def _is_copy(file: Path) -> bool:
    return any(part.startswith("compress") for part in file.parts[:-1])
