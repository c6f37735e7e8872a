"""What is known about the scores of an index: how near is near, and which queries are about nothing visible."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import IndexFileError, VmrError
from vmr.from_json import as_json, from_json
from vmr.retrieval.calibration.statistics import Floats, sigmoid

Rule = Literal["words", "domain", "none"]

VERSION = 1  # of the sentences and of how they are used: a calibration of another version is made again
_AGAINST = 8.0  # words count if they make it so many times as likely that nothing visible is meant
_POWER = 4.0
GROWTH = 1.5  # an index is calibrated again when it has so many times the rows


@dataclass(frozen=True)
class Calibration:
    """How the scores of one vector space of an index are read. Made by `calibrate`, kept in the index as JSON.

    Attributes:
        version: VERSION of the code that made it.
        rows: rows of the index when it was made.
        rule: what tells that nothing is close: "words", the text together with the score; "domain", the score alone,
            because the model knows one special domain, about which few of the sentences are; "none", nothing does.
        auc: how well sentences about visible things are told from the others by their matches, from 0.5 (not at all)
            to 1; each was left out when the words were weighed.
        auc_words: the same by the texts alone, without the index.
        auc_scores: the same by the best score on the index alone.
        visible_told: share of the sentences about visible things for which `nothing_close` is said.
        others_told: share of the other sentences for which it is said.
        threshold: the match below which nothing is close; 0 if that is never said.
        reference: best scores of generic sentences on this index, at equal shares of them, ascending.
        spread: how much each of these scores is blurred.
        weights: their product with the vector of a text, and `bias`, are the log of the odds that the text is about
            something visible. base64 of float16 (D,) in little-endian order; empty if words say nothing.
        bias: see weights.
    """

    version: int
    rows: int
    rule: Rule
    auc: float
    auc_words: float
    auc_scores: float
    visible_told: float
    others_told: float
    threshold: float
    reference: tuple[float, ...]
    spread: float
    weights: str
    bias: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration | None":
        """Read what `to_json` made; None if there is nothing, or another version of vmr made it.

        Raises:
            IndexFileError: it is damaged.
        """
        if value.get("version") != VERSION:
            return None
        try:
            calibration: Calibration = from_json(cls, dict(value), "calibration")
            _unpacked(calibration.weights)
        except (ValueError, VmrError) as error:
            raise IndexFileError(
                f"the calibration of the index is damaged: {error}: vmr-index build repairs it"
            ) from error
        return calibration

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**as_json(self), "reference": list(self.reference)}

    def is_for(self, rows: int) -> bool:
        """Whether it still holds for an index of so many rows, or is to be made again."""
        return self.rows <= GROWTH * rows and rows < GROWTH * self.rows

    def match(self, scores: ArrayLike, query: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Say what the scores of hits mean.

        A match is the share of generic sentences about visible things whose best hit in this index has a lower score.
        It is less if the words of the query speak against its being about something visible, see `weighed`. So it
        grows with the score, and can be compared between queries.

        Args:
            scores: of hits of one query, of any shape.
            query: the vector of the query, (D,).

        Returns:
            Matches in [0, 1], of the shape of the scores.
        """
        near = share_below(np.asarray(scores, np.float64), np.asarray(self.reference), self.spread)
        return weighed(near, self.log_odds(query))

    def log_odds(self, queries: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the log of the odds that queries are about something visible, as far as their words tell.

        Args:
            queries: their vectors, (..., D).

        Returns:
            (...,); 0 if words say nothing.
        """
        vectors = np.asarray(queries, np.float64)
        if not self.weights:
            return np.zeros(vectors.shape[:-1])
        log_odds: Floats = vectors @ self._weights + self.bias
        return log_odds

    def nothing_close(self, best_match: float) -> bool:
        """Whether a query is about nothing in the index, as far as the encoder can tell.

        Args:
            best_match: the match of its best hit.
        """
        return best_match < self.threshold

    def summary(self) -> str:
        """Say in one line how far this encoder can tell on this index that nothing is close."""
        if self.rule == "none":
            return (
                "cannot be told: the model does not tell queries about nothing visible from others "
                f"(AUC {self.auc:.2f} on sentences of both kinds)"
            )
        if self.rule == "domain":
            return (
                "told by the score: the model knows a special domain, which "
                f"{1 - self.visible_told:.1%} of generic queries are about; said for {self.others_told:.0%} of those "
                "about nothing visible"
            )
        return (
            f"told with AUC {self.auc:.3f}: said for {self.others_told:.0%} of generic queries about nothing visible, "
            f"and for {self.visible_told:.0%} of those about visible things"
        )

    @cached_property
    def _weights(self) -> Floats:
        return _unpacked(self.weights)


def packed(weights: Floats) -> str:
    """Return numbers as `Calibration.weights` holds them."""
    return b64encode(weights.astype("<f2").tobytes()).decode()


def _unpacked(weights: str) -> Floats:
    return np.frombuffer(b64decode(weights, validate=True), "<f2").astype(np.float64)


def weighed(near: Floats, log_odds: Floats | float) -> Floats:
    """Lower matches of queries whose words speak against their being about something visible.

    Nothing changes unless the odds of the words are below 1 to _AGAINST: nearly all real queries stay as they are. Then
    the odds of the match are multiplied by (_AGAINST * odds) to the power of _POWER.

    Args:
        near: matches by the scores alone, in [0, 1].
        log_odds: log of the odds that the query is about something visible, of a shape that fits.

    Returns:
        Matches in [0, 1].
    """
    odds = np.exp(_POWER * np.clip(np.log(_AGAINST) + log_odds, -50.0, 0.0))
    lowered: Floats = near * odds / (near * odds + (1 - near))
    return lowered


def share_below(scores: Floats, reference: Floats, spread: float) -> Floats:
    """Return the share of a reference that lies below scores; each of its values is blurred.

    Args:
        scores: of any shape.
        reference: (N,).
        spread: scale of the logistic distribution that each value of the reference stands for.

    Returns:
        Shares in [0, 1], of the shape of the scores.
    """
    share: Floats = sigmoid((scores[..., None] - reference) / spread).mean(-1)
    return share
