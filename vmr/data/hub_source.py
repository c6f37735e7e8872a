"""Training pairs from data sets of the Hugging Face hub that are downloaded first, and then read in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.hub_rows import HubData, RowFiles
from vmr.data.train_source import Pair


class HubSource:
    """A data set that is downloaded as a whole when first used, one pair for each row; a TrainSource.

    Rows of equal paths are one video; rows of other types are one each. keep: as for `TarSource`. Raises as
    `HubData.load`.
    """

    notes = ()
    group = 1

    def __init__(self, data: HubData, keep: int = 2048) -> None:
        self.name, self.media = data.title, data.media
        self._data = data
        self._rows = data.load(stream=False)
        self._ids = _numbers(self._rows, data.video_column)
        self.num_ids = int(self._ids.max()) + 1 if len(self._ids) else 0
        self._files = RowFiles(data, keep)

    def __len__(self) -> int:
        return len(self._rows)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Row `index` with one of its captions. A row that has none counts as a clip that cannot be decoded."""
        row = self._data.read(self._rows[index])
        return self._files.captioned(row, index, f"{self.name}:{index}", int(self._ids[index])).pair(rng)


def _numbers(rows: Any, column: str) -> NDArray[np.int64]:
    """Equal for rows of equal paths, else different; (num_rows,)."""
    if rows.features[column].dtype != "string":
        return np.arange(len(rows), dtype=np.int64)
    paths = ["" if path is None else path for path in rows[column]]
    return np.unique(np.array(paths, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
