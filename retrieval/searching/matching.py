"""What the scores of a search mean, where the space is calibrated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vmr.errors import VmrError
from vmr.retrieval.calibration.calibration import GROWTH, Calibration
from vmr.retrieval.calibration.kept import kept_calibration
from vmr.retrieval.searching.query import Query
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot

Make = Callable[[int], Calibration | None]


@dataclass
class Calibrations:
    """The calibration of a space: that which its index keeps, or one that is made at the first search and not kept."""

    _version: int | None = None
    _calibration: Calibration | None = None
    _rows_tried: int = 0

    def current(self, snapshot: Snapshot, space: Space, make: Make) -> Calibration | None:
        """Return the calibration of a space, as the snapshot has it.

        Args:
            snapshot: what the index holds.
            space: the space.
            make: calibrates the space, given the number of its rows. It is called again only when that has grown by
                half.

        Returns:
            The calibration; None if the space cannot be calibrated.
        """
        if snapshot.version != self._version:
            rows = snapshot.num_windows(space.id)
            known = next(each for each in snapshot.spaces() if each.id == space.id)
            kept = kept_calibration(known, rows)
            if kept is not None:
                self._calibration = kept
            elif rows >= GROWTH * self._rows_tried:
                self._calibration, self._rows_tried = make(rows), rows
            self._version = snapshot.version
        return self._calibration


@dataclass(frozen=True)
class Meaning:
    """What scores mean.

    Attributes:
        matches: of the scores, in [0, 1]; None if it is not known.
        nothing_close: whether the query is about nothing in the index; None if it is not known, or nothing was scored.
    """

    matches: tuple[float, ...] | None
    nothing_close: bool | None

    @classmethod
    def of(cls, scores: Sequence[float], query: Query, calibration: Calibration | None) -> "Meaning":
        """Say what the scores of a query mean: only those of a text mean anything.

        Args:
            scores: the best first.
            query: the query.
            calibration: of the space; None if it has none.
        """
        if calibration is None or not query.is_text:
            return cls(None, None)
        matches = tuple(calibration.match(np.array(scores), query.vector).tolist())
        return cls(matches, calibration.nothing_close(matches[0]) if matches else None)

    def num_from(self, min_match: float) -> int:
        """Count the scores, which come best first, that match at least so well.

        Raises:
            VmrError: it is not known what scores mean.
        """
        if self.matches is None:
            raise VmrError("min_match needs a sentence, and an index that is calibrated: vmr-index build calibrates it")
        return sum(match >= min_match for match in self.matches)
