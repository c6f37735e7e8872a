"""Training clips with labels: from a list, or from a folder with a subfolder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vmr.data.labels.label_set import LabelSet
from vmr.data.sources.source import Pair


class LabelledSource:
    """The items of a data set with labels, one pair for each; a TrainSource, and LabelledData.

    Items of the same file have the same id. A broken file is noticed when it is decoded.

    Args:
        labels: from `vmr.data.labels.read.read_labels`.
    """

    group = 1

    def __init__(self, labels: LabelSet) -> None:
        self.name, self.media, self.notes = labels.name, labels.media, labels.notes
        self.target, self.classes, self.num_outputs = labels.target, labels.classes, labels.num_outputs
        self._items = labels.items
        self._name_of_class = labels.classes if labels.target == "single" else None
        number_of: dict[str, int] = {}
        numbers = (number_of.setdefault(item.id, len(number_of)) for item in labels.items)
        self._ids = np.fromiter(numbers, np.int64, len(labels.items))
        self.num_ids = len(number_of)

    def __len__(self) -> int:
        return len(self._items)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return item `index` with its label, and the name of its class as its caption; `rng` is not used."""
        item = self._items[index]
        caption = ""
        if self._name_of_class is not None and isinstance(item.label, int):
            caption = self._name_of_class[item.label]
        span = None if item.start_s is None or item.end_s is None else (item.start_s, item.end_s)
        return Pair(item.id, int(self._ids[index]), caption, Path(item.path), label=item.label, span=span)
