"""Each alarm for a model that is broken in one way, and no alarm for sound models."""

import math

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.eval.metrics import alarms as module
from vmr.eval.metrics.alarms import alarms
from vmr.eval.metrics.ranks import DirectionRanks, bidirectional_ranks
from vmr.retrieval.reranking.candidates import NOT_RERANKED


def noise(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def raised(scores, truth=None, **options):
    truth = range(len(scores)) if truth is None else truth
    names = ("video_to_text", "not_found")
    ranks = bidirectional_ranks(scores, truth, **{name: options[name] for name in names if name in options})
    return alarms(scores, truth, ranks, **options)


@pytest.mark.parametrize("signal", [1.5, 4.0, 100.0])
def test_a_model_that_sees_something_is_left_alone(signal):
    vectors = noise(120, 16)
    scores = noise(120, 120) + signal * np.eye(120)
    assert raised(scores, query_vectors=vectors, gallery_vectors=vectors + 2) == []


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12, 40])
def test_a_perfect_model_is_left_alone_at_any_size(size):
    assert raised(np.eye(size)) == []


@pytest.mark.parametrize("seed", range(5))
def test_random_scores_are_told_from_the_number_of_right_texts(seed):
    truth = np.repeat(np.arange(50), 20)
    found = raised(noise(1000, 50, seed), truth)
    assert [sentence.split(":")[0] for sentence in found] == [
        "text to video is no better than chance",
        "video to text is no better than chance",
    ]
    # T2V: chance of R@10 is 10 / 50 = 20 %, sd sqrt(0.2 * 0.8 / 1000) = 1.26 %, so about 20 +- 3.29 * 1.26 = +- 4.2
    assert "where random scores give 15.90 to 24.30 % (1000 queries, 50 in the gallery)" in found[0]


def test_what_random_scores_just_reach_is_no_better_than_chance():
    # 12 texts, 2 videos: random scores find 1 to 11 of them first, as of 12 coin flips (see the exact sums below);
    # the first 5 of 2 hold all, which says nothing
    scores = np.where(np.arange(12)[:, None] % 2 == np.arange(2), 1.0, 0.0) + np.arange(12)[:, None] / 100
    assert raised(scores, np.arange(12) % 2) == []  # 12 of 12 is more than 11
    scores[3] = scores[3, ::-1].copy()  # 11 of 12
    assert raised(scores, np.arange(12) % 2) == [
        "text to video is no better than chance: R@1 is 91.67 %, where random scores give 8.33 to 91.67 % "
        "(12 queries, 2 in the gallery)"
    ]


def test_scores_turned_upside_down_are_no_better_than_chance():
    assert raised(-10 * np.eye(200) + noise(200, 200))[0].startswith(
        "text to video is no better than chance: R@10 is 0.00 %"
    )


def test_three_queries_are_too_few_to_call_random():
    assert raised(np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.4, 0.1]])) == []


def test_chance_of_one_of_several():
    # one of 2 own items among the first 1 of 4: 2/4; among the first 2: 1 - C(2,2)/C(4,2) = 5/6
    assert module._chance(2, 4, 1) == pytest.approx(1 / 2)
    assert module._chance(2, 4, 2) == pytest.approx(5 / 6)
    assert module._chance(1, 10, 10) == 1.0


def test_bounds_of_chance_against_exact_sums():
    # 10 coin flips: P(0) = 1/1024 = 0.00098 > 0.0005, so nothing can be cut off
    assert module._chance_bounds([0.5], np.array([10])) == (0, 10)
    # 12 flips: P(0) = 1/4096 = 0.00024 is cut off, P(0) + P(1) = 13/4096 = 0.0032 is not: 1 to 11
    assert module._chance_bounds([0.5], np.array([12])) == (1, 11)
    # 6 flips and 6 more are 12 flips; what is certain adds to both ends
    assert module._chance_bounds([0.5, 0.5], np.array([6, 6])) == (1, 11)
    assert module._chance_bounds([0.5, 1.0, 0.0], np.array([12, 3, 4])) == (4, 14)
    for n, p in ((5, 0.3), (40, 0.01), (300, 0.77)):
        exact = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        assert module._binomial(n, p) == pytest.approx(exact)
        up_to = [math.fsum(exact[: k + 1]) for k in range(n + 1)]
        bounds = tuple(next(k for k in range(n + 1) if up_to[k] >= share) for share in (0.0005, 0.9995))
        assert module._chance_bounds([p], np.array([n])) == bounds


