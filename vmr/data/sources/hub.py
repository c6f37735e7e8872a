"""Training pairs from data sets of the Hugging Face hub, downloaded completely and then read in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.extras import import_extra
from vmr.data.sources.hub_rows import HubData, RowFiles
from vmr.data.sources.source import CaptionedClip, Pair


class HubSource:
    """A data set with one pair for each row, downloaded when it is first used; a TrainSource.

    Rows with equal paths are the same video; rows whose clips are not paths are a video each.

    Args:
        data: the data set.
        keep: how many clips may be in temporary files; more than the number of clips that are decoded ahead.
        folder: the folder of the temporary files, see `Spool`.

    Attributes:
        rows: the loaded `datasets.Dataset`.

    Raises:
        VmrError: as `HubData.load` raises. `pair` raises it for a row that `HubData.read` refuses.
        MissingExtraError: `datasets` is not installed.
    """

    notes: tuple[str, ...] = ()
    group = 1

    def __init__(self, data: HubData, keep: int = 2048, folder: Path | None = None) -> None:
        self.name, self.media = data.title, data.media
        self._data = data
        self.rows = data.load(stream=False)
        self._ids = _numbers(self.rows, data.video_column)
        self.num_ids = int(self._ids.max()) + 1 if len(self._ids) else 0
        self._files = RowFiles(data, keep, folder)

    def __len__(self) -> int:
        return len(self.rows)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return row `index` with one of its captions. A row without captions counts as an unreadable clip."""
        return self.clip(index).pair(rng)

    def clip(self, index: int) -> CaptionedClip:
        """Return row `index` with all of its captions."""
        row = self._data.read(self.rows[index])
        return self._files.captioned(row, index, f"{self.name}:{index}", int(self._ids[index]))


def _numbers(rows: Any, column: str) -> NDArray[np.int64]:
    """Numbers that are equal for rows with equal paths, (num_rows,)."""
    if getattr(rows.features[column], "dtype", None) not in ("string", "large_string"):
        return np.arange(len(rows), dtype=np.int64)
    arrow = import_extra("pyarrow")
    paths = rows.select_columns([column]).with_format("arrow")[:][column]
    # large_string, because all paths together may be longer than 2 GB.
    distinct = paths.cast(arrow.large_string()).combine_chunks().fill_null("").dictionary_encode()
    numbers: NDArray[np.int64] = distinct.indices.to_numpy().astype(np.int64)
    return numbers
