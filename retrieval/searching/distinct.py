"""Leaving out what shows the same as a better hit, and more moments of a video than were asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from vmr.retrieval.searching.candidates import Candidate
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
    chosen = [] if seed is None else [Kept(seed)]
    limit = k + len(chosen)
    of_video: dict[int, list[Kept]] = {}
    for moment in candidates:
        if seed is not None and _overlap(seed, moment):
            continue
        same = None if keep_duplicates else next((one for one in chosen if _is_same(one.moment, moment)), None)
        if same is not None:
            if moment.video.file not in same.duplicates:
                same.duplicates.append(moment.video.file)
            continue
        siblings = of_video.get(moment.video.id, [])
        whole = [one for one in siblings if one.moment.is_whole]
        if (moment.is_whole and siblings) or len(siblings) - len(whole) == per_video:
            continue
        if len(chosen) == limit:
            break
        own = Kept(moment, [file for one in whole for file in one.duplicates])
        of_video[moment.video.id] = [one for one in siblings if not one.moment.is_whole] + [own]
        chosen = [one for one in chosen if one not in whole] + [own]
    return chosen[limit - k :]


def _overlap(a: Candidate, b: Candidate) -> bool:
    return a.video.id == b.video.id and a.start_s < b.end_s and b.start_s < a.end_s


def _is_same(a: Candidate, b: Candidate) -> bool:
    """Tell whether moments of two videos show (nearly) the same."""
    if a.video.id == b.video.id:
        return False
    is_copy = bool(a.video.content_hash) and a.video.content_hash == b.video.content_hash
    if is_copy and a.span[0] < b.span[1] and b.span[0] < a.span[1]:
        return True
    return _cosine(a.vector, b.vector) > NEAR_DUPLICATE


def _cosine(a: Vectors, b: Vectors) -> float:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.dot(a, b)) / lengths if lengths > 0 else 0.0
