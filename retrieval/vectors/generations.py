"""Writing the FAISS files of an index, which are made from its vectors and can be made again at any time.

A file holds the rows of a space up to a block, less those that were removed up to then. It is never changed: a new one
replaces it, and readers that have mapped the old one keep it until they see the new one.
"""

import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmr.errors import VmrError
from vmr.files import sha256_of
from vmr.retrieval.storage.records import Block, Generation, Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.kinds import (
    AUTO,
    THRESHOLDS,
    Thresholds,
    factory_matches,
    factory_of_space,
    needs_training,
    num_training_rows,
    with_lists,
)
from vmr.retrieval.vectors.store import Ids, Vectors

_FILES = re.compile(r"gen-[0-9a-f]{32}\.faiss|\.gen-[0-9a-f]{32}\.faiss\.\w+\.tmp")
_ROWS_AT_ONCE = 16_384  # that are added to an index, and at least that a kind is trained on


@dataclass(frozen=True)
class _State:
    """A space at the moment at which a new file may be made.

    Attributes:
        space: the space.
        old: its file; None if it has none.
        num_rows: vectors of the space.
        num_new: of them, those that are newer than the file.
        last_block: number of the last block.
        last_removed: number of the last line of removed windows.
    """

    space: Space
    old: Generation | None
    num_rows: int
    num_new: int
    last_block: int
    last_removed: int


def bring_up_to_date(
    writer: IndexWriter, space_id: int, *, thresholds: Thresholds = THRESHOLDS, force: bool = False
) -> bool:
    """Write a new FAISS file for a space if too many rows are newer than the old one, or too many were removed.

    A small space needs no file. The rows are read piece by piece: the memory needed is that of the file, and of the
    rows that it is trained on. Built by one thread (OMP_NUM_THREADS=1), the same rows make the same file.

    Args:
        writer: the writer of the index, outside a commit.
        space_id: the space.
        thresholds: what is too many.
        force: make a file from the rows alone in any case, unless the space is too small for one.

    Returns:
        Whether the space has another file now, or none any more.

    Raises:
        VmrError: the file cannot be written, or FAISS cannot make the kind that was asked for. The old file stays in
            use.
        IndexFileError: a block of vectors is damaged.
    """
    with writer.reader.snapshot() as snapshot:
        state = _state(snapshot, space_id)
        old, new = state.old, None
        file_rows = thresholds.file_rows if state.space.kind == AUTO else 1  # a kind that was asked for is made at once
        if state.num_rows >= file_rows:
            kind = factory_of_space(
                state.space.kind, state.space.dtype, state.num_rows, thresholds, "" if old is None else old.kind
            )
            has_grown = old is not None and 0 < thresholds.growth * old.trained_on < state.num_rows
            if force or old is None or has_grown or not factory_matches(kind, old.kind):
                new = _build(writer.folder, snapshot, state, kind)
            elif _is_stale(writer.folder, old, state, thresholds):
                new = _merge(writer.folder, snapshot, state, old) or _build(writer.folder, snapshot, state, kind)
    if new is None and (old is None or state.num_rows >= file_rows):
        return False
    _record(writer, old, new)
    return True


def make_files(writer: IndexWriter, *, force: bool = False) -> None:
    """Bring the FAISS files of all spaces up to date, and remove those that the index does not name.

    Args:
        writer: the writer of the index, outside a commit.
        force: see `bring_up_to_date`.

    Raises:
        VmrError: a file cannot be written; the rows are searched without it.
        IndexFileError: a block of vectors is damaged.
    """
    with writer.reader.snapshot() as snapshot:
        spaces = snapshot.spaces()
    for space in spaces:
        bring_up_to_date(writer, space.id, force=force)
    with writer.reader.snapshot() as snapshot:
        known = {generation.file for generation in snapshot.generations()}
    remove_orphans(writer.folder, known)


def remove_orphans(folder: Path, known: Collection[str]) -> None:
    """Remove FAISS files that a killed writer left behind.

    Args:
        folder: the folder of an index that no other process writes.
        known: names of the files that the index names.
    """
    for file in folder.iterdir():
        if _FILES.fullmatch(file.name) and file.name not in known:
            with suppress(OSError):  # it is in nobody's way
                file.unlink()


def _state(snapshot: Snapshot, space_id: int) -> _State:
    space = next((each for each in snapshot.spaces() if each.id == space_id), None)
    if space is None:
        raise VmrError(f"the index has no space with number {space_id}")
    old = next(iter(snapshot.generations(space_id)), None)
    return _State(
        space=space,
        old=old,
        num_rows=snapshot.num_windows(space_id),
        num_new=snapshot.num_windows(space_id, -1 if old is None else old.upto_block),
        last_block=snapshot.meta("next_block") - 1,
        last_removed=snapshot.meta("next_removed") - 1,
    )


