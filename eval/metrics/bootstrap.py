"""How much a metric varies with other queries of the same kind: percentile bootstrap over the queries.

A resample draws as many queries as there are, with replacement (Efron & Tibshirani 1993, chapter 13). All metrics are
functions of the number of times that each rank occurs, and in a resample these counts follow a multinomial
distribution. So drawing the counts is equivalent to drawing the queries, and needs one number per distinct rank
instead of one per query. The metrics of a classifier are resampled over its videos in the same way.

Queries are assumed to be independent. Several captions of one video are not quite independent, so if a protocol has
many captions per video, its text-to-video intervals are a little too narrow. The gallery is fixed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.eval.metrics.ranks import RECALL_AT, DirectionRanks, summary

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95

# Counts are drawn in blocks of about this many numbers, so that the working memory stays at some 100 MB.
_BLOCK_ELEMENTS = 1 << 21

Floats = NDArray[np.float64]
Key = TypeVar("Key")
Statistic = Callable[[NDArray[Any], NDArray[np.int64]], dict[str, Floats]]
"""(distinct rows (num_distinct, num_columns), how often each was drawn (R, num_distinct)) -> values (R,) by name."""


class Difference(NamedTuple):
    """How two results, a and b, on the same queries differ in one metric.

    Attributes:
        value: the metric of a minus that of b, in the metric's unit. Above 0, a has the higher recall, or the worse
            rank.
        low: lower bound of the interval of `value`.
        high: upper bound of the interval of `value`.
        share_not_above: share of the resamples, in [0, 1], whose difference is 0 or less.
    """

    value: float
    low: float
    high: float
    share_not_above: float


def intervals(
    ranks: DirectionRanks, *, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the interval (low, high) of every metric of `bidirectional_summary`, under the same keys.

    The queries of the two directions are resampled independently. The same arguments give the same numbers.

    Args:
        ranks: the ranks of the queries of both directions.
        num_resamples: how often to resample, at least 1.
        confidence: the share of resamples inside the interval, in (0, 1).
        seed: the seed of the random numbers.

    Raises:
        VmrError: a direction has no query, a rank is below 1, or a setting is out of range.
    """
    _check(num_resamples, confidence)
    resampled: dict[str, Floats] = {}
    for number, (direction, row) in enumerate(ranks._asdict().items()):
        random = np.random.default_rng([seed, number])
        (metrics,) = _resampled_metrics(_columns(row), num_resamples, random)
        resampled |= {f"{direction}/{key}": values for key, values in metrics.items()}
    resampled["rsum"] = sum((values for key, values in resampled.items() if "/R@" in key), np.zeros(num_resamples))
    return {key: _interval(values, confidence) for key, values in resampled.items()}


