"""Which windows a condition on videos leaves to be found."""

from dataclasses import dataclass, field

import numpy as np

from vmr.checks import check_type
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.where import Where
from vmr.retrieval.vectors.store import Mask

_KEPT = 4  # masks; one takes a byte for every window


@dataclass
class Filters:
    """The masks of the last conditions.

    A mask stays the same object while the index has not changed: a search that gets one again need not prepare it.
    """

    _masks: dict[tuple[str | None, int | None, int], Mask] = field(default_factory=dict)

    def mask(self, where: Where | None, before: int | None, snapshot: Snapshot) -> Mask | None:
        """Return which windows may be found: a read-only place for each window; None if all of them may.

        Args:
            where: selects videos; None for all.
            before: only windows with a lower id; None for all.
            snapshot: of the index.
        """
        if before is not None and before >= snapshot.meta("next_window"):
            before = None
        if where is None and before is None:
            return None
        key = (None if where is None else where.text, before, snapshot.version)
        mask = self._masks.pop(key, None)
        if mask is None:
            mask = _mask(where, before, snapshot)
        self._masks[key] = mask
        while len(self._masks) > _KEPT:
            del self._masks[next(iter(self._masks))]
        return mask


def parsed(where: str | None) -> Where | None:
    """Read a condition.

    Raises:
        VmrError: it is none.
    """
    check_type("where", where, str, type(None))
    return None if where is None else Where.parse(where)


def _mask(where: Where | None, before: int | None, snapshot: Snapshot) -> Mask:
    num_windows = int(snapshot.meta("next_window"))
    mask = np.ones(num_windows, bool) if where is None else _selected(where, snapshot, num_windows)
    if before is not None:
        mask[before:] = False
    mask.flags.writeable = False
    return mask


def _selected(where: Where, snapshot: Snapshot, num_windows: int) -> Mask:
    # Where a video's windows begin, the count of open videos grows by one, and where they end, it falls by one.
    changes = np.zeros(num_windows + 1, np.int8)
    ranges = snapshot.window_ranges(where)
    np.add.at(changes, ranges[:, 0], 1)
    np.add.at(changes, ranges.sum(axis=1), -1)
    mask: Mask = np.cumsum(changes, dtype=np.int8)[:-1].astype(bool)
    return mask
