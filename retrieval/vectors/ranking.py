"""Scores that do not depend on where a vector lies, and the best of them.

A library that multiplies matrices may add the products of equal vectors in different orders, so that their scores
differ in the last bits. `inner_products` always adds in the same order. The search for candidates may use any library:
what it finds is scored again, and `certain_best` asks for more candidates until rounding cannot have hidden a better
one.
"""

from collections.abc import Callable

import numpy as np

from vmr.retrieval.vectors.store import Ids, Vectors

Ranked = tuple[Vectors, Ids]
"""Scores (N,), best first, and the ids that they belong to; equal scores by id."""

_MORE_CANDIDATES = 16
_UNIT = 2.0**-24  # the rounding error of a float32 between 0.5 and 1


def inner_products(rows: Vectors, query: Vectors) -> Vectors:
    """Score vectors (N, D) against a query (D,): equal vectors get equal bits, whatever N and their places are."""
    scores: Vectors = np.multiply(rows, query).sum(axis=1)
    return scores


def rounding_margin(query: Vectors, largest_norm: float) -> float:
    """Return by how much two scores of one vector, added up in different orders, can differ.

    The error of a sum of D products is below D + 1 rounding errors of the product of the lengths (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1).

    Args:
        query: (D,).
        largest_norm: the length of the longest of the vectors.
    """
    return 2.01 * (len(query) + 2) * _UNIT * (largest_norm * float(np.linalg.norm(query)) + 2.0**-100)


def best(scores: Vectors, ids: Ids, k: int) -> Ranked:
    """Return the k best, or all if there are fewer."""
    if len(scores) > k:
        is_good = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        scores, ids = scores[is_good], ids[is_good]
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def merged(parts: list[Ranked], k: int) -> Ranked:
    """Return the k best of several lists, each of which is in order and has at most k."""
    parts = [part for part in parts if len(part[0])] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    return best(np.concatenate([scores for scores, _ in parts]), np.concatenate([ids for _, ids in parts]), k)


def certain_best(
    query: Vectors,
    k: int,
    find: Callable[[int], Ranked],
    rows_of: Callable[[Ids], Vectors],
    margin: float,
) -> Ranked:
    """Return the k best by `inner_products`, given a search that is exact up to rounding.

    Args:
        query: (D,).
        k: how many.
        find: find(n) returns the n rows with the largest scores, in any order; fewer if there are no more.
        rows_of: the vectors of ids.
        margin: by how much a score of `find` may differ from that of `inner_products`.
    """
    wanted = k + _MORE_CANDIDATES
    while True:
        rounded, ids = find(wanted)
        scores, found = best(inner_products(rows_of(ids), query), ids, k)
        if len(ids) < wanted or scores[-1] > rounded.min() + margin:
            return scores, found
        wanted *= 4