@pytest.mark.parametrize("score", [0.0, 0.731, -100.0])
def test_constant_scores(score):
    scores = np.full((30, 30), score, np.float32)
    assert raised(scores) == [
        f"every pair has the same score, {score:.6g}: the model cannot tell pairs apart; ranks are meaningless"
    ]
    assert raised(np.ones((30, 30)) + 1e-4 * np.eye(30)) == []  # close, but not by rounding
    assert raised(np.ones((2, 2)))[0].startswith("every pair has the same score, 1: ")
    rounding = scores * (1 + 1e-7 * noise(30, 30)).astype(np.float32)
    assert len(raised(rounding)) == 1


def test_broken_scores_are_counted_by_kind():
    scores = np.eye(30)
    scores[0, 1] = scores[4, 2] = math.nan
    scores[7, 8], scores[9, 8], scores[9, 7] = math.inf, -math.inf, -math.inf
    assert raised(scores) == [
        "of 900 scores, 2 NaN, 1 +inf, 2 -inf: a sound model gives none; check the embeddings and the weights"
    ]
    back = np.eye(30)
    back[3, 4] = math.nan
    assert raised(np.eye(30), video_to_text=back)[0].startswith("of 900 scores (video to text), 1 NaN: ")


def test_items_that_a_search_missed_are_not_broken():
    scores = np.where(np.eye(30, dtype=bool) | (noise(30, 30) > 1), 1 + np.eye(30), -math.inf)
    assert raised(scores, not_found=True) == []
    assert raised(scores, not_found=True, video_to_text=scores.T) == []
    assert "-inf" in raised(scores)[0]


def test_ties_at_the_top():
    scores = np.eye(40)
    scores[:5, 39] = 1.0  # 5 of 40 texts score video 39 as high as their own
    (found,) = raised(scores)
    assert found == (
        "text to video: 5 of 40 queries share their best score between several videos: "
        "scores tie too often for ranks to mean much"
    )
    scores[0, 39] = 0.0  # 4 of 40 are a tenth, which is not more than a tenth
    assert raised(scores) == []
    # ties among a query's own items do no harm: every video has two equal texts
    assert raised(np.repeat(np.eye(20), 2, axis=0), np.repeat(np.arange(20), 2)) == []


def test_one_video_that_wins_nearly_everything():
    scores = noise(100, 100) + 5 * np.eye(100)
    scores[:, 7] += 40
    found = raised(scores)
    assert any(
        sentence
        == "text to video: video 7 is wrongly the best for 99 of 100 queries: it is found first for nearly every text"
        for sentence in found
    )
    # the same video being right for nearly everyone is no hub
    assert not any("wrongly" in sentence for sentence in raised(scores, [7] * 90 + list(range(10))))


def test_a_video_that_wins_more_than_half_is_too_near_to_everything():
    scores = 5.0 * np.eye(100)
    scores[:51, 7] += 40  # text 7 is right to find video 7, the other 50 are wrong
    assert raised(scores) == []
    scores[51, 7] += 40
    assert raised(scores) == [
        "text to video: video 7 is wrongly the best for 51 of 100 queries: it is found first for nearly every text"
    ]


def test_reranked_scores_are_looked_at_in_both_directions():
    logits = np.where(noise(60, 60) > 0.5, noise(60, 60, 1), NOT_RERANKED) + 110 * np.eye(60)
    assert raised(logits, video_to_text=logits.T) == []
    hub = np.full((60, 60), NOT_RERANKED)
    hub[:, 0] = 5.0
    found = raised(logits, video_to_text=hub)
    assert [sentence for sentence in found if "text 0 is wrongly the best for 59 of 60" in sentence]


