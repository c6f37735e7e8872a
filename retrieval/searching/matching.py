"""What the scores of a search mean, where the space is calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vmr.errors import VmrError
from vmr.retrieval.calibration.calibration import Calibration
from vmr.retrieval.calibration.kept import kept_calibration
from vmr.retrieval.searching.query import Query
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot


@dataclass
class Calibrations:
    """The calibration that an index keeps of a space; it is looked up again when the index has changed."""

    _version: int | None = None
    _calibration: Calibration | None = None

    def current(self, snapshot: Snapshot, space: Space) -> Calibration | None:
        """Return the calibration of a space, as the snapshot has it; None if it has none that can be used."""
        if snapshot.version != self._version:
            known = next(each for each in snapshot.spaces() if each.id == space.id)
            self._calibration = kept_calibration(known, snapshot.num_windows(space.id))
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
