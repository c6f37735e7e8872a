"""Scores normalised over the test queries: dual softmax and querybank normalisation.

Both use all other test queries to answer one query, which a search cannot do. So their results have their own columns,
marked *uses the other test queries*. They lower the scores of gallery items that score high for many queries, which
helps most where every gallery item is right for about one query, as in MSRVTT 1k-A.

Every text counts as a query of text to video and every video as one of video to text. Shapes: Q texts, V videos.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError

DUAL_SOFTMAX_TEMPERATURE = 0.01
"""For cosines. The paper names none; its authors say to divide by 1 when testing (starmemda/CAMoE, issue 4), where the
scores are CLIP4Clip's logits: cosines times CLIP's learned scale, which ends at 100."""

QUERYBANK_BETA = 20.0
"""The inverse temperature for cosines, the default of the authors' code (ioanacroi/qb-norm)."""

# exp of less leaves the normal float64 numbers together with a score of sensible size, and items would tie at zero.
_SMALLEST_LOG_WEIGHT = -600.0

Floats = NDArray[np.float64]


class NormalisedScores(NamedTuple):
    """Scores of both directions. Each is normalised over its own queries, so they are not transposes of each other."""

    text_to_video: Floats
    """(Q, V)"""
    video_to_text: Floats
    """(V, Q)"""


def dual_softmax(scores: ArrayLike, temperature: float = DUAL_SOFTMAX_TEMPERATURE) -> NormalisedScores:
    """Return each score times its share among all queries of the same gallery item. Uses the other test queries.

    For query i and item j the result is `num_queries * scores[i, j] * softmax(scores[:, j] / temperature)[i]`: Cheng
    et al. 2021 (CAMoE), as in their code. A score below 0 falls further the larger its share is: the formula is meant
    for the positive scores of likely pairs.

    Args:
        scores: (Q, V), higher is better, finite.
        temperature: divides the scores; above 0.

    Raises:
        VmrError: a score is NaN or infinite, the temperature is not above 0, or the scores of one item differ by so
            many temperatures that the small shares vanish, as matching logits do at the temperature for cosines.
    """
    matrix = _finite(scores)
    if not 0 < temperature < np.inf:
        raise VmrError(f"temperature is {temperature}: expected a number above 0")
    return NormalisedScores(_dual_softmax(matrix, temperature), _dual_softmax(matrix.T, temperature))


def qb_norm(scores: ArrayLike, beta: float = QUERYBANK_BETA) -> NormalisedScores:
    """Return the logarithm of querybank-normalised scores. Uses the other test queries.

    For query i and item j the result is
    `beta * scores[i, j] - log(sum over all queries q of exp(beta * scores[q, j]))`: Bogolin et al. 2022, with the test
    queries themselves as the querybank. Their dynamic inverted softmax does not change a query whose best item is not
    among the k best of any query of the bank. Here every query is in the bank, so there is no such query, and no k to
    choose. The logarithm gives the same ranks as the quotient and cannot overflow.

    Args:
        scores: (Q, V), higher is better, finite.
        beta: the inverse temperature; above 0.

    Raises:
        VmrError: a score is NaN or infinite, or beta is not above 0.
    """
    matrix = _finite(scores)
    if not 0 < beta < np.inf:
        raise VmrError(f"beta is {beta}: expected a number above 0")
    return NormalisedScores(_log_softmax(matrix * beta), _log_softmax(matrix.T * beta))


def _dual_softmax(scores: Floats, temperature: float) -> Floats:
    """Weigh scores, (num_queries, num_gallery), by their share among all queries; the same shape."""
    log_shares = _log_softmax(scores / temperature)
    if log_shares.min() < _SMALLEST_LOG_WEIGHT:
        raise VmrError(
            f"scores of one gallery item spread over {-log_shares.min():.0f} temperatures of {temperature}: "
            "choose a temperature that fits the scale of the scores (0.01 fits cosines)"
        )
    np.exp(log_shares, out=log_shares)
    log_shares *= scores
    log_shares *= len(scores)
    return log_shares


def _log_softmax(scores: Floats) -> Floats:
    """Over the queries: the exponentials of each column of (num_queries, num_gallery) sum to 1."""
    # scipy.special.log_softmax does the same, but these four lines do not justify a dependency of 35 MB.
    highest = scores.max(axis=0)  # (num_gallery,)
    shifted: Floats = scores - highest
    shifted -= np.log(np.exp(shifted).sum(axis=0))
    return shifted


def _finite(scores: ArrayLike) -> Floats:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise VmrError(f"scores must be (num_texts, num_videos) and not empty, got shape {matrix.shape}")
    num_broken = int(np.count_nonzero(~np.isfinite(matrix)))
    if num_broken:
        raise VmrError(
            f"{num_broken} of {matrix.size} scores are NaN or infinite: normalising over the queries needs every score"
        )
    return matrix