def _is_stale(folder: Path, old: Generation, state: _State, thresholds: Thresholds) -> bool:
    num_removed = old.count + state.num_new - state.num_rows
    return (
        state.num_new > thresholds.max_delta(old.kind, old.count)
        or num_removed > thresholds.removed_share * old.count
        or not _has_size(folder / old.file, old.size)
    )


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _build(folder: Path, snapshot: Snapshot, state: _State, kind: str) -> Generation:
    """Write a file of all rows of a space."""
    space, factory = state.space, with_lists(kind, state.num_rows)
    store = FaissStore(space.dim, factory, _new_path(folder), num_threads=None)
    if needs_training(factory):
        store.train(sample_rows(snapshot.blocks(space.id), state.num_rows, num_training_rows(factory), space.dim))
    for ids, vectors in _batches(snapshot.blocks(space.id)):
        store.add(ids, vectors)
    return _written(store, state, factory, state.num_rows if needs_training(factory) else 0)


def _merge(folder: Path, snapshot: Snapshot, state: _State, old: Generation) -> Generation | None:
    """Write the old file with the newer rows, and without the removed ones; None if it must be built from the rows."""
    path = folder / old.file
    if not _has_size(path, old.size) or sha256_of(path) != old.sha256.hex():
        return None
    if old.upto_removed + 1 < snapshot.meta("removed_from"):
        return None
    gone = [np.arange(line.first_window, line.first_window + line.n) for line in snapshot.removed(old.upto_removed)]
    store = FaissStore.open(path, num_threads=None)
    store.path = _new_path(folder)
    if gone:
        try:
            store.remove(np.concatenate(gone))
        except VmrError:  # a graph cannot forget
            return None
    for ids, vectors in _batches(snapshot.blocks(state.space.id, old.upto_block)):
        store.add(ids, vectors)
    return _written(store, state, old.kind, old.trained_on) if len(store) == state.num_rows else None


def _written(store: FaissStore, state: _State, factory: str, trained_on: int) -> Generation:
    """Write a store to its path, and describe the file."""
    store.commit()
    assert store.path is not None
    return Generation(
        id=0,
        space_id=state.space.id,
        file=store.path.name,
        size=store.path.stat().st_size,
        sha256=bytes.fromhex(store.sha256),
        kind=factory,
        upto_block=state.last_block,
        upto_removed=state.last_removed,
        count=len(store),
        trained_on=trained_on,
    )


def _record(writer: IndexWriter, old: Generation | None, new: Generation | None) -> None:
    """Put the new file in the place of the old one."""
    try:
        with writer.commit() as changes:
            if new is not None:
                changes.put_generation(new)
            elif old is not None:
                changes.remove_generation(old.id)
    except BaseException:
        if new is not None:
            _remove(writer.folder / new.file)
        raise
    if old is not None:
        _remove(writer.folder / old.file)


def _remove(path: Path) -> None:
    with suppress(OSError):  # `remove_orphans` tries again
        path.unlink()


def _new_path(folder: Path) -> Path:
    return folder / f"gen-{uuid.uuid4().hex}.faiss"


def _batches(blocks: Iterable[Block]) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids and vectors of many blocks at once."""
    some: list[Block] = []
    num_rows = 0
    for block in blocks:
        some.append(block)
        num_rows += len(block.vectors)
        if num_rows >= _ROWS_AT_ONCE:
            yield _joined(some)
            some, num_rows = [], 0
    if some:
        yield _joined(some)


def _joined(blocks: list[Block]) -> tuple[Ids, Vectors]:
    ids = [np.arange(block.first_window, block.first_window + len(block.vectors)) for block in blocks]
    return np.concatenate(ids), np.concatenate([block.vectors for block in blocks])


def sample_rows(blocks: Iterable[Block], num_rows: int, size: int, dim: int, *, seed: int = 0) -> Vectors:
    """Choose rows, the same ones every time.

    Args:
        blocks: the rows.
        num_rows: how many they are.
        size: how many to choose, if there are so many.
        dim: D.
        seed: chooses others.

    Returns:
        float32 (N, D), in their order.
    """
    size = min(size, num_rows)
    chosen = np.sort(np.random.default_rng(seed).choice(num_rows, size, replace=False))
    sample = np.empty((size, dim), np.float32)
    start = 0
    for block in blocks:
        first, last = np.searchsorted(chosen, [start, start + len(block.vectors)])
        sample[first:last] = block.vectors[chosen[first:last] - start]
        start += len(block.vectors)
    return sample
