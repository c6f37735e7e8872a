"""Calibrating an index: generic sentences are embedded and searched, and what comes out is compared."""

import logging
from collections.abc import Callable
from contextlib import suppress
from math import comb, pi, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.models.encoder import Encoder
from vmr.retrieval.calibration.calibration import VERSION, Calibration, Rule, packed, share_below, weighed
from vmr.retrieval.calibration.sentences import other_sentences, visible_sentences
from vmr.retrieval.calibration.statistics import Bools, Floats, auc, folds, logistic_regression
from vmr.retrieval.texts import embed_texts

_logger = logging.getLogger(__name__)

Search = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Queries (Q, D), k -> scores (Q, k), best first."""

LOST = 0.08
"""Share of the sentences about visible things for which it may be said that nothing is close."""

_PENALTY = 0.1  # of the weights of words; from 0.01 to 1 the results are the same
_FOLDS = 5
_POINTS = 49  # of the reference
_SPREADS = 25.0  # at most, from the reference to a score of 1: beyond about 35 all matches are 1 in float64
_WORDS_TELL = 0.9  # AUC from which the words of a query are believed
_ALIKE = 0.7  # AUC up to which the scores of both kinds of sentences are alike, but for a few
_FAR_ABOVE = 3.0  # standard deviations
_CHANCE = 1e-3  # that so many of the scores far above the others are of visible things if scores mean nothing


def calibrate(encoder: Encoder, search: Search, rows: int) -> Calibration | None:
    """Calibrate a vector space of an index with the sentences that come with vmr.

    Args:
        encoder: made the vectors of the space.
        search: finds the scores of the best rows of the space.
        rows: how many rows the space has.

    Returns:
        The calibration; None if the index is empty, vectors or scores are not finite, or the encoder cannot embed the
        sentences, which is logged. That is no error: whatever else the index is used for works without.
    """
    if rows < 1:
        return None
    visible = frozenset(visible_sentences())
    texts = sorted((*visible_sentences(), *other_sentences()), key=len)  # encoders pad batches to their longest text
    is_visible = np.array([text in visible for text in texts])
    try:
        vectors, words = _kept_words(texts, is_visible, encoder)
    except Exception as error:  # any encoder's; queries that it can embed are not these
        _logger.warning(
            "%s cannot embed the sentences of a calibration (%s: %s): a search does not say when nothing is close",
            encoder.name,
            type(error).__name__,
            " ".join(str(error).split())[:200],
        )
        return None
    best = np.asarray(search(vectors, 1), np.float64)[:, 0]
    if not (np.isfinite(vectors).all() and np.isfinite(best).all()):
        return None
    return calibration_of(words, best, is_visible, rows)


def calibration_of(words: "Words", best: Floats, is_visible: Bools, rows: int) -> Calibration:
    """Compare sentences of both kinds.

    Args:
        words: what the words of the sentences say.
        best: the best score of each on the index, (N,).
        is_visible: whether each is about something visible, (N,).
        rows: how many rows the index has.
    """
    auc_words = auc(words.left_out[is_visible], words.left_out[~is_visible])
    auc_scores = auc(best[is_visible], best[~is_visible])
    cut = _far_above(best, is_visible) if auc_scores <= _ALIKE else None
    rule: Rule = "words" if auc_words >= _WORDS_TELL else "none" if cut is None else "domain"
    generic = best[is_visible] if rule == "words" else best
    reference = np.quantile(generic, (np.arange(_POINTS) + 0.5) / _POINTS)
    spread = max(_bandwidth(generic), (1 - float(reference[-1])) / _SPREADS)
    matches = share_below(best, reference, spread)
    threshold = 0.0
    if rule == "words":
        matches = weighed(matches, words.left_out)
        threshold = float(np.quantile(matches[is_visible], LOST))
    elif cut is not None:
        threshold = float(share_below(np.array(cut), reference, spread))
    return Calibration(
        version=VERSION,
        rows=rows,
        rule=rule,
        auc=auc(matches[is_visible], matches[~is_visible]),
        auc_words=auc_words,
        auc_scores=auc_scores,
        visible_told=float((matches[is_visible] < threshold).mean()),
        others_told=float((matches[~is_visible] < threshold).mean()),
        threshold=threshold,
        reference=tuple(reference.tolist()),
        spread=spread,
        weights=packed(words.weights) if rule == "words" else "",
        bias=words.bias if rule == "words" else 0.0,
    )


class Words(NamedTuple):
    """The log-odds that texts are about something visible: vectors @ weights + bias.

    Attributes:
        left_out: the log-odds of the sentences, each by the other folds, (N,).
    """

    weights: Floats
    bias: float
    left_out: Floats


def _kept_words(texts: list[str], is_visible: Bools, encoder: Encoder) -> tuple[NDArray[np.float32], Words]:
    """Embed the sentences and weigh their words; both are kept in vmr's cache, because they take some seconds.

    They depend on nothing but the encoder and the sentences.
    """
    # Imports the readers of videos, without which a search starts sooner.
    from vmr.retrieval.feature_cache import FeatureCache, texts_key

    cache, size = FeatureCache(), (len(texts) + 1, encoder.embed_dim + 1)
    limit = getattr(encoder, "max_text_tokens", None)
    key = texts_key([f"calibration {VERSION} of {encoder.name}", *texts], limit, encoder.fingerprint)
    kept = None
    with suppress(VmrError):  # a cache that cannot be used is no reason to fail
        kept = cache.texts(key)
    if kept is None or kept.shape != size:
        vectors = embed_texts(texts, encoder)
        words = weigh_words(vectors.astype(np.float64), is_visible)
        kept = np.empty(size, np.float32)
        kept[:-1, :-1], kept[:-1, -1], kept[-1, :-1], kept[-1, -1] = vectors, words.left_out, words.weights, words.bias
        if np.isfinite(kept).all():
            with suppress(VmrError):
                cache.put_texts(key, kept)
    rest = kept.astype(np.float64)
    return np.ascontiguousarray(kept[:-1, :-1]), Words(rest[-1, :-1], float(rest[-1, -1]), rest[:-1, -1])


def weigh_words(vectors: Floats, is_visible: Bools) -> Words:
    """Weigh the words: a linear separation, whose distances are turned into odds by sentences that were left out.

    Args:
        vectors: of sentences, (N, D).
        is_visible: whether each is about something visible, (N,), with at least _FOLDS of both kinds.
    """
    fold = folds(is_visible, _FOLDS, seed=0)
    distances = np.empty(len(vectors))
    for number in range(_FOLDS):
        held_out = fold == number
        weights, bias = logistic_regression(vectors[~held_out], is_visible[~held_out], _PENALTY)
        distances[held_out] = vectors[held_out] @ weights + bias
    (scale,), shift = logistic_regression(distances[:, None], is_visible, 1e-3)
    weights, bias = logistic_regression(vectors, is_visible, _PENALTY)
    return Words(weights * scale, float(bias * scale + shift), distances * scale + shift)


def _far_above(best: Floats, is_visible: Bools) -> float | None:
    """The score above which only an index of a special domain answers a few sentences, which are about visible things.

    Returns:
        The score; None if those above it are of both kinds, as if scores meant nothing.
    """
    low, middle, high = np.quantile(best, (0.25, 0.5, 0.75))
    cut = float(middle + _FAR_ABOVE * (high - low) / 1.349)  # the quartiles of a normal distribution
    above = is_visible[best > cut]
    return cut if _chance_of(int(above.sum()), len(above), float(is_visible.mean())) < _CHANCE else None


def _chance_of(successes: int, trials: int, chance: float) -> float:
    """The probability of at least so many successes in independent trials."""
    more = range(successes, trials + 1)
    return float(sum(comb(trials, number) * chance**number * (1 - chance) ** (trials - number) for number in more))


def _bandwidth(values: Floats) -> float:
    """Silverman's rule of thumb, as the scale of a logistic distribution; larger than 0."""
    low, high = np.quantile(values, (0.25, 0.75)).tolist()
    width: float = 1.06 * min(float(values.std()), (high - low) / 1.34) / len(values) ** 0.2
    return max(width * sqrt(3) / pi, 1e-6)
