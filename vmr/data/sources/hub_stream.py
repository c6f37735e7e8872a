"""Training pairs from data sets of the Hugging Face hub that are downloaded as they are read.

An epoch is the shards (files) of the data set in an order that the seed decides, shared out among the ranks. Rows of a
shard come in their own order; `vmr.data.training.order` shuffles those that come close to each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.extras import import_extra
from vmr.data.sources.hub_rows import HubData, HubRow, RowFiles
from vmr.data.sources.source import Bookmark, Captioned
from vmr.errors import VmrError

_ID_BYTES = 6  # of ids: among a batch of 4096 two different clips share one once in 30 million batches
_EMPTY_EPOCHS = 20  # in a row: a rank may draw shards without rows for some, while others have rows


class HubStream:
    """A data set that need not fit on the disk; a TrainStream.

    Rows are one video if their paths are equal, or their bytes. block: how many rows are shuffled among themselves.
    keep: how many clips, besides those of two blocks, may lie in temporary files; more than are read ahead of training.
    folder: for these, see `Spool`.

    With fewer shards than ranks, each rank reads all shards and uses its share of their rows.

    Raises as `HubData.load`; a reader raises VmrError when no more can be read, or no row is found.
    """

    num_ids = 1 << 8 * _ID_BYTES

    def __init__(self, data: HubData, block: int = 1000, keep: int = 2048, folder: Path | None = None) -> None:
        if block < 1:
            raise VmrError(f"{data.name}: a stream is shuffled in blocks of at least 1 row, got {block}")
        self.name, self.media = data.title, data.media
        self.data, self.block = data, block
        self._rows = data.load(stream=True)
        self._keep, self._folder = keep, folder
        self.notes = (f"{self.name}: {self.num_shards} files, streamed; {block} rows are read before the first step",)

    def reader(self, seed: Sequence[int], rank: int, world: int, bookmark: Bookmark | None) -> HubReader:
        """Rank `rank`'s share of the rows, epoch after epoch, from the start or from a bookmark of such a reader."""
        return HubReader(self, tuple(seed), rank, world, bookmark)

    @property
    def num_shards(self) -> int:
        """How many files the data set has, which are read one after the other."""
        return int(self._rows.num_shards)

    def shard(self, number: int) -> Any:
        """The rows of one file, an IterableDataset."""
        return self._rows.shard(num_shards=self.num_shards, index=number)

    def files(self) -> RowFiles:
        """Where a reader keeps its clips."""
        return RowFiles(self.data, 2 * self.block + self._keep, self._folder)


class HubReader:
    """One rank's way through a `HubStream`. A bookmark is the epoch, how many of its shards were read, and the place in
    the one that is being read.
    """

    def __init__(
        self, stream: HubStream, seed: tuple[int, ...], rank: int, world: int, bookmark: Bookmark | None
    ) -> None:
        self._stream, self._seed, self._rank, self._world = stream, seed, rank, world
        self._place = bookmark or {"epoch": 0, "shards": 0, "within": None}
        self._files = stream.files()
        self._count = 0
        self._rows = self._endless()

    def read(self) -> Captioned:
        """The next row of the shard, or the first of the next. Raises VmrError when it cannot be had."""
        name = self._stream.name
        try:
            content = next(self._rows)
        except VmrError:
            raise
        except Exception as error:  # of any of the packages that a stream comes through
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise VmrError(f"{name}: cannot read on ({message}); the same command goes on with the run") from error
        row = self._stream.data.read(content)
        self._count += 1
        number = _fingerprint(row)
        return self._files.captioned(row, self._count, f"{name}:{number:012x}", number)

    def bookmark(self) -> Bookmark:
        """The place behind the row that was read last."""
        return self._place

    def _endless(self) -> Iterator[dict[str, Any]]:
        epoch, start, within = (self._place[key] for key in ("epoch", "shards", "within"))
        last_found = epoch
        while epoch - last_found <= _EMPTY_EPOCHS:
            shards = self._order(epoch)
            for done in range(start, len(shards)):
                for row, behind in self._shard(shards[done], within):
                    last_found = epoch
                    self._place = {"epoch": epoch, "shards": done, "within": behind}
                    yield row
                within = None
            epoch, start = epoch + 1, 0
        raise VmrError(f"{self._stream.name}: has no rows for process {self._rank} of {self._world}")

    def _order(self, epoch: int) -> list[int]:
        """The shards that this rank reads in an epoch."""
        shards: list[int] = np.random.default_rng((*self._seed, epoch)).permutation(self._stream.num_shards).tolist()
        return shards[self._rank :: self._world] if len(shards) >= self._world else shards

    def _shard(self, number: int, within: Any) -> Iterator[tuple[dict[str, Any], Any]]:
        """The rows of a shard that this rank uses, each with the place behind it."""
        rows = self._stream.shard(number)
        if self._stream.num_shards < self._world:
            rows = import_extra("datasets.distributed").split_dataset_by_node(rows, self._rank, self._world)
        if within is not None:
            rows.load_state_dict(within)
        for row in rows:
            yield row, rows.state_dict()


def _fingerprint(row: HubRow) -> int:
    """Equal for equal clips, and hardly ever for others."""
    content = row.content if row.content is not None else (row.path or "\n".join(row.captions)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=_ID_BYTES).digest(), "big")
