"""What of a data set is there, what is missing, what differs from the published one. Opens no video."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmr.data.annotations.locator import DataFolder, media_id
from vmr.data.annotations.rows import read_ids
from vmr.errors import AnnotationError
from vmr.eval.protocols.protocol import Protocol, ids_hash, pairs_hash
from vmr.eval.protocols.reading import differences, find_annotations, read_texts


@dataclass(frozen=True)
class Inventory:
    """A data set on this machine.

    file, only: the annotation file and the list of the split; None where not found (or, `only`, not needed).
    num_videos, num_texts, videos_sha256, texts_sha256: what the file holds; 0 and None where it cannot be read.
    expected_texts_sha256: of the official file; None where it is not known.
    present, missing: ids of the videos whose files are there, or not. problems: all that keeps an evaluation from being
    the published one, save the missing videos. train_splits: of each list the protocol knows, what was found of it.
    """

    protocol: Protocol
    data_dir: Path
    file: Path | None = None
    only: Path | None = None
    num_videos: int = 0
    num_texts: int = 0
    videos_sha256: str | None = None
    texts_sha256: str | None = None
    expected_texts_sha256: str | None = None
    present: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    train_splits: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether an evaluation over this folder is the published one."""
        return not self.problems and not self.missing

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON types."""
        paths = {name: None if path is None else str(path) for name, path in (("file", self.file), ("only", self.only))}
        about = {"protocol": self.protocol.name, "version": self.protocol.version, "hash": self.protocol.hash}
        kept = {name: value for name, value in asdict(self).items() if name not in ("protocol", "data_dir", *paths)}
        return {**about, "data_dir": str(self.data_dir), **paths, **kept, "complete": self.complete}


def check_data(protocol: Protocol, data_dir: str | Path) -> Inventory:
    """Look a data set over. Raises AnnotationError only when `data_dir` is not a folder that can be listed."""
    folder = DataFolder(data_dir)
    splits = _train_splits(protocol, folder)
    try:
        found = find_annotations(protocol, folder)
    except AnnotationError as error:
        return Inventory(protocol, folder.path, problems=(str(error),), train_splits=splits)
    try:
        texts = read_texts(protocol, found)
    except AnnotationError as error:
        problems = (str(error),)
        return Inventory(protocol, folder.path, found.file, found.only, problems=problems, train_splits=splits)
    files = folder.media_files(protocol.media)
    there = [files.find(name) is not None for name in texts.names]
    return Inventory(
        protocol,
        folder.path,
        found.file,
        found.only,
        num_videos=len(texts.ids),
        num_texts=len(texts.texts),
        videos_sha256=ids_hash(texts.ids),
        texts_sha256=pairs_hash(texts.pairs),
        expected_texts_sha256=found.source.texts_sha256,
        present=tuple(id for id, is_there in zip(texts.ids, there, strict=True) if is_there),
        missing=tuple(id for id, is_there in zip(texts.ids, there, strict=True) if not is_there),
        problems=tuple(differences(protocol, found, texts)),
        train_splits=splits,
    )


def _train_splits(protocol: Protocol, folder: DataFolder) -> tuple[tuple[str, str], ...]:
    """(name, what was found) of each training list. Evaluation needs none, so that none is a problem."""
    lines = []
    for split in protocol.train_splits:
        file = folder.find([split.file])
        if file is None:
            lines.append((split.name, f"{split.file} is not here"))
            continue
        try:
            ids = [media_id(name) for name in read_ids(file)]
        except AnnotationError as error:
            lines.append((split.name, str(error)))
            continue
        same = len(ids) == split.num_videos and split.videos_sha256 in (None, ids_hash(ids))
        expected = "" if same else f", not the {split.num_videos} published"
        lines.append((split.name, f"{file}: {len(ids)} videos{expected}"))
    return tuple(lines)
