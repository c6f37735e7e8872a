"""Normalisation over the test queries: by hand, against the formulas, and cases that it must not change."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vmr.errors import VmrError
from vmr.eval.metrics.normalisation import dual_softmax, qb_norm
from vmr.eval.metrics.ranks import bidirectional_metrics, ranks

cosines = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.integers(-64, 64).map(lambda value: value / 64),
)


def test_dual_softmax_by_hand():
    # temperature 1 / ln 2, so that softmax is of powers of two. Column 0: 2^1, 2^2 -> shares 1/3, 2/3;
    # column 1: 2^1, 2^0 -> 2/3, 1/3. Two queries: 2 * score * share
    result = dual_softmax([[1.0, 1.0], [2.0, 0.0]], temperature=1 / math.log(2))
    assert result.text_to_video == pytest.approx(np.array([[2 / 3, 4 / 3], [8 / 3, 0.0]]))
    # video to text: row 0 of the scores is 2^1, 2^1 -> 1/2, 1/2; row 1 is 2^2, 2^0 -> 4/5, 1/5
    assert result.video_to_text == pytest.approx(np.array([[1.0, 16 / 5], [1.0, 0.0]]))


def test_qb_norm_by_hand():
    # beta ln 2: exp(beta s) = 2^s. Column 0: 2, 4 -> 2/6, 4/6; column 1: 2, 1 -> 2/3, 1/3
    result = qb_norm([[1.0, 1.0], [2.0, 0.0]], beta=math.log(2))
    assert np.exp(result.text_to_video) == pytest.approx(np.array([[1 / 3, 2 / 3], [2 / 3, 1 / 3]]))
    # video to text: row 0 is 2, 2 -> 1/2, 1/2; row 1 is 4, 1 -> 4/5, 1/5
    assert np.exp(result.video_to_text) == pytest.approx(np.array([[1 / 2, 4 / 5], [1 / 2, 1 / 5]]))


@given(cosines)
def test_agrees_with_the_formulas_written_out(scores):
    dual, bank = dual_softmax(scores), qb_norm(scores)
    for way, matrix in (("text_to_video", scores), ("video_to_text", scores.T)):
        for (query, item), score in np.ndenumerate(matrix):
            total = math.fsum(math.exp((other - score) / 0.01) for other in matrix[:, item])
            assert getattr(dual, way)[query, item] == pytest.approx(len(matrix) * score / total, rel=1e-9, abs=0)
            total = math.fsum(math.exp(20 * other) for other in matrix[:, item])
            assert getattr(bank, way)[query, item] == pytest.approx(math.log(math.exp(20 * score) / total), abs=1e-9)


@given(cosines, st.data())
def test_a_hub_by_a_constant_does_not_change_qb_norm(scores, data):
    item = data.draw(st.integers(0, scores.shape[1] - 1))
    raised = scores.copy()
    raised[:, item] += 0.5  # all queries like the item half a cosine more
    assert qb_norm(raised).text_to_video == pytest.approx(qb_norm(scores).text_to_video, abs=1e-9)


@given(cosines)
def test_a_query_that_scores_higher_for_an_item_stays_above(scores):
    positive = scores / 4 + 0.5  # [0.25, 0.75]: dual softmax keeps the order of positive scores only
    for before, after in ((scores, qb_norm(scores)), (positive, dual_softmax(positive))):
        for way, matrix in (("text_to_video", before), ("video_to_text", before.T)):
            order = np.argsort(matrix, axis=0, kind="stable")
            assert (np.diff(np.take_along_axis(getattr(after, way), order, axis=0), axis=0) >= 0).all()


def test_dual_softmax_lowers_a_negative_score_that_stands_out():
    # as published: -0.1 has nearly all of its column's share and ends at 2 * -0.1, -0.9 has none and ends at 0
    result = dual_softmax([[-0.1], [-0.9]]).text_to_video
    assert result == pytest.approx(np.array([[-0.2], [0.0]]), abs=1e-9)


def test_a_hub_stops_winning():
    scores = np.eye(4) * 0.2 + 0.1
    scores[:, 3] += 0.4  # item 3 is the best of everyone: ranks 2, 2, 2, 1
    assert ranks(scores).tolist() == [2, 2, 2, 1]
    for normalise in (dual_softmax, qb_norm):
        assert ranks(normalise(scores).text_to_video).tolist() == [1, 1, 1, 1]
        # the other direction asks by video, so the hub is one query among four and does no harm
        assert ranks(normalise(scores).video_to_text).tolist() == [1, 1, 1, 1]


def test_constant_scores_stay_constant():
    for normalise in (dual_softmax, qb_norm):
        result = normalise(np.full((12, 12), 0.3))
        both = bidirectional_metrics(result.text_to_video, range(12), result.video_to_text)
        assert both["rsum"] == 0.0  # all tie: rank 12 everywhere


def test_shapes_and_one_pair():
    result = dual_softmax(np.full((1, 1), 0.25))
    assert (result.text_to_video.item(), result.video_to_text.item()) == (0.25, 0.25)  # the only query has share 1
    assert qb_norm(np.full((1, 1), 0.25)).text_to_video.item() == 0.0
    result = qb_norm(np.zeros((2, 5), np.float32))
    assert (result.text_to_video.shape, result.video_to_text.shape) == ((2, 5), (5, 2))
    assert result.text_to_video.dtype == result.video_to_text.dtype == np.float64


def test_shares_may_be_small_but_must_not_vanish():
    # 6 is 600 temperatures of 0.01: a share of exp(-600), which is a float; 6.01 is one temperature more
    assert dual_softmax([[6.0], [0.0]]).text_to_video.tolist() == [[12.0], [0.0]]
    assert dual_softmax([[6.0], [1e-9]]).text_to_video[1, 0] == pytest.approx(2e-9 * math.exp(-600), rel=1e-6)
    with pytest.raises(VmrError, match=r"spread over 601 temperatures of 0\.01"):
        dual_softmax([[6.01], [0.0]])


def test_large_scores_do_not_overflow():
    # exp(20 * 1000) is no float; the quotients are 1 and exp(-20 * 1)
    assert qb_norm([[1000.0], [999.0]]).text_to_video == pytest.approx(np.array([[0.0], [-20.0]]), abs=1e-6)
    # items of very different sizes: 2^2000 and 2^1999 have shares 2/3 and 1/3, and so have 2^1 and 2^0
    shares = np.exp(qb_norm([[2000.0, 0.0], [1999.0, 1.0]], beta=math.log(2)).text_to_video)
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    assert dual_softmax([[1000.0], [999.0]]).text_to_video[0, 0] == pytest.approx(2000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dual_softmax([[0.1, math.nan]]), "1 of 2 scores are NaN or infinite"),
        (lambda: qb_norm([[0.1, -math.inf], [math.inf, 0.2]]), "2 of 4 scores are NaN or infinite"),
        (lambda: dual_softmax(np.zeros((0, 3))), "not empty, got shape .0, 3."),
        (lambda: qb_norm(np.zeros(3)), "must be .num_texts, num_videos."),
        (lambda: dual_softmax([[0.1]], temperature=0.0), "temperature is 0.0"),
        (lambda: dual_softmax([[0.1]], temperature=math.inf), "temperature is inf"),
        (lambda: qb_norm([[0.1]], beta=-1.0), "beta is -1.0"),
        (lambda: qb_norm([[0.1]], beta=0.0), "beta is 0.0"),
        (lambda: qb_norm([[0.1]], beta=math.inf), "beta is inf"),
        (
            lambda: dual_softmax([[3.0], [-100.0]]),
            "spread over 10300 temperatures of 0.01: "
            "choose a temperature that fits the scale of the scores .0.01 fits cosines.$",
        ),
    ],
)
def test_what_cannot_be_normalised(call, message):
    with pytest.raises(VmrError, match=message):
        call()
