"""Bootstrap intervals against cases with a known answer, and against drawing the queries one by one."""

import math

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.eval.metrics import bootstrap
from vmr.eval.metrics.bootstrap import intervals, paired_difference, share_interval
from vmr.eval.metrics.ranks import DirectionRanks, bidirectional_summary, summary

KEYS = ("R@1", "R@5", "R@10", "MdR", "MnR")


def some_ranks(num_queries, seed=0, highest=60):
    return np.random.default_rng(seed).geometric(0.12, num_queries).clip(max=highest)


def drawn_one_by_one(rows, num_resamples, seed=1):
    """Metrics of resampled queries (num_resamples, 5) of each row, the slow way."""
    random = np.random.default_rng(seed)
    picks = [random.integers(len(rows[0]), size=len(rows[0])) for _ in range(num_resamples)]
    return [np.array([[summary(row[pick])[key] for key in KEYS] for pick in picks]) for row in rows]


def test_keys_are_those_of_the_summary_and_each_interval_holds_its_value():
    both = DirectionRanks(some_ranks(150), some_ranks(90, seed=1))
    values = bidirectional_summary(both)
    found = intervals(both)
    assert found.keys() == values.keys()
    for key, (low, high) in found.items():
        assert low <= values[key] <= high, key
        assert low < high, key


def test_queries_that_agree_have_an_interval_of_one_point():
    found = intervals(DirectionRanks(np.full(30, 3), np.full(20, 7)))
    assert found["text_to_video/R@1"] == (0.0, 0.0)
    assert found["text_to_video/R@5"] == (100.0, 100.0)
    assert found["video_to_text/R@5"] == (0.0, 0.0)
    assert found["video_to_text/MdR"] == (7.0, 7.0)
    assert found["text_to_video/MnR"] == (3.0, 3.0)
    assert found["rsum"] == (300.0, 300.0)  # T2V 0 + 100 + 100, V2T 0 + 0 + 100
    assert intervals(DirectionRanks(np.array([1]), np.array([1])))["rsum"] == (600.0, 600.0)


def test_two_queries_worked_by_hand():
    # ranks 1 and 3, resampled: {1, 1} 1/4, {1, 3} 1/2, {3, 3} 1/4, so the middle half of MnR and MdR is 1 to 3 at its
    # ends only: the 20 % and 80 % quantiles are 1 and 3, the 30 % and 70 % ones 2 and 2
    both = DirectionRanks(np.array([3, 1]), np.array([1]))
    wide, narrow = intervals(both, confidence=0.6), intervals(both, confidence=0.4)
    assert wide["text_to_video/MnR"] == wide["text_to_video/MdR"] == (1.0, 3.0)
    assert narrow["text_to_video/MnR"] == narrow["text_to_video/MdR"] == (2.0, 2.0)
    assert wide["text_to_video/R@1"] == (0.0, 100.0)
    assert narrow["text_to_video/R@1"] == (50.0, 50.0)


def test_metrics_of_how_often_each_rank_was_drawn():
    ranks = np.array([9, 1, 3])
    # three queries: 9, 1, 3; 9, 9, 3; 1, 1, 9
    three = bootstrap._metrics_of_counts(ranks, np.array([[1, 1, 1], [2, 0, 1], [1, 2, 0]]))
    assert three["MdR"].tolist() == [3, 9, 1]
    assert three["MnR"] == pytest.approx([13 / 3, 21 / 3, 11 / 3])
    assert three["R@1"] == pytest.approx([100 / 3, 0, 200 / 3])
    assert three["R@5"] == pytest.approx([200 / 3, 100 / 3, 200 / 3])
    # four: 1, 1, 3, 9; 3, 3, 9, 9; 1, 1, 1, 9
    four = bootstrap._metrics_of_counts(ranks, np.array([[1, 2, 1], [2, 0, 2], [1, 3, 0]]))
    assert four["MdR"].tolist() == [2, 6, 1]


def test_agrees_with_drawing_queries():
    ranks = some_ranks(201)
    found = intervals(DirectionRanks(ranks, ranks), num_resamples=20_000)
    (slow,) = drawn_one_by_one([ranks], 4_000)
    for column, key in enumerate(KEYS):
        low, high = np.quantile(slow[:, column], [0.025, 0.975])
        spread = slow[:, column].std()
        # the quantile of 4000 draws has a standard error of about 0.04 spreads; five of them, and one step of R@K
        for ours, theirs in zip(found[f"text_to_video/{key}"], (low, high), strict=True):
            assert abs(ours - theirs) <= 0.2 * spread + 0.5, key


def test_recall_interval_is_the_binomial_one():
    # 36 of 100 queries hit: the standard error is sqrt(0.36 * 0.64 / 100) = 4.8 %, so 95 % is 36 +- 1.96 * 4.8 = +- 9.4
    ranks = np.array([1] * 36 + [50] * 64)
    low, high = intervals(DirectionRanks(ranks, ranks), num_resamples=20_000)["text_to_video/R@1"]
    assert abs(low - 26.6) <= 1
    assert abs(high - 45.4) <= 1
    assert share_interval(ranks == 1, num_resamples=20_000) == (pytest.approx(low, abs=1), pytest.approx(high, abs=1))


