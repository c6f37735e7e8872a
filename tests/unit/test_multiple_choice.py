"""Multiple choice worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmr.data.annotations.retrieval_set import Choice
from vmr.errors import VmrError
from vmr.eval.metrics.multiple_choice import choice_hits

SCORES = np.array(
    [
        # videos 0, 1
        [0.9, 0.1],
        [0.3, 0.5],
        [0.9, 0.4],
        [0.2, 0.5],
    ]
)


def test_by_hand():
    choices = [
        Choice(0, (0, 1, 3), 0),  # 0.9 leads 0.3 and 0.2                       -> hit
        Choice(0, (0, 2), 1),  # text 2 is right, 0.9 ties with text 0      -> wrong
        Choice(1, (2, 3), 0),  # text 2 is right, 0.4 is below 0.5          -> wrong
        Choice(1, (2, 0, 3), 2),  # text 3 is right, 0.5 leads 0.4 and 0.1     -> hit
    ]
    assert choice_hits(SCORES, choices).tolist() == [True, False, False, True]


def test_constant_scores_are_wrong_everywhere():
    assert not choice_hits(np.zeros((5, 2)), [Choice(0, (0, 1, 2), 1), Choice(1, (3, 4), 0)]).any()


@pytest.mark.parametrize(("other", "hit"), [(math.nan, False), (math.inf, False), (-math.inf, True)])
def test_broken_score_of_another_text(other, hit):
    assert choice_hits(np.array([[0.5], [other]]), [Choice(0, (0, 1), 0)]).tolist() == [hit]


@pytest.mark.parametrize(
    ("scores", "choices", "message"),
    [
        (SCORES, [], "no multiple-choice question"),
        (SCORES[0], [Choice(0, (0,), 0)], "must be .num_texts, num_videos."),
        (SCORES, [Choice(0, (0, 4), 0)], "question 0 names text 4; the scores are of 4 texts and 2 videos"),
        (SCORES, [Choice(0, (0,), 0), Choice(2, (0, 1), 0)], "question 1 names video 2"),
        (SCORES, [Choice(0, (0, 1), 2)], "question 0 has answer 2 of 2 texts"),
        (np.array([[math.nan]]), [Choice(0, (0,), 0)], "question 0 scores nan for its right text 0"),
    ],
)
def test_questions_that_cannot_be_scored(scores, choices, message):
    with pytest.raises(VmrError, match=message):
        choice_hits(scores, choices)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=5), st.data())
def test_right_where_the_answer_alone_is_the_best(column, data):
    answer = data.draw(st.integers(0, len(column) - 1))
    order = data.draw(st.permutations(range(len(column))))
    scores = np.array(column, np.float32)[:, None]
    expected = column.count(max(column)) == 1 and column.index(max(column)) == answer
    for texts in (tuple(range(len(column))), tuple(order)):
        assert choice_hits(scores, [Choice(0, texts, texts.index(answer))]).tolist() == [expected]
