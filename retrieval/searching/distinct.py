"""Leaving out what shows the same as a better hit, and more moments of a video than were asked for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from vmr.retrieval.searching.candidates import Candidate
from vmr.retrieval.vectors.ranking import inner_products
from vmr.retrieval.vectors.store import Vectors

NEAR_DUPLICATE = 0.98
"""Moments of two videos show the same if the cosine similarity of their best windows is above this."""


@dataclass(eq=False)
class Kept:
    """A moment that becomes a hit, and the paths of other videos that show the same."""

    moment: Candidate
    duplicates: list[str] = field(default_factory=list)


def distinct(
    candidates: Iterable[Candidate],
    k: int,
    *,
    per_video: int | None = None,
    keep_duplicates: bool = False,
    seed: Candidate | None = None,
) -> list[Kept]:
    """Choose the k best moments that differ from each other.

    - A moment that shows the same as a better one of another video is a duplicate of it, and listed there if it is
      better than the moment after the last one that is chosen.
    - The row of a whole video is chosen only while no other moment of the video is. The first one takes its place.

    Args:
        candidates: moments, best first; no more of them are taken than are needed.
        k: how many moments to choose at most.
        per_video: how many moments of a video to choose at most; None for any number.
        keep_duplicates: choose moments that show the same as well.
        seed: a moment that is not chosen itself, nor any that overlaps it, nor its duplicates.
    """
    chosen = _Chosen()
    if seed is not None:
        chosen.add(Kept(seed))
    limit = k + len(chosen.kept)
    of_video: dict[int, list[Kept]] = {}
    for moment in candidates:
        if seed is not None and _overlap(seed, moment):
            continue
        same = None if keep_duplicates else chosen.same_as(moment)
        if same is not None:
            if moment.video.file not in same.duplicates:
                same.duplicates.append(moment.video.file)
            continue
        siblings = of_video.get(moment.video.id, [])
        whole = [one for one in siblings if one.moment.is_whole]
        if (moment.is_whole and siblings) or len(siblings) - len(whole) == per_video:
            continue
        if len(chosen.kept) == limit:
            break
        own = Kept(moment, [file for one in whole for file in one.duplicates])
        of_video[moment.video.id] = [one for one in siblings if not one.moment.is_whole] + [own]
        chosen.replace(whole, own)
    return chosen.kept[limit - k :]


class _Chosen:
    """Moments that were chosen, in their order, and a matrix of their vectors to compare others with."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self._contents: set[bytes] = set()  # of their files, as far as they are known
        self._last: tuple[Candidate, Vectors] | None = None
        self._units = np.empty((0, 0), np.float32)  # with length 1; longer than needed: it grows by doubling

    def add(self, one: Kept) -> None:
        """Put a moment behind the others."""
        count, unit = len(self.kept), self._unit_of(one.moment)
        if count == len(self._units):
            units = np.empty((max(16, 2 * count), len(unit)), np.float32)
            units[:count] = self._units[:count] if count else 0
            self._units = units
        self._units[count] = unit
        self.kept.append(one)
        if one.moment.video.content_hash:
            self._contents.add(one.moment.video.content_hash)

    def replace(self, old: list[Kept], new: Kept) -> None:
        """Put a moment behind the others, and leave out some of them."""
        if old:
            left, self.kept = [one for one in self.kept if one not in old], []
            for one in left:
                self.add(one)
        self.add(new)

    def same_as(self, moment: Candidate) -> Kept | None:
        """Return the first moment of another video that shows (nearly) the same."""
        if not self.kept:
            return None
        video, content = moment.video.id, moment.video.content_hash
        is_same = inner_products(self._units[: len(self.kept)], self._unit_of(moment)) > NEAR_DUPLICATE
        if content in self._contents:
            is_same |= [one.moment.video.content_hash == content and _meet(one.moment, moment) for one in self.kept]
        places = is_same.nonzero()[0].tolist()
        return next((self.kept[place] for place in places if self.kept[place].moment.video.id != video), None)

    def _unit_of(self, moment: Candidate) -> Vectors:
        """The vector of a moment with length 1; one of length 0 stays."""
        if self._last is None or self._last[0] is not moment:  # it is compared, and then chosen
            vector = moment.vector
            squared = float(np.dot(vector, vector))
            self._last = moment, vector / np.float32(math.sqrt(squared)) if squared > 0 else vector
        return self._last[1]


def _overlap(a: Candidate, b: Candidate) -> bool:
    return a.video.id == b.video.id and a.start_s < b.end_s and b.start_s < a.end_s


def _meet(a: Candidate, b: Candidate) -> bool:
    """Tell whether the best windows overlap, of two files of the same content."""
    return a.span[0] < b.span[1] and b.span[0] < a.span[1]
