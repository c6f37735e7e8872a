"""Finding the files of a data set in whatever folders they were unpacked to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vmr.data.annotations.records import Media
from vmr.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vmr.errors import AnnotationError, VmrError
from vmr.eval.protocols.protocol import Protocol, Source
from vmr.files import require_folder, walk_files

MAX_DEPTH = 3
"""Levels of folders below the one that is named: enough for `LSMDC_Videos/avi/FILM/clip.avi`."""

_SUFFIXES: dict[Media, tuple[str, ...]] = {
    "video": (*VIDEO_SUFFIXES, ".3gp", ".3g2", ".mts"),  # what else DiDeMo's videos were uploaded as
    "image": IMAGE_SUFFIXES,
}


class DataFolder:
    """The files in a folder and up to MAX_DEPTH levels below it, as they are when it is made.

    Raises AnnotationError when there is no such folder or it cannot be listed.
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
        """The file of the first of `names` that is there; None where none is.

        Of several, the one in the folder of `beside`, then the one in the nearest folder.
        """
        found = [self.path / file for name in names for file in self._nearest_first if file.name == name]
        together = (file for file in found if beside is not None and file.parent == beside.parent)
        return next(together, found[0] if found else None)

    def media_files(self, media: Media) -> MediaFiles:
        """Its videos, or its pictures."""
        return MediaFiles(self.path, self._nearest_first, media)


class MediaFiles:
    """The videos (or pictures) of a folder by the ids that data sets give them.

    files: below the folder, the nearest first. Of several of one id, a re-encoded copy (in a folder named compress...)
    is taken only if there is no other, then one of the very name that is asked for (DiDeMo has a.mov and a.mp4 side by
    side), then the nearest.
    """

    def __init__(self, folder: Path, files: Sequence[Path], media: Media) -> None:
        self._folder = folder
        self._of_id: dict[str, list[Path]] = defaultdict(list)
        for file in files:
            if file.suffix.lower() in _SUFFIXES[media]:
                self._of_id[media_id(file.name)].append(file)

    def find(self, name: str) -> Path | None:
        """The file for a video as an annotation names it, with or without folders and suffix; None where none is."""
        base = PurePosixPath(name).name
        files = self._of_id.get(media_id(name), [])
        best = min(files, key=lambda file: (_is_copy(file), file.name != base), default=None)
        return None if best is None else self._folder / best


def _is_copy(file: Path) -> bool:
    return any(part.startswith("compress") for part in file.parts[:-1])


def media_id(name: str) -> str:
    """Reduce "all/video9770.mp4" and "video9770" to the id they share.

    "a.3gp.mp4", a copy in another container, is "a" as well, and so is DiDeMo's "a.", whose suffix was lost.
    """
    base = PurePosixPath(name).name
    known = {*_SUFFIXES["video"], *_SUFFIXES["image"]}
    while (path := PurePosixPath(base)).suffix.lower() in known:
        base = path.stem
    return base.rstrip(".") or base


@dataclass(frozen=True)
class Found:
    """The files that a protocol will be read from: the captions, and the list of the split where one is needed."""

    source: Source
    file: Path
    only: Path | None


def find_annotations(protocol: Protocol, folder: DataFolder) -> Found:
    """The first of the protocol's sources that is there with all it needs.

    Raises AnnotationError, saying what was looked for, where none is.
    """
    lacking: list[str] = []
    for source in protocol.sources:
        file = folder.find([source.file])
        if file is None:
            continue
        only = folder.find(source.only, beside=file)
        if only is not None or not source.only:
            return Found(source, file, only)
        lacking.append(f"{file} is there, but no list of the split beside it ({' or '.join(source.only)})")
    names = ", ".join(source.file for source in protocol.sources)
    problem = lacking[0] if lacking else f"none of {names}"
    raise AnnotationError(f"{folder.path}: {problem} within {MAX_DEPTH} folder levels; {protocol.where}")