def test_a_share_has_an_interval_that_can_be_drawn_again():
    assert share_interval(np.ones(7, bool)) == (100.0, 100.0)
    assert share_interval(np.zeros(7, bool)) == (0.0, 0.0)
    # two queries, one right: resamples hold 0, 1 or 2 right ones with 1/4, 1/2, 1/4, so the middle 40 % are 50 %
    assert share_interval(np.array([True, False]), confidence=0.4) == (50.0, 50.0)
    assert share_interval(np.array([True, False]), confidence=0.6) == (0.0, 100.0)
    hits = some_ranks(1000) <= 3
    assert share_interval(hits) == share_interval(hits, num_resamples=2000, confidence=0.95, seed=0)
    assert share_interval(hits) != share_interval(hits, seed=1)


def test_directions_are_resampled_apart():
    # were both resampled by the same draws, rsum of equal ranks would spread 2 s; apart, sqrt(2) s
    ranks = np.array([1] * 200 + [99] * 200)
    found = intervals(DirectionRanks(ranks, ranks), num_resamples=20_000)
    one = np.subtract(*found["text_to_video/R@1"])  # R@1 = R@5 = R@10, so a direction's part of rsum spreads 3 times it
    assert np.subtract(*found["rsum"]) / (3 * one) == pytest.approx(math.sqrt(2), rel=0.05)


def test_same_seed_same_numbers_and_blocks_do_not_matter(monkeypatch):
    both = DirectionRanks(some_ranks(80), some_ranks(70, seed=2))
    whole = intervals(both, num_resamples=301)
    assert intervals(both, num_resamples=301) == whole
    assert intervals(both, num_resamples=301, seed=1) != whole
    monkeypatch.setattr(bootstrap, "_BLOCK_ELEMENTS", 100)
    assert intervals(both, num_resamples=301) == whole


def test_paired_difference_of_hand_worked_ranks():
    # a hits queries 0, 1, 2, b hits 0 alone: R@1 75 - 25 = 50; MdR 1 - 4; MnR (1+1+1+9)/4 - (1+4+4+9)/4 = 3 - 4.5
    found = paired_difference(np.array([1, 1, 1, 9]), np.array([1, 4, 4, 9]))
    assert found["R@1"].value == 50.0
    assert found["MdR"].value == -3.0
    assert found["MnR"].value == -1.5
    assert found["R@10"] == (0.0, 0.0, 0.0, 1.0)  # both are 100 in every resample, which is no gain
    # a is above b in R@1 unless queries 1 and 2 are never drawn: (1/2) ** 4 = 6.25 % of the resamples
    assert found["R@1"].share_not_above == pytest.approx(0.0625, abs=0.025)
    assert (found["R@1"].low, found["R@1"].high) == (0.0, 100.0)


def test_pairing_cancels_what_is_hard_for_both():
    hard = some_ranks(400, seed=3)
    same = paired_difference(hard, hard)
    assert all(difference == (0.0, 0.0, 0.0, 1.0) for difference in same.values())
    worse = paired_difference(hard, hard + 2)["MnR"]
    assert (worse.value, worse.low, worse.high) == pytest.approx((-2, -2, -2))
    assert worse.share_not_above == 1.0
    easy = np.ones_like(hard)
    assert (
        paired_difference(hard, easy) == paired_difference(hard, easy, seed=0) != paired_difference(hard, easy, seed=1)
    )
    better = paired_difference(hard + 2, hard)["MnR"]
    assert (better.value, better.share_not_above) == (pytest.approx(2), 0.0)


def test_paired_difference_agrees_with_drawing_queries():
    a, b = some_ranks(201), np.maximum(1, some_ranks(201) + np.random.default_rng(5).integers(-4, 6, 201))
    found = paired_difference(a, b, num_resamples=20_000)
    of_a, of_b = drawn_one_by_one([a, b], 4_000)
    for column, key in enumerate(KEYS):
        slow = of_a[:, column] - of_b[:, column]
        low, high = np.quantile(slow, [0.025, 0.975])
        assert abs(found[key].low - low) <= 0.2 * slow.std() + 0.5, key
        assert abs(found[key].high - high) <= 0.2 * slow.std() + 0.5, key
        assert found[key].share_not_above == pytest.approx(np.mean(slow <= 0), abs=0.05), key
        assert found[key].value == pytest.approx(summary(a)[key] - summary(b)[key])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals(DirectionRanks(np.array([1]), np.zeros(0, np.int64))), "no queries to resample"),
        (lambda: intervals(DirectionRanks(np.array([1]), np.array([0]))), "a rank is 0: ranks count from 1"),
        (lambda: intervals(DirectionRanks(np.array([1]), np.array([1])), confidence=95), "confidence is 95"),
        (lambda: share_interval(np.ones(3, bool), confidence=0.0), "confidence is 0.0"),
        (lambda: share_interval(np.ones(3, bool), confidence=1.0), "confidence is 1.0"),
        (
            lambda: share_interval(np.ones(3, bool), confidence=1.5),
            "confidence is 1.5: expected a number between 0 and 1",
        ),
        (lambda: intervals(DirectionRanks(np.array([1]), np.array([1])), num_resamples=0), "num_resamples is 0"),
        (lambda: paired_difference(np.array([1, 2]), np.array([1])), "2 ranks against 1: .* the same queries"),
        (lambda: share_interval(np.zeros(0, bool)), "^no queries to resample$"),
    ],
)
def test_what_cannot_be_resampled(call, message):
    with pytest.raises(VmrError, match=message):
        call()
