"""Small statistics on numpy arrays: logistic regression, the area under a curve, and a smooth distribution.

N rows, D columns.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_STEPS = 25  # of Newton's method, which needs fewer
_ENOUGH = 1e-6


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow; shape and order of x stay."""
    result: Floats = 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))
    return result


def logistic_regression(rows: Floats, labels: Bools, penalty: float) -> tuple[Floats, float]:
    """Fit the probability of a label: sigmoid(rows @ weights + bias).

    The log-likelihood less penalty / 2 * |weights|^2 is maximised by Newton's method, with steps that are halved until
    they improve it; the bias is free.

    Args:
        rows: (N, D).
        labels: (N,), of both kinds.
        penalty: larger than 0.

    Returns:
        Weights (D,), and the bias.
    """
    x = np.column_stack([rows, np.ones(len(rows))])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-6  # keeps the equations solvable

    def loss(weights: Floats) -> float:
        logits = x @ weights
        return float(np.sum(np.logaddexp(0, logits) - labels * logits) + 0.5 * ridge @ weights**2)

    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        chance = sigmoid(x @ weights)
        gradient = x.T @ (chance - labels) + ridge * weights
        curvature = (x.T * (chance * (1 - chance))) @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() >= _ENOUGH and loss(weights - step) > loss(weights):
            step /= 2
        weights = weights - step
        if np.abs(step).max() < _ENOUGH:
            break
    return weights[:-1], float(weights[-1])


def auc(higher: Floats, lower: Floats) -> float:
    """Return how often a value of the first kind is larger than one of the second; a tie counts as half.

    This is the area under the ROC curve: 0.5 means that they cannot be told apart, 1 that all of them can.

    Args:
        higher: (N,), at least one.
        lower: (M,), at least one.
    """
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left") + np.searchsorted(ordered, higher, side="right")
    return float(below.mean() / (2 * len(lower)))


def folds(labels: Bools, num_folds: int, seed: int) -> NDArray[np.int64]:
    """Deal rows into folds that hold equally many of both labels, up to one.

    Args:
        labels: (N,).
        num_folds: at least 2.
        seed: of the order in which they are dealt.

    Returns:
        The fold of each row, (N,), from 0 on.
    """
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    for label in (False, True):
        places = np.flatnonzero(labels == label)
        fold[rng.permutation(places)] = np.arange(len(places)) % num_folds
    return fold
