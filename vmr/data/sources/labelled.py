"""Training clips with labels: from lists and folders, from tar shards, and from data sets of the Hugging Face hub.

All are TrainSources (or a TrainStream) and LabelledData. The caption of a pair is the name of its class, where it has
one, so that "unless_sided" knows which clips may be mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.labels.label_set import LabelSet
from vmr.data.labels.texts import TextLabels
from vmr.data.media import Media
from vmr.data.sources.hub import HubSource
from vmr.data.sources.hub_rows import HubData
from vmr.data.sources.hub_stream import HubStream
from vmr.data.sources.source import CaptionedClip, Pair, StreamReader, StreamState
from vmr.data.sources.tar import TarSource
from vmr.errors import VmrError
from vmr.targets import Label, Target


class LabelledSource:
    """The items of a data set with labels, one pair for each.

    Items of the same file have the same id. A broken file is noticed when it is decoded.

    Args:
        labels: from `vmr.data.labels.read.read_labels`.
    """

    group = 1

    def __init__(self, labels: LabelSet) -> None:
        self.name, self.media, self.notes = labels.name, labels.media, labels.notes
        self.target, self.classes, self.num_outputs = labels.target, labels.classes, labels.num_outputs
        self._items = labels.items
        number_of: dict[str, int] = {}
        numbers = (number_of.setdefault(item.id, len(number_of)) for item in labels.items)
        self._ids = np.fromiter(numbers, np.int64, len(labels.items))
        self.num_ids = len(number_of)

    def __len__(self) -> int:
        return len(self._items)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return item `index`; `rng` is not used."""
        item = self._items[index]
        caption = _class_name(item.label, self.classes)
        span = None if item.start_s is None or item.end_s is None else (item.start_s, item.end_s)
        return Pair(item.id, int(self._ids[index]), caption, Path(item.path), label=item.label, span=span)


class LabelledTarSource(TarSource):
    """Clips in WebDataset shards with their labels, see `TarSource`.

    Args:
        shards: the tar files.
        media: what the clips are.
        name: what to call this source in logs.
        keep: as for `TarSource`.
        folder: as for `TarSource`.
        classes: names of the classes by number, or a file with them; None to take them from the labels.
        target: what a label is; None to find out.

    Raises:
        AnnotationError: as `TarSource` raises, or a label does not fit.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        media: Media,
        name: str,
        keep: int = 2048,
        folder: Path | None = None,
        *,
        classes: Path | Sequence[str] | None = None,
        target: Target | None = None,
    ) -> None:
        super().__init__(shards, media, name, keep, folder, "label")
        several = self.table.num_captions > len(self.table)
        self._labels = TextLabels(self.table.distinct_texts(), name, classes, target, several=several)
        self.target, self.classes, self.num_outputs = _facts(self._labels)
        self.notes = (*self.notes, *self._labels.notes)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return sample `index`; `rng` is not used."""
        texts, pair = self.texts_and_clip(index)
        label = self._labels.label(texts)
        return replace(pair, label=label, caption=_class_name(label, self.classes))