def test_collapsed_embeddings():
    good = noise(50, 8)
    one_point = good[0] + 0.01 * noise(50, 8, 1)
    one_line = good[0] * np.sign(noise(50, 1, 2))
    (found,) = raised(np.eye(50), query_vectors=good, gallery_vectors=one_point)
    assert found.startswith("the 50 video embeddings have collapsed: their mean pairwise cosine is 0.99")
    (found,) = raised(np.eye(50), query_vectors=one_line, gallery_vectors=good)
    assert found.endswith("effective rank is 1.00 of 8")
    assert raised(np.eye(9), query_vectors=np.ones((9, 8))) == []  # nine may well be alike
    (found,) = raised(np.eye(10), query_vectors=np.ones((10, 8)))
    assert found == (
        "the 10 text embeddings have collapsed: their mean pairwise cosine is 1.0000 and their effective rank is 1.00 "
        "of 8"
    )


def test_embeddings_along_one_line_but_a_few_have_collapsed():
    # 19 of 20 along one axis: energies 0.95 and 0.05, entropy 0.1985, rank 1.22; 19 * 18 of 20 * 19 pairs have cosine 1
    units = np.array([[1.0, 0.0]] * 19 + [[0.0, 1.0]])
    assert raised(np.eye(20), query_vectors=units) == [
        "the 20 text embeddings have collapsed: their mean pairwise cosine is 0.9000 and their effective rank is 1.22 "
        "of 2"
    ]
    # 14 of 15: energies 14/15 and 1/15, entropy 0.2449, rank 1.28
    assert raised(np.eye(15), query_vectors=units[-15:]) == []


def test_mean_cosine_and_effective_rank_by_hand():
    # 3 + 1 unit vectors along two axes: energies 3/4 and 1/4, entropy 0.5623, exp = 1.7548
    units = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    assert module._effective_rank(units) == pytest.approx(1.7548, abs=1e-4)
    assert module._effective_rank(np.eye(6)) == pytest.approx(6)
    assert module._effective_rank(np.ones((4, 1))) == pytest.approx(1)


def test_broken_embeddings_are_counted():
    vectors = noise(20, 8)
    vectors[3, 2], vectors[4, 1], vectors[5] = math.nan, math.inf, 0.0
    assert raised(np.eye(20), query_vectors=vectors) == [
        "2 of 20 text embeddings have NaN or infinite numbers",
        "1 of 20 text embeddings are zero",
    ]


def test_row_blocks_agree_with_one_block(monkeypatch):
    scores = np.round(noise(37, 37), 1)
    scores[2, 3] = math.nan
    whole = raised(scores)
    assert whole
    hub = 5 * np.eye(37)
    hub[1:, 0] = 9.0
    hub[2, 5], hub[3, 6] = -math.inf, math.inf
    of_hub = raised(hub)
    assert len(of_hub) == 2
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 80)
    assert raised(scores) == whole
    assert raised(hub) == of_hub


def test_a_video_without_scores_is_not_the_best_of_everyone():
    scores = np.eye(30) - 2
    scores[1:, 0] = math.nan
    (found,) = raised(scores)
    assert found.startswith("of 900 scores, 29 NaN: ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: raised(np.eye(4), query_vectors=np.zeros(4)), "text vectors must be .num_texts, D."),
        (
            lambda: alarms(np.eye(4) + noise(4, 4), range(4), DirectionRanks(np.ones(3, int), np.ones(4, int))),
            "text to video: 3 ranks for 4 queries",
        ),
        (
            lambda: alarms(np.eye(4), range(4), DirectionRanks(np.ones(4, int), np.ones(4, int)), video_to_text=[[1]]),
            "expected .Q, V. and .V, Q.",
        ),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(VmrError, match=message):
        call()