def paired_difference(
    a: NDArray[np.integer],
    b: NDArray[np.integer],
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return how `a` differs from `b` in R@1, R@5, R@10, MdR and MnR.

    Each resample draws the queries once for both, so that what makes a query hard for both does not widen the interval.

    Args:
        a: ranks, from 1, (num_queries,).
        b: ranks of the same queries in the same order.
        num_resamples: as in `intervals`.
        confidence: as in `intervals`.
        seed: as in `intervals`.

    Raises:
        VmrError: as in `intervals`, or the numbers of queries differ.
    """
    _check(num_resamples, confidence)
    if len(a) != len(b):
        raise VmrError(f"{len(a)} ranks against {len(b)}: a paired difference needs the same queries")
    of_a, of_b = _resampled_metrics(_columns(a, b), num_resamples, np.random.default_rng(seed))
    values_of_a, values_of_b = summary(a), summary(b)
    return {key: _difference(values_of_a[key] - values_of_b[key], of_a[key] - of_b[key], confidence) for key in of_a}


def statistic_intervals(
    rows: NDArray[Any],
    statistic: Statistic,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the interval of every value that a function of resampled rows gives.

    Args:
        rows: what is known of each item, (num_items, num_columns).
        statistic: the function.
        num_resamples: as in `intervals`.
        confidence: as in `intervals`.
        seed: as in `intervals`.

    Raises:
        VmrError: there is no row, or a setting is out of range.
    """
    _check(num_resamples, confidence)
    values = _resampled(rows, statistic, num_resamples, np.random.default_rng(seed))
    return {key: _interval(each, confidence) for key, each in values.items()}


def statistic_differences(
    a: NDArray[Any],
    b: NDArray[Any],
    statistic: Statistic,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return how a function of rows `a` differs from that of rows `b` of the same items, drawn once for both.

    Args:
        a: what is known of each item, (num_items, num_columns).
        b: the same of the other result.
        statistic: as in `statistic_intervals`.
        num_resamples: as in `intervals`.
        confidence: as in `intervals`.
        seed: as in `intervals`.

    Raises:
        VmrError: as in `statistic_intervals`, or the numbers of items or columns differ.
    """
    _check(num_resamples, confidence)
    if a.shape != b.shape:
        raise VmrError(f"rows of shape {a.shape} against {b.shape}: a paired difference needs the same items")
    num_columns = a.shape[1]

    def difference(distinct: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Floats]:
        of_a, of_b = statistic(distinct[:, :num_columns], counts), statistic(distinct[:, num_columns:], counts)
        return {key: of_a[key] - of_b[key] for key in of_a}

    both = np.concatenate([a, b], axis=1)
    resampled = _resampled(both, difference, num_resamples, np.random.default_rng(seed))
    values = difference(both, np.ones((1, len(both)), np.int64))
    return {key: _difference(float(values[key][0]), each, confidence) for key, each in resampled.items()}


def share_interval(
    hits: NDArray[np.bool_], *, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of a percentage, [0, 100], by the bootstrap that all other metrics use.

    Args:
        hits: which queries are right, (num_queries,).
        num_resamples: as in `intervals`.
        confidence: as in `intervals`.
        seed: as in `intervals`.

    Raises:
        VmrError: there is no query, or a setting is out of range.
    """
    # The hits of a resample follow a binomial distribution, so they are drawn from it. Wilson's interval
    # (scipy.stats.binomtest) is different: it could not be compared with the intervals of R@K, nor with those in
    # existing reports.
    _check(num_resamples, confidence)
    if not len(hits):
        raise VmrError("no queries to resample")
    num_hits = np.random.default_rng(seed).binomial(len(hits), np.mean(hits), num_resamples)
    return _interval(100.0 * num_hits / len(hits), confidence)


def _check(num_resamples: int, confidence: float) -> None:
    if num_resamples < 1:
        raise VmrError(f"num_resamples is {num_resamples}: expected at least 1")
    if not 0 < confidence < 1:
        raise VmrError(f"confidence is {confidence}: expected a number between 0 and 1, such as 0.95")


def _columns(*rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of ranks (num_queries,) -> (num_queries, num_rows), checked."""
    columns = np.stack([np.asarray(row, dtype=np.int64) for row in rows], axis=1)
    if not len(columns):
        raise VmrError("no queries to resample")
    if columns.min() < 1:
        raise VmrError(f"a rank is {columns.min()}: ranks count from 1")
    return columns


def _resampled_metrics(
    columns: NDArray[np.int64], num_resamples: int, random: np.random.Generator
) -> list[dict[str, Floats]]:
    """The metrics (num_resamples,) of each column of ranks (num_queries, num_columns), resampled together."""

    def of_each(distinct: NDArray[Any], drawn: NDArray[np.int64]) -> dict[tuple[int, str], Floats]:
        every = enumerate(_metrics_of_counts(values, drawn) for values in distinct.T)
        return {(number, key): values for number, metrics in every for key, values in metrics.items()}

    resampled = _resampled(columns, of_each, num_resamples, random)
    numbers = range(columns.shape[1])
    return [{key: values for (place, key), values in resampled.items() if place == number} for number in numbers]


def _resampled(
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any], NDArray[np.int64]], dict[Key, Floats]],
    num_resamples: int,
    random: np.random.Generator,
) -> dict[Key, Floats]:
    """The values (num_resamples,) of a function of the rows (num_items, num_columns)."""
    if not len(rows):
        raise VmrError("nothing to resample")
    distinct, counts = np.unique(rows, axis=0, return_counts=True)  # (num_distinct, num_columns), (num_distinct,)
    blocks = [statistic(distinct, drawn) for drawn in _draws(counts, num_resamples, random)]
    return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}


def _draws(counts: NDArray[np.int64], num_resamples: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each distinct row occurs in each resample: blocks (some resamples, num_distinct)."""
    num_queries = int(counts.sum())
    per_block = max(1, _BLOCK_ELEMENTS // len(counts))
    for start in range(0, num_resamples, per_block):
        yield random.multinomial(num_queries, counts / num_queries, size=min(per_block, num_resamples - start))


def _metrics_of_counts(values: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, Floats]:
    """`summary` of many rows at once: value values[n] (num_values,) occurs counts[r, n] times in row r."""
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[:, order]
    up_to = np.cumsum(counts, axis=1)  # (num_rows, num_values): how many are at most values[n]
    total = int(up_to[0, -1])
    metrics = {}
    for k in RECALL_AT:
        last = int(np.searchsorted(values, k, side="right")) - 1
        metrics[f"R@{k}"] = 100.0 * up_to[:, last] / total if last >= 0 else np.zeros(len(counts))
    lower, upper = (values[np.argmax(up_to > place, axis=1)] for place in ((total - 1) // 2, total // 2))
    metrics["MdR"] = (lower + upper) / 2
    metrics["MnR"] = counts @ values / total
    return metrics


def _difference(value: float, resampled: Floats, confidence: float) -> Difference:
    low, high = _interval(resampled, confidence)
    return Difference(value, low, high, float(np.mean(resampled <= 0)))


def _interval(values: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
