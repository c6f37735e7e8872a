"""Training pairs from data sets of the Hugging Face hub that are downloaded as they are read.

In an epoch the shards (files) of the data set are read in an order that depends on the seed, and each process reads
some of them. The rows of a shard are read in order; `vmr.data.training.order` shuffles neighbouring rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.extras import import_extra
from vmr.data.sources.hub_rows import HubData, HubRow, RowFiles
from vmr.data.sources.source import CaptionedClip, StreamReader, StreamState
from vmr.errors import VmrError

_ID_BYTES = 6  # with this many, two different clips of a batch of 4096 have the same id once in 30 million batches
_EMPTY_EPOCHS = 20  # a process gives up after this many in a row: in some epochs it may get only shards without rows


class HubStream:
    """A data set that need not fit on the disk; a TrainStream.

    Rows whose paths, or bytes, are equal are the same video. With fewer shards than processes, each process reads all
    shards and uses its share of their rows. A reader raises VmrError if it cannot read further, or finds no row.

    Args:
        data: the data set.
        shuffle_buffer: how many consecutive rows are shuffled together.
        keep: how many clips may be in temporary files besides those of two such buffers; more than the number of clips
            that are decoded ahead.
        folder: of the temporary files, see `Spool`.

    Attributes:
        rows: the loaded `datasets.IterableDataset`.

    Raises:
        VmrError: a number is out of range, or as `HubData.load` raises.
        MissingExtraError: `datasets` is not installed.
    """

    num_ids = 1 << 8 * _ID_BYTES

    def __init__(self, data: HubData, shuffle_buffer: int = 1000, keep: int = 2048, folder: Path | None = None) -> None:
        if shuffle_buffer < 1:
            raise VmrError(f"{data.name}: the shuffle buffer of a stream has at least 1 row, got {shuffle_buffer}")
        self.name, self.media = data.title, data.media
        self.data, self.shuffle_buffer = data, shuffle_buffer
        self.rows = data.load(stream=True)
        self._keep, self._folder = keep, folder
        read_first = f"{shuffle_buffer} rows are read before the first step"
        self.notes: tuple[str, ...] = (f"{self.name}: {self.num_shards} files, streamed; {read_first}",)

    def reader(self, seed: Sequence[int], rank: int, world: int, state: StreamState | None) -> StreamReader:
        """Return the reader of one process, see `TrainStream.reader`."""
        return HubReader(self, tuple(seed), rank, world, state)

    @property
    def num_shards(self) -> int:
        """The number of files of the data set."""
        return int(self.rows.num_shards)

    def shard(self, number: int) -> Any:
        """Return the rows of one file, as an IterableDataset."""
        return self.rows.shard(num_shards=self.num_shards, index=number)

    def files(self) -> RowFiles:
        """Return the temporary files for the clips of one reader."""
        return RowFiles(self.data, 2 * self.shuffle_buffer + self._keep, self._folder)


class HubReader:
    """Reads the rows of a `HubStream` that belong to one process, epoch after epoch; a StreamReader.

    Its state is the epoch, the number of shards of the epoch that were read, and the position within the current shard.

    Args:
        stream: the stream.
        seed: as for `TrainStream.reader`, like the other arguments.
        rank: the rank of the process.
        world: how many processes there are.
        state: where to start; None for the start of the stream.
    """

    def __init__(
        self, stream: HubStream, seed: tuple[int, ...], rank: int, world: int, state: StreamState | None
    ) -> None:
        self._stream, self._seed, self._rank, self._world = stream, seed, rank, world
        self._place = state or {"epoch": 0, "shards": 0, "within": None}
        self._files = stream.files()
        self._count = 0
        self._rows = self._endless()

    def read(self) -> CaptionedClip:
        """Return the next row of the shard, or the first row of the next one. Raises VmrError if it cannot be read."""
        name = self._stream.name
        try:
            content = next(self._rows)
        except VmrError:
            raise
        except Exception as error:  # errors of any package that reads the stream
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise VmrError(f"{name}: cannot read on ({message}); the same command goes on with the run") from error
        row = self._stream.data.read(content)
        self._count += 1
        number = _fingerprint(row)
        return self._files.captioned(row, self._count, f"{name}:{number:012x}", number)

    def state_dict(self) -> StreamState:
        """Return the position after the row that was read last."""
        return self._place

    def _endless(self) -> Iterator[dict[str, Any]]:
        epoch, start, within = (self._place[key] for key in ("epoch", "shards", "within"))
        last_found = epoch
        while epoch - last_found <= _EMPTY_EPOCHS:
            shards = self._order(epoch)
            for done in range(start, len(shards)):
                for row, after in self._shard(shards[done], within):
                    last_found = epoch
                    self._place = {"epoch": epoch, "shards": done, "within": after}
                    yield row
                within = None
            epoch, start = epoch + 1, 0
        raise VmrError(f"{self._stream.name}: has no rows for process {self._rank} of {self._world}")

    def _order(self, epoch: int) -> list[int]:
        """The shards that this process reads in an epoch, in this order."""
        shards: list[int] = np.random.default_rng((*self._seed, epoch)).permutation(self._stream.num_shards).tolist()
        return shards[self._rank :: self._world] if len(shards) >= self._world else shards

    def _shard(self, number: int, within: Any) -> Iterator[tuple[dict[str, Any], Any]]:
        """The rows of a shard that this process uses, each with the position after it."""
        rows = self._stream.shard(number)
        if self._stream.num_shards < self._world:
            rows = import_extra("datasets.distributed").split_dataset_by_node(rows, self._rank, self._world)
        if within is not None:
            rows.load_state_dict(within)
        for row in rows:
            yield row, rows.state_dict()


def _fingerprint(row: HubRow) -> int:
    """Return a number that is equal for equal clips, and very rarely for different ones."""
    content = row.content if row.content is not None else (row.path or "\n".join(row.captions)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=_ID_BYTES).digest(), "big")
