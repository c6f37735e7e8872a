"""Checking a data set: which files exist, are missing, or differ from the published ones. No video is opened."""

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
    """The files of a data set that are in a folder.

    Attributes:
        protocol: the protocol of the data set.
        data_dir: the folder.
        file: the annotation file; None if it was not found.
        only: the list of the split; None if it was not found or is not needed.
        num_videos: how many videos the file names; 0 if it cannot be read.
        num_texts: how many texts it holds; 0 if it cannot be read.
        videos_sha256: `ids_hash` of its videos; None if it cannot be read.
        texts_sha256: `pairs_hash` of its pairs; None if it cannot be read.
        expected_texts_sha256: `pairs_hash` of the official file; None if it is not known.
        present: ids of the videos whose files were found.
        missing: ids of the other videos.
        problems: why an evaluation would differ from the published one, apart from missing videos; one line each.
        train_splits: name and state of each training list of the protocol.
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
        """Return the same as JSON types."""
        paths = {name: None if path is None else str(path) for name, path in (("file", self.file), ("only", self.only))}
        about = {"protocol": self.protocol.name, "version": self.protocol.version, "hash": self.protocol.hash}
        kept = {name: value for name, value in asdict(self).items() if name not in ("protocol", "data_dir", *paths)}
        return {**about, "data_dir": str(self.data_dir), **paths, **kept, "complete": self.complete}


def check_data(protocol: Protocol, data_dir: str | Path) -> Inventory:
    """Find the files of a data set in a folder.

    Args:
        protocol: the protocol of the data set.
        data_dir: the folder.

    Raises:
        AnnotationError: `data_dir` is not a folder, or it cannot be listed. All other problems are in the result.
    """
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
        problems=(*differences(protocol, found, texts), *(() if all(there) else folder.unlistable)),
        train_splits=splits,
    )


def _train_splits(protocol: Protocol, folder: DataFolder) -> tuple[tuple[str, str], ...]:
    """Name and state of each training list. An evaluation needs none, so a missing list is no problem."""
    lines = []
    for split in protocol.train_splits:
        file = folder.find([split.file])
        if file is None:
            lines.append((split.name, f"{split.file} was not found"))
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
