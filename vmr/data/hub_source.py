"""Training pairs from data sets of the Hugging Face hub that are downloaded first, and then read in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.hub_rows import RowFiles, load_rows, read_row
from vmr.data.records import Media
from vmr.data.train_source import Pair


class HubSource:
    """A data set as `datasets` loads it, from the hub or from a folder, one pair for each row; a TrainSource.

    name: a repository of the hub, a folder that `load_dataset` understands (parquet files, ...), or one that
    `save_to_disk` wrote. video_column: of type Video or Image, bytes, or paths relative to `root`; rows of equal paths
    are one video, and of the other types each row is one. caption_column: a text, or a list of texts to choose from.
    It is downloaded as a whole when first used, and then read from disk. keep: as for `TarSource`.

    Raises MissingExtraError without `datasets`, VmrError for a data set, split or column that is not there.
    """

    notes = ()

    def __init__(
        self,
        name: str,
        split: str,
        video_column: str,
        caption_column: str,
        media: Media = "video",
        *,
        root: str | Path = ".",
        keep: int = 2048,
    ) -> None:
        self.name = f"{name}:{split}"
        self.media = media
        self.group = 1
        self._columns = (video_column, caption_column)
        self._rows = load_rows(name, split, self._columns, stream=False)
        self._ids = _numbers(self._rows, video_column)
        self.num_ids = int(self._ids.max()) + 1 if len(self._ids) else 0
        self._files = RowFiles(root, media, keep)

    def __len__(self) -> int:
        return len(self._rows)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Row `index` with one of its captions. A row that has none counts as a clip that cannot be decoded."""
        row = read_row(self._rows[index], self._columns)
        return self._files.captioned(row, index, f"{self.name}:{index}", int(self._ids[index])).pair(rng)


def _numbers(rows: Any, column: str) -> NDArray[np.int64]:
    """Equal for rows of equal paths, else different; (num_rows,)."""
    if rows.features[column].dtype != "string":
        return np.arange(len(rows), dtype=np.int64)
    paths = ["" if path is None else path for path in rows[column]]
    return np.unique(np.array(paths, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
