"""Training pairs from an annotation file and a folder of videos or pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vmr.data.annotations.formats import read_annotations
from vmr.data.annotations.records import Media, RecordTable, cached_table
from vmr.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vmr.data.sources.source import Pair
from vmr.errors import AnnotationError
from vmr.files import require_folder


def load_table(file: str | Path, kind: str = "auto", only: str | Path | None = None) -> RecordTable:
    """The records of an annotation file, see `read_annotations`, as a table that is built once.

    It lies in the cache folder and serves for as long as the files hold what they hold.
    """
    file = Path(file)
    files = [file] if only is None else [file, Path(only)]
    return cached_table(files, ["annotations", kind], lambda left_out: read_annotations(file, kind, only))


def locate(root: str | Path, path: str, media: Media) -> Path:
    """The file that `path` of a record means, below `root` or absolute.

    A path without the suffix of a video (or picture) gets the first usual one that leads to a file. Where none does,
    the path is returned as it is: that there is no such file is found when it is decoded.
    """
    suffixes = VIDEO_SUFFIXES if media == "video" else IMAGE_SUFFIXES
    named = Path(root, path)
    if named.suffix.lower() in suffixes or named.is_file():
        return named
    # Not with_suffix: "clip.12_30" has no suffix. A few of DiDeMo's names end in a dot.
    guesses = (named.with_name(named.name.rstrip(".") + suffix) for suffix in suffixes)
    return next((guess for guess in guesses if guess.is_file()), named)


class AnnotatedSource:
    """The records of `table` in training, one pair each; a TrainSource. Its files are under `root`.

    Records of the same video have the same id. That a file is missing or broken is found when it is decoded: a
    million files are not looked at before training starts. Raises AnnotationError when the table holds the other
    media, or captions of moments, and VmrError when `root` is no folder.
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
        self.root = Path(root)
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Record `index` with one of its captions."""
        record = self.table[index]
        caption = record.captions[rng.integers(len(record.captions))]
        path = locate(self.root, record.path, self.media)
        return Pair(record.path, self.table.video_number(index), caption, path)
