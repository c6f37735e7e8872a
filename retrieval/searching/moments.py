"""From the scores of a video's windows to its moments.

Shapes: n windows of a video.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.float64]
Scores = NDArray[np.float32]


class Moment(NamedTuple):
    """A part of a video.

    Attributes:
        best: place of its best window among the video's windows.
        start_s: where it starts, in seconds.
        end_s: where it ends.
    """

    best: int
    start_s: float
    end_s: float


def merged_moments(spans: Spans, scores: Scores) -> list[Moment]:
    """Merge windows that overlap or follow each other into moments, which do not overlap.

    Args:
        spans: start and end of each window, in seconds, (n, 2).
        scores: (n,).

    Returns:
        The moments, best first.
    """
    order = np.lexsort((spans[:, 1], spans[:, 0], -scores))
    found: list[Moment] = []
    for place in order.tolist():
        start_s, end_s = spans[place].tolist()
        if not any(start_s < one.end_s and one.start_s < end_s for one in found):
            found.append(Moment(place, start_s, end_s))
    return found


def single_windows(spans: Spans, scores: Scores) -> list[Moment]:
    """Return each window as a moment, in the order of time."""
    return [Moment(place, *span) for place, span in enumerate(spans.tolist())]
