"""What a search must find: everything is compared, in plain Python, as docs/search.md says it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A window."""

    id: int
    start: float
    end: float
    vector: Vector


@dataclass(frozen=True)
class Film:
    """A video of the index."""

    id: int
    path: str
    content: bytes
    rows: tuple[Row, ...]


@dataclass
class Found:
    """A moment."""

    score: float
    film: Film
    row: Row
    start: float
    end: float
    is_whole: bool = False
    duplicates: list[str] = field(default_factory=list)

    @property
    def order(self) -> tuple[float, str, float, float, int]:
        return (-self.score, self.film.path, self.start, self.end, self.row.id)


def product(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: Vector, b: Vector) -> float:
    lengths = math.sqrt(product(a, a)) * math.sqrt(product(b, b))
    return product(a, b) / lengths if lengths else 0.0


def overlap(a_start: float, a_end: float, b_start: float, b_end: float) -> bool:
    return max(a_start, b_start) < min(a_end, b_end)


# --- moments of one video ---------------------------------------------------------------------------------------------


def moments(film: Film, query: Vector) -> list[Found]:
    """The rows of the whole video, and the moments that its other rows merge into."""
    first, last = min(row.start for row in film.rows), max(row.end for row in film.rows)
    whole = [row for row in film.rows if (row.start, row.end) == (first, last)]
    if len(whole) == len(film.rows):
        whole = []
    rows = sorted((row for row in film.rows if row not in whole), key=lambda row: (row.start, row.end))
    found = [Found(product(row.vector, query), film, row, row.start, row.end, True) for row in whole]
    free = set(range(len(rows)))
    while free:
        best = max(free, key=lambda place: (product(rows[place].vector, query), -place))
        start, left = side(rows, best, query, free, -1)
        end, right = side(rows, best, query, free, +1)
        hull_start = min(rows[place].start for place in range(left, right + 1))
        hull_end = max(rows[place].end for place in range(left, right + 1))
        free = {
            place
            for place in free
            if not left <= place <= right and not overlap(rows[place].start, rows[place].end, hull_start, hull_end)
        }
        found.append(Found(product(rows[best].vector, query), film, rows[best], start, end))
    return found


def side(rows: Sequence[Row], best: int, query: Vector, free: set[int], step: int) -> tuple[float, int]:
    """How far a moment reaches to the left (-1) or to the right (+1), and its last window there."""

    def edge(place: int) -> float:  # the one that points to this side, measured outwards
        return -rows[place].start if step < 0 else rows[place].end

    def shared(place: int, other: int) -> float:  # seconds that two windows share
        return max(0.0, min(rows[place].end, rows[other].end) - max(rows[place].start, rows[other].start))

    length = rows[best].end - rows[best].start
    inner = min(shared(best, best + step), length / 2) / 2 if 0 <= best + step < len(rows) else 0.0
    reach, part, place = edge(best) - inner, 1.0, best
    while place + step in free:
        other = place + step
        earlier, later = sorted((place, other))
        if rows[later].start - rows[earlier].end > 1:
            break
        share = share_of(rows, best, other, query)
        if share <= 0.5 + 1e-5:
            return (reach if step > 0 else -reach), place
        part = min(1.0, (share - 0.5) / 0.3) if rows[earlier].end > rows[later].start else 1.0
        reach += max(0.0, edge(other) - edge(place)) * part
        place = other
    reach += inner * part
    return (reach if step > 0 else -reach), place


def share_of(rows: Sequence[Row], best: int, other: int, query: Vector) -> float:
    scores = [product(row.vector, query) for row in rows]
    likeness = [cosine(row.vector, rows[best].vector) for row in rows]
    return (share(scores, scores[best], scores[other]) + share(likeness, 1.0, likeness[other])) / 2


def share(values: list[float], peak: float, value: float) -> float:
    """0 at the base of all values, 1 at the peak."""
    place = (len(values) - 1) / 4
    low, high = sorted(values)[math.floor(place)], sorted(values)[math.ceil(place)]
    base = min(low + (high - low) * (place - math.floor(place)), peak - 0.2 * abs(peak))
    if base >= peak:
        return 1.0 if value >= peak else 0.0
    return (value - base) / (peak - base)


# --- all videos -------------------------------------------------------------------------------------------------------


def search(
    films: Sequence[Film],
    query: Vector,
    k: int,
    *,
    per_video: int | None = None,
    keep_duplicates: bool = False,
    overlapping: bool = False,
    seed: Found | None = None,
) -> list[Found]:
    """The hits, best first; a seed is a moment whose like is wanted."""
    if overlapping:
        every = [
            Found(product(row.vector, query), film, row, row.start, row.end) for film in films for row in film.rows
        ]
    else:
        every = [found for film in films for found in moments(film, query)]
    every.sort(key=lambda found: found.order)
    hits: list[Found] = []
    for one in every:
        if seed and one.film.id == seed.film.id and overlap(one.start, one.end, seed.start, seed.end):
            continue
        better = [seed, *hits] if seed else hits
        if not keep_duplicates and any(same(hit, one) for hit in better):
            hit = next(hit for hit in better if same(hit, one))
            hit.duplicates += [] if one.film.path in hit.duplicates else [one.film.path]
            continue
        own = [hit for hit in hits if hit.film.id == one.film.id]
        if one.is_whole and own:
            continue
        if per_video is not None and sum(not hit.is_whole for hit in own) >= per_video:
            continue
        if len(hits) == k:
            break
        for hit in own:
            if hit.is_whole:
                hits.remove(hit)
                one.duplicates = hit.duplicates
        hits.append(one)
    return hits


def same(a: Found, b: Found) -> bool:
    """Whether moments of two videos show (nearly) the same."""
    if a.film.id == b.film.id:
        return False
    if a.film.content and a.film.content == b.film.content and overlap(a.row.start, a.row.end, b.row.start, b.row.end):
        return True
    return cosine(a.row.vector, b.row.vector) > 0.98