class LabelledHubSource(HubSource):
    """A data set of the hub with one label for each row, see `HubSource`.

    Args:
        data: the data set; its labels are names, numbers, or of the type ClassLabel.
        keep: as for `HubSource`.
        folder: as for `HubSource`.
        classes: names of the classes by number, or a file with them; None to take them from the column.
        target: what a label is; None to find out.

    Raises:
        VmrError: as `HubSource` raises.
        AnnotationError: a label does not fit.
    """

    def __init__(
        self,
        data: HubData,
        keep: int = 2048,
        folder: Path | None = None,
        *,
        classes: Path | Sequence[str] | None = None,
        target: Target | None = None,
    ) -> None:
        super().__init__(data, keep, folder)
        column = self.rows[data.caption_column]
        lists = [value if isinstance(value, list) else [value] for value in column]
        texts = sorted({str(value) for values in lists for value in values if value is not None})
        several = any(len(values) > 1 for values in lists)
        named = classes if classes is not None else _names_in(self.rows, data.caption_column)
        self._labels = TextLabels(texts, data.title, named, target, several=several)
        self.target, self.classes, self.num_outputs = _facts(self._labels)
        self.notes = self._labels.notes

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return row `index`; `rng` is not used. A row without a label counts as an unreadable clip."""
        return _LabelledClip.of(self.clip(index), self._labels).pair(rng)


class LabelledHubStream(HubStream):
    """A data set of the hub that is read while it is downloaded, with labels, see `HubStream`.

    Args:
        data: the data set.
        shuffle_buffer: as for `HubStream`.
        keep: as for `HubStream`.
        folder: as for `HubStream`.
        classes: names of the classes by number, or a file with them; None if the column has the type ClassLabel.
        target: what a label is: single or multi, or regression.

    Raises:
        VmrError: as `HubStream` raises; or nothing names the classes, which cannot be known before all is read.
    """

    def __init__(
        self,
        data: HubData,
        shuffle_buffer: int = 1000,
        keep: int = 2048,
        folder: Path | None = None,
        *,
        classes: Path | Sequence[str] | None = None,
        target: Target | None = None,
    ) -> None:
        super().__init__(data, shuffle_buffer, keep, folder)
        named = classes if classes is not None else _names_in(self.rows, data.caption_column)
        if named is None and target != "regression":
            raise VmrError(
                f"{data.title}: is read as a stream, and nothing names the classes of its column "
                f"'{data.caption_column}': give a file of classes"
            )
        first = next(iter(self.rows), None)
        texts = () if first is None else data.read(first).captions
        self._labels = TextLabels(texts, data.title, named, target)
        self.target, self.classes, self.num_outputs = _facts(self._labels)
        self.notes = (*self.notes, *self._labels.notes)

    def reader(self, seed: Sequence[int], rank: int, world: int, state: StreamState | None) -> StreamReader:
        """Return the reader of one process, see `TrainStream.reader`."""
        return _LabelledReader(super().reader(seed, rank, world, state), self._labels)


class _LabelledReader:
    """The clips of a reader, with labels."""

    def __init__(self, reader: StreamReader, labels: TextLabels) -> None:
        self._reader, self._labels = reader, labels

    def read(self) -> CaptionedClip:
        """See `StreamReader.read`."""
        return _LabelledClip.of(self._reader.read(), self._labels)

    def state_dict(self) -> StreamState:
        """See `StreamReader.state_dict`."""
        return self._reader.state_dict()


@dataclass(frozen=True)
class _LabelledClip(CaptionedClip):
    """A file whose captions are its labels; `pair` gives the label."""

    label: Label = 0

    @classmethod
    def of(cls, clip: CaptionedClip, labels: TextLabels) -> _LabelledClip:
        """Read the label. A clip without one stays one that cannot be decoded, so that its label does not matter."""
        label = labels.label(clip.captions) if any(clip.captions) else 0
        return cls(clip.name, clip.id, (_class_name(label, labels.classes),), clip.path, label)

    def pair(self, rng: np.random.Generator) -> Pair:
        """Return the file with its label; `rng` is not used."""
        (caption,) = self.captions
        return Pair(self.name, self.id, caption, self.path, label=self.label)


def _facts(labels: TextLabels) -> tuple[Target, tuple[str, ...] | None, int]:
    return labels.target, labels.classes, labels.num_outputs


def _class_name(label: Label, classes: tuple[str, ...] | None) -> str:
    """The name of the class of a clip; "" where it has several or none."""
    return classes[label] if classes is not None and isinstance(label, int) else ""


def _names_in(rows: Any, column: str) -> tuple[str, ...] | None:
    """The names that a column of the type ClassLabel has."""
    feature = None if rows.features is None else rows.features[column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(names)
