"""Training pairs from an annotation file and a folder of videos or pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vmr.data.annotations.formats import read_annotations
from vmr.data.annotations.locator import MediaFolder
from vmr.data.annotations.records import RecordTable, cached_table
from vmr.data.media import Media
from vmr.data.sources.source import Pair
from vmr.errors import AnnotationError
from vmr.files import require_folder


def load_table(file: str | Path, kind: str = "auto", only: str | Path | None = None) -> RecordTable:
    """Return the records of an annotation file as a table, which is built once and kept in the cache folder.

    Args:
        file: as for `read_annotations`, like the other arguments.
        kind: its format.
        only: a list of the videos to keep.

    Raises:
        AnnotationError: as `read_annotations` and `RecordTable.build` raise.
    """
    file = Path(file)
    files = [file] if only is None else [file, Path(only)]
    return cached_table(files, ["annotations", kind], lambda left_out: read_annotations(file, kind, only))


class AnnotatedSource:
    """The records of a table, one pair for each; a TrainSource.

    Records of the same video have the same id. A missing or broken file is noticed when it is decoded, so that training
    does not check a million files before it starts.

    Args:
        table: from `load_table`.
        root: the folder of the files.
        media: what the files are.
        name: what to call this source in logs.

    Raises:
        AnnotationError: the table holds the other media, or captions of moments.
        VmrError: `root` is not a folder.
    """

    notes = ()

    def __init__(self, table: RecordTable, root: str | Path, media: Media, name: str) -> None:
        require_folder(root)
        if table.media != media:
            raise AnnotationError(f"{name}: its annotations are of {table.media}s, not of {media}s")
        if table.has_moments:
            raise AnnotationError(
                f"{name}: its captions are of moments, and training takes whole videos: choose a format that joins them"
            )
        self.name = name
        self.media = media
        self.group = 1
        self.num_ids = table.num_videos
        self._files = MediaFolder(root)
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return record `index` with one of its captions, which `rng` chooses."""
        record = self.table[index]
        caption = record.captions[rng.integers(len(record.captions))]
        path = self._files.locate(record.path, self.media)
        return Pair(record.path, self.table.video_number(index), caption, path)
