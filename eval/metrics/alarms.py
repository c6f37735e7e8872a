"""Signs that a result is wrong: scores or embeddings that are all alike, broken or random.

A broken model still gives numbers, and some of them look plausible. Each alarm is one sentence with the numbers that
raised it. The bounds are set so that a sound model raises no alarm. But a result without an alarm may still be wrong.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError
from vmr.eval.metrics.ranks import RECALL_AT, DirectionRanks, VideoOfText, right_answers

_CONSTANT = 1e-6  # scores that differ by less than this, relative to the largest, differ by float32 rounding only
_MANY_TIES = 0.1  # share of the queries
_MOST = 0.5  # share of the queries
_OUTSIDE = 0.001  # a random model's recall lies outside the bounds with this probability
_COLLAPSED_COSINE = 0.98  # embeddings whose mean cosine is above this have collapsed
_COLLAPSED_RANK = 1.25  # embeddings whose effective rank is below this have collapsed too
_FEWEST_VECTORS = 10  # with fewer vectors than this, similar vectors are no sign of collapse
_BLOCK_ELEMENTS = 1 << 22  # scores that are checked together, which bounds the working memory

Matrix = NDArray[np.generic]
_DIRECTIONS = {
    "text_to_video": ("text to video", "text", "video"),
    "video_to_text": ("video to text", "video", "text"),
}
"""For each direction its name in words, what a query is, and what an item of the gallery is."""


def alarms(
    scores: ArrayLike,
    video_of_text: VideoOfText,
    ranks: DirectionRanks,
    *,
    video_to_text: ArrayLike | None = None,
    query_vectors: ArrayLike | None = None,
    gallery_vectors: ArrayLike | None = None,
    not_found: bool = False,
) -> list[str]:
    """Return what is suspicious about a result.

    It looks for scores that are NaN or infinite; scores that are all the same; in each direction, many queries whose
    best score is shared with a wrong item, recalls no better than those of random scores, and one gallery item that is
    wrongly the best of most queries; embeddings that are not finite, are zero, or all have the same direction.

    Args:
        scores: as in `bidirectional_ranks`.
        video_of_text: as in `bidirectional_ranks`.
        ranks: the result of `bidirectional_ranks`.
        video_to_text: as in `bidirectional_ranks`.
        query_vectors: vectors of the texts, (num_texts, D).
        gallery_vectors: vectors of the videos, (num_videos, D).
        not_found: as in `bidirectional_ranks`.

    Returns:
        One sentence for each finding.

    Raises:
        VmrError: the shapes do not fit.
    """
    matrix = np.asarray(scores)
    back = matrix.T if video_to_text is None else np.asarray(video_to_text)
    if matrix.ndim != 2 or back.shape != matrix.shape[::-1]:
        raise VmrError(f"scores have shapes {matrix.shape} and {back.shape}: expected (Q, V) and (V, Q)")
    own = dict(zip(_DIRECTIONS, right_answers(video_of_text, *matrix.shape), strict=True))
    found = [] if video_to_text is None else list(_broken_scores(back, " (video to text)", not_found))
    found = [*_broken_scores(matrix, "", not_found), *found]
    constant = _constant(matrix)
    if constant is not None:
        found.append(
            f"every pair has the same score, {constant:.6g}: the model cannot tell pairs apart; ranks are meaningless"
        )
    else:
        for direction, its_scores in (("text_to_video", matrix), ("video_to_text", back)):
            found += _direction(its_scores, own[direction], getattr(ranks, direction), *_DIRECTIONS[direction])
    for name, vectors in (("text", query_vectors), ("video", gallery_vectors)):
        found += [] if vectors is None else _collapse(np.asarray(vectors), name)
    return found


def _broken_scores(scores: Matrix, where: str, not_found: bool) -> Iterator[str]:
    counts = {"NaN": 0, "+inf": 0, "-inf": 0}
    for block in _blocks(scores):
        counts["NaN"] += int(np.count_nonzero(np.isnan(block)))
        counts["+inf"] += int(np.count_nonzero(block == np.inf))
        counts["-inf"] += 0 if not_found else int(np.count_nonzero(block == -np.inf))
    named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if named:
        yield f"of {scores.size} scores{where}, {named}: a sound model gives none; check the embeddings and the weights"


def _constant(scores: Matrix) -> float | None:
    """Return the score that all finite pairs share; None if scores differ or there is only one item."""
    if max(scores.shape) < 2:
        return None
    low, high = math.inf, -math.inf
    for block in _blocks(scores):
        finite = block[np.isfinite(block)].astype(np.float64)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low if 0 <= high - low <= _CONSTANT * max(abs(low), abs(high)) else None


def _direction(
    scores: Matrix, own_items: Sequence[Sequence[int]], ranks: NDArray[np.int64], direction: str, query: str, item: str
) -> Iterator[str]:
    """The alarms of one direction. own_items: for every row of the scores; empty for a row that is no query."""
    queries = np.array([row for row, items in enumerate(own_items) if items], dtype=np.int64)
    if len(ranks) != len(queries):
        raise VmrError(f"{direction}: {len(ranks)} ranks for {len(queries)} queries")
    tied, wrong_best = _tops(scores, queries, own_items)
    if tied > _MANY_TIES * len(queries):
        yield (
            f"{direction}: {tied} of {len(queries)} queries share their best score between several {item}s: "
            "scores tie too often for ranks to mean much"
        )
    yield from _random_level(ranks, [len(set(own_items[row])) for row in queries], scores.shape[1], direction)
    hub = int(np.argmax(wrong_best))  # a "hub" is an item that is near to most queries
    if wrong_best[hub] > _MOST * len(queries):
        yield (
            f"{direction}: {item} {hub} is wrongly the best for {wrong_best[hub]} of {len(queries)} queries: "
            f"it is found first for nearly every {query}"
        )


def _tops(
    scores: Matrix, queries: NDArray[np.int64], own_items: Sequence[Sequence[int]]
) -> tuple[int, NDArray[np.int64]]:
    """How many queries share their best score with a wrong item, and how often each item is alone and wrongly best."""
    num_tied = 0
    wrong_best = np.zeros(scores.shape[1], dtype=np.int64)
    rows_per_block = max(1, _BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(queries), rows_per_block):
        rows = queries[start : start + rows_per_block]
        block = np.nan_to_num(scores[rows].astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        best = block.max(axis=1, keepdims=True)
        is_best = (block == best) & (best > -np.inf)
        num_best = is_best.sum(axis=1)
        num_own = np.array([is_best[n, list(set(own_items[row]))].sum() for n, row in enumerate(rows)])
        num_tied += int(np.count_nonzero((num_best > 1) & (num_own < num_best)))
        alone = (num_best == 1) & (num_own == 0)
        wrong_best += np.bincount(np.argmax(block[alone], axis=1), minlength=len(wrong_best))
    return num_tied, wrong_best


def _random_level(ranks: NDArray[np.int64], num_own: Sequence[int], num_gallery: int, direction: str) -> Iterator[str]:
    """An alarm if no recall is above that of random scores. It names the largest k whose recall could be above.

    Queries are taken to be independent, as in `bootstrap`.
    """
    sentence = ""
    kinds, counts = np.unique(num_own, return_counts=True)
    for k in RECALL_AT:
        hits = int(np.count_nonzero(ranks <= k))
        low, high = _chance_bounds([_chance(int(own), num_gallery, k) for own in kinds], counts)
        if hits > high:
            return
        if high < len(ranks):
            share, lowest, highest = (f"{100 * count / len(ranks):.2f}" for count in (hits, low, high))
            sentence = (
                f"{direction} is no better than chance: R@{k} is {share} %, where random scores give {lowest} to "
                f"{highest} % ({len(ranks)} queries, {num_gallery} in the gallery)"
            )
    if sentence:
        yield sentence


def _chance(num_own: int, num_gallery: int, k: int) -> float:
    """The probability that one of num_own items is among the first k of a random order."""
    return 1.0 - math.comb(num_gallery - num_own, k) / math.comb(num_gallery, k) if k < num_gallery else 1.0


def _chance_bounds(chances: Sequence[float], counts: NDArray[np.int64]) -> tuple[int, int]:
    """The central 99.9 % interval of how many independent events happen, counts[n] of which have chances[n]."""
    distribution: NDArray[np.floating[Any]] = np.ones(1)
    for chance, count in zip(chances, counts, strict=True):
        distribution = np.convolve(distribution, _binomial(int(count), chance))
    up_to = np.cumsum(distribution)
    low = int(np.searchsorted(up_to, _OUTSIDE / 2))
    return low, min(len(distribution) - 1, int(np.searchsorted(up_to, 1 - _OUTSIDE / 2)))


def _binomial(n: int, p: float) -> NDArray[np.float64]:
    """The probabilities of 0 to n events, (n + 1,).

    scipy.stats.binom.pmf gives the same, but these ten lines do not justify a dependency of 35 MB.
    """
    probabilities = np.zeros(n + 1)
    if p in (0.0, 1.0):
        probabilities[n if p else 0] = 1.0
        return probabilities
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    np.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p), out=probabilities)
    return probabilities


def _collapse(vectors: Matrix, name: str) -> Iterator[str]:
    """The alarms of embeddings (num_vectors, D), whatever their lengths."""
    if vectors.ndim != 2:
        raise VmrError(f"{name} vectors must be (num_{name}s, D), got shape {vectors.shape}")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        yield f"{np.count_nonzero(~finite)} of {len(vectors)} {name} embeddings have NaN or infinite numbers"
    kept = vectors[finite].astype(np.float64)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    num_zero = int(np.count_nonzero(lengths == 0))
    if num_zero:
        yield f"{num_zero} of {len(vectors)} {name} embeddings are zero"
    units = kept[lengths[:, 0] > 0] / lengths[lengths > 0][:, None]
    n = len(units)
    if n < _FEWEST_VECTORS:
        return
    cosine = (float(np.square(units.sum(axis=0)).sum()) - n) / (n * (n - 1))  # the mean over all pairs of two
    rank = _effective_rank(units)
    if cosine > _COLLAPSED_COSINE or rank < _COLLAPSED_RANK:
        yield (
            f"the {n} {name} embeddings have collapsed: their mean pairwise cosine is {cosine:.4f} and their effective "
            f"rank is {rank:.2f} of {min(units.shape)}"
        )


def _effective_rank(units: NDArray[np.float64]) -> float:
    """How many directions unit vectors (n, D) use: exp of the entropy of the energy in each principal direction.

    Roy & Vetterli 2007 with squared singular values, so that rounding noise in many dimensions does not look like rank.
    """
    gram = units.T @ units if units.shape[1] < len(units) else units @ units.T
    energies = np.linalg.eigvalsh(gram).clip(min=0) / len(units)  # they sum to 1
    energies = energies[energies > 0]
    return float(np.exp(-np.sum(energies * np.log(energies))))


def _blocks(scores: Matrix) -> Iterator[Matrix]:
    rows_per_block = max(1, _BLOCK_ELEMENTS // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows_per_block):
        yield scores[start : start + rows_per_block]
