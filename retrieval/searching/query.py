"""What a search is given: a sentence, a vector, or a moment whose like is wanted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.checks import whole_number
from vmr.errors import VmrError
from vmr.files import is_unicode
from vmr.retrieval.results import Hit
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.vectors.held_rows import HeldRows
from vmr.retrieval.vectors.store import Vectors

# A vector whose length is so close to 1 is searched as it is, so that the vector of a text finds what the text finds.
_UNIT_LENGTH_WITHIN = 1e-4


@dataclass(frozen=True)
class Seed:
    """The moment whose like is wanted. It is no answer itself.

    Attributes:
        window_id: its best window.
        video_id: its video.
        start_s: where it starts, in seconds.
        end_s: where it ends.
    """

    window_id: int
    video_id: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Query:
    """A query that can be compared with windows.

    Attributes:
        text: the query in words.
        vector: float32 (D,).
        is_text: whether it was asked in words.
        seed: the moment whose like is wanted; None for a text or a vector.
    """

    text: str
    vector: Vectors
    is_text: bool = False
    seed: Seed | None = None


def is_sentence(query: object) -> bool:
    """Tell whether a query is a sentence that can be embedded."""
    return isinstance(query, str) and bool(query.strip()) and is_unicode(query)


def check_text(query: str) -> str:
    """Return a sentence.

    Raises:
        VmrError: it is empty, or no valid text.
    """
    if not is_sentence(query):
        raise VmrError("the query is empty or not valid text: describe what the video shows")
    return query


def query_of_vector(vector: NDArray[Any], dim: int) -> Query:
    """Make a query of a vector, which may have any length but 0: only its direction counts.

    Raises:
        VmrError: it is of another width, not finite, or 0.
    """
    try:
        numbers = np.asarray(vector, np.float64)
    except (TypeError, ValueError):
        raise VmrError(f"the query is no vector of numbers: {vector!r:.60}") from None
    if numbers.shape != (dim,):
        raise VmrError(f"the query is a vector of shape {numbers.shape}, but the space takes ({dim},)")
    if not np.isfinite(numbers).all():
        raise VmrError("the query is a vector with numbers that are not finite")
    length = float(np.linalg.norm(numbers))
    if not 0 < length < np.inf:
        raise VmrError(f"the query is a vector of length {length:g}, which has no direction")
    unit = numbers if abs(length - 1) <= _UNIT_LENGTH_WITHIN else numbers / length
    return Query("a vector", unit.astype(np.float32))


def query_of_moment(moment: Hit | int, snapshot: Snapshot, space: Space, held: HeldRows | None = None) -> Query:
    """Make a query of a moment of the index: more like this.

    Args:
        moment: a hit, or the id of a moment.
        snapshot: of the index.
        space: the space that is searched.
        held: its rows in memory; None to read them from the database.

    Raises:
        VmrError: there is no such moment in the index, or it has no vector in the space.
    """
    number = moment.moment_id if isinstance(moment, Hit) else whole_number("the id of a moment", moment, None)
    video = None if held is None else held.video_of(number)
    if video is None and abs(number) < 2**63:
        video = snapshot.video_of_window(number)
    spans = [] if video is None else snapshot.spans_from(number, 1).tolist()
    if video is None or not spans or (isinstance(moment, Hit) and moment.video_id != video.id):
        raise VmrError(f"the index holds no moment {number}: its video was removed or has changed; search again")
    ids = np.array([number])
    rows, is_there = snapshot.vectors(space.id, ids) if held is None else held.vectors(ids)
    if not is_there[0]:
        raise VmrError(f"moment {number} has no vector in the space {space.name}")
    start_s, end_s = (moment.start_s, moment.end_s) if isinstance(moment, Hit) else spans[0]
    text = f"like {video.file.rpartition('/')[2]}, {start_s:.1f} to {end_s:.1f} s"
    return Query(text, query_of_vector(rows[0], space.dim).vector, seed=Seed(number, video.id, start_s, end_s))


def read_query(query: Any, embed: Callable[[str], Vectors], dim: int) -> Query | Hit | int:
    """Check what was asked for; a text is embedded, a moment is left for `query_of_moment`.

    Args:
        query: a text, a vector (D,), a hit or the id of a moment.
        embed: from a text to its vector (D,).
        dim: D.

    Raises:
        VmrError: it is none of them.
    """
    if isinstance(query, str):
        return Query(check_text(query), embed(query), is_text=True)
    if isinstance(query, Hit | int | np.integer) and not isinstance(query, bool):
        return query if isinstance(query, Hit) else int(query)
    if isinstance(query, np.ndarray):
        return query_of_vector(query, dim)
    raise VmrError(
        f"the query is {query!r:.60}: describe what the video shows, or give a vector, a hit or the id of a moment"
    )
