"""Multiple choice: one video, a few captions, one of them right (MSRVTT-MC: five captions a video)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmr.errors import VmrError


class ChoiceLike(Protocol):
    """One question, such as a `vmr.data.annotations.retrieval_set.Choice`."""

    @property
    def video(self) -> int:
        """The column of the scores."""

    @property
    def texts(self) -> tuple[int, ...]:
        """The rows of the scores among which to choose."""

    @property
    def answer(self) -> int:
        """The position of the right text in `texts`, from 0."""


def choice_hits(scores: ArrayLike, choices: Sequence[ChoiceLike]) -> NDArray[np.bool_]:
    """Return which questions are answered correctly.

    The right text must score above every other text of its question: a tie is wrong, and so is a question where
    another text scores NaN. By hand, with texts 0 and 1, video 0, and text 1 right: scores 0.2 and 0.3 are a hit,
    scores 0.3 and 0.3 are not.

    Args:
        scores: (num_texts, num_videos), higher is better.
        choices: the questions.

    Returns:
        bool (num_choices,). Their mean is the accuracy; `share_interval` gives its interval.

    Raises:
        VmrError: there is no question; a question names a text or video that has no score, or an answer that it does
            not have; or the score of a right text is NaN or infinite.
    """
    matrix = np.asarray(scores)
    if matrix.ndim != 2:
        raise VmrError(f"scores must be (num_texts, num_videos), got shape {matrix.shape}")
    if not choices:
        raise VmrError("no multiple-choice question to score")
    return np.array([_hit(matrix, choice, number) for number, choice in enumerate(choices)])


def _hit(scores: NDArray[np.generic], choice: ChoiceLike, number: int) -> bool:
    num_texts, num_videos = scores.shape
    if not 0 <= choice.answer < len(choice.texts):
        raise VmrError(f"question {number} has answer {choice.answer} of {len(choice.texts)} texts")
    outside = [text for text in choice.texts if not 0 <= text < num_texts]
    if outside or not 0 <= choice.video < num_videos:
        wrong = f"text {outside[0]}" if outside else f"video {choice.video}"
        raise VmrError(f"question {number} names {wrong}; the scores are of {num_texts} texts and {num_videos} videos")
    own = scores[choice.texts[choice.answer], choice.video]
    if not np.isfinite(own):
        raise VmrError(f"question {number} scores {own} for its right text {choice.texts[choice.answer]}")
    others = [text for place, text in enumerate(choice.texts) if place != choice.answer]
    return bool(np.all(scores[others, choice.video] < own))  # a NaN is not below
