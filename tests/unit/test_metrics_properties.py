"""Properties of the ranks that hold for every score matrix."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vmr.eval.metrics.ranks import bidirectional_metrics, bidirectional_ranks, query_indices, ranks, retrieval_metrics

# Few distinct values, so that most matrices have ties; all are exact in floating point.
OTHER_SCORES = [-math.inf, -2.0, -0.5, 0.0, 0.25, 1.0, 8.0, math.inf, math.nan]
FINITE_SCORES = OTHER_SCORES[1:-2]


@st.composite
def problems(draw, finite=False):
    """Scores (num_queries, num_gallery) with the right items of each query, whose scores are finite."""
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    values = st.sampled_from(FINITE_SCORES if finite else OTHER_SCORES)
    scores = np.array([[draw(values) for _ in range(num_gallery)] for _ in range(num_queries)])
    items = st.lists(st.integers(0, num_gallery - 1), min_size=1, max_size=4)
    truth = [draw(items) for _ in range(num_queries)]
    for row, own in enumerate(truth):
        for column in own:
            scores[row, column] = draw(st.sampled_from(FINITE_SCORES))
    return scores, truth


def rank_by_sorting(row, own):
    """Sort the gallery with own items after everything they tie with, then walk down to the first own item."""
    order = sorted(
        range(len(row)),
        key=lambda item: (-math.inf if math.isnan(row[item]) else -row[item], item in own),
    )
    for place, item in enumerate(order, start=1):
        if item in own:
            return place
    raise AssertionError("a query always has an own item")


@given(problems())
def test_agrees_with_sorting(problem):
    scores, truth = problem
    assert ranks(scores, truth).tolist() == [rank_by_sorting(row, own) for row, own in zip(scores, truth, strict=True)]


@given(problems(), st.randoms(use_true_random=False))
def test_order_of_the_gallery_does_not_matter(problem, random):
    scores, truth = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    place_of = {item: place for place, item in enumerate(order)}
    moved_truth = [[place_of[item] for item in own] for own in truth]
    assert ranks(scores[:, order], moved_truth).tolist() == ranks(scores, truth).tolist()


@given(problems(), st.randoms(use_true_random=False))
def test_order_of_the_queries_does_not_matter(problem, random):
    scores, truth = problem
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = ranks(scores[order], [truth[query] for query in order])
    assert shuffled.tolist() == ranks(scores, truth)[order].tolist()


@given(problems(), st.integers(-20, 20))
def test_only_the_order_of_the_scores_matters(problem, exponent):
    scores, truth = problem
    before = ranks(scores, truth).tolist()
    assert ranks(scores * 2.0**exponent, truth).tolist() == before
    by_place = {value: float(place) for place, value in enumerate(sorted(set(FINITE_SCORES)))}
    replaced = np.array([[by_place.get(value, value) for value in row] for row in scores])
    assert ranks(replaced, truth).tolist() == before


@given(problems(), st.sampled_from([math.inf, math.nan]))
def test_another_item_that_is_not_below_costs_one_rank(problem, above):
    scores, truth = problem
    best = [max(row[own]) for row, own in zip(scores, truth, strict=True)]
    before = ranks(scores, truth)
    for column in (best, [above] * len(scores)):
        assert ranks(np.column_stack([scores, column]), truth).tolist() == (before + 1).tolist()
    assert ranks(np.column_stack([scores, [-math.inf] * len(scores)]), truth).tolist() == before.tolist()


@given(problems(finite=True), st.data())
def test_a_tie_never_improves_a_rank(problem, data):
    scores, truth = problem
    own = [max(scores[row][truth[row]]) for row in range(len(scores))]
    worse = [(row, column) for row, column in np.ndindex(scores.shape) if scores[row, column] < own[row]]
    worse = [(row, column) for row, column in worse if column not in truth[row]]
    assume(worse)
    row, column = data.draw(st.sampled_from(worse))
    tied = scores.copy()
    tied[row, column] = own[row]
    assert ranks(tied, truth)[row] == ranks(scores, truth)[row] + 1


@given(problems())
def test_metrics_stay_in_range(problem):
    scores, truth = problem
    result = retrieval_metrics(scores, truth)
    assert 0 <= result["R@1"] <= result["R@5"] <= result["R@10"] <= 100
    worst = scores.shape[1]
    assert 1 <= result["MdR"] <= worst
    assert 1 <= result["MnR"] <= worst


@given(problems())
def test_both_directions_are_the_one_direction_twice(problem):
    scores, truth = problem
    video_of_text = [own[0] for own in truth]
    both = bidirectional_metrics(scores, video_of_text)
    captioned = sorted(set(video_of_text))
    texts = [[text for text, video in enumerate(video_of_text) if video == wanted] for wanted in captioned]
    assert {key: both[f"text_to_video/{key}"] for key in ("R@1", "R@5", "R@10", "MdR", "MnR")} == retrieval_metrics(
        scores, video_of_text
    )
    assert {key: both[f"video_to_text/{key}"] for key in ("R@1", "R@5", "R@10", "MdR", "MnR")} == retrieval_metrics(
        scores.T[captioned], texts
    )
    recalls = [value for key, value in both.items() if "/R@" in key]
    assert len(recalls) == 6
    assert both["rsum"] == pytest.approx(sum(recalls))
    assert 0 <= both["rsum"] <= 600


@st.composite
def searches(draw):
    """Scores (num_texts, num_videos) with -inf where a search missed an item, and none, one or several own videos."""
    num_texts, num_videos = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    values = st.sampled_from([-math.inf, *FINITE_SCORES])
    scores = np.array([[draw(values) for _ in range(num_videos)] for _ in range(num_texts)])
    entry = st.one_of(
        st.integers(0, num_videos - 1),
        st.lists(st.integers(0, num_videos - 1), max_size=3, unique=True).map(tuple),
    )
    truth = [draw(entry) for _ in range(num_texts)]
    assume(any(own != () for own in truth))
    return scores, truth


def slow_ranks(scores, truth):
    """Ranks of both directions by counting pairs, one query after another."""
    pairs = {(text, video) for text, own in enumerate(truth) for video in (own if isinstance(own, tuple) else (own,))}
    both = []
    for matrix, right in ((scores, pairs), (scores.T, {(video, text) for text, video in pairs})):
        found = []
        for query, row in enumerate(matrix):
            best = max((row[item] for item in range(len(row)) if (query, item) in right), default=None)
            if best is not None:
                rivals = [item for item in range(len(row)) if (query, item) not in right and row[item] >= best]
                found.append(1 + len(rivals))
        both.append(found)
    return both


@given(searches())
def test_searches_that_miss_items_agree_with_counting(problem):
    scores, truth = problem
    result = bidirectional_ranks(scores, truth, not_found=True)
    assert [row.tolist() for row in result] == slow_ranks(scores, truth)
    assert tuple(map(len, result)) == tuple(map(len, query_indices(truth, scores.shape[1])))


@given(searches())
def test_missing_an_item_is_scoring_it_below_all_others(problem):
    scores, truth = problem
    lowest = np.where(np.isneginf(scores), -1e6, scores)
    missed = bidirectional_ranks(scores, truth, not_found=True)
    for row, same in zip(missed, bidirectional_ranks(lowest, truth), strict=True):
        assert row.tolist() == same.tolist()


@given(searches(), st.integers(0, 5))
def test_a_duplicated_text_takes_the_rank_of_its_original(problem, which):
    scores, truth = problem
    text = which % len(truth)
    assume(truth[text] != ())
    before = bidirectional_ranks(scores, truth, not_found=True)
    after = bidirectional_ranks(np.vstack([scores, scores[text]]), [*truth, truth[text]], not_found=True)
    place = sum(own != () for own in truth[:text])
    assert after.text_to_video.tolist() == [*before.text_to_video, before.text_to_video[place]]
    assert (after.video_to_text >= before.video_to_text).all()  # a wrong text that ties is one more above


@given(searches(), st.randoms(use_true_random=False))
def test_permuting_texts_and_videos_permutes_the_ranks(problem, random):
    scores, truth = problem
    texts, videos = list(range(scores.shape[0])), list(range(scores.shape[1]))
    random.shuffle(texts)
    random.shuffle(videos)
    place_of = {video: place for place, video in enumerate(videos)}
    moved = [tuple(place_of[v] for v in (own if isinstance(own, tuple) else (own,))) for own in truth]
    before = bidirectional_ranks(scores, truth, not_found=True)
    shuffled_truth = [moved[text] for text in texts]
    after = bidirectional_ranks(scores[texts][:, videos], shuffled_truth, not_found=True)
    asked, answered = query_indices(truth, len(videos))
    now_asked, now_answered = query_indices(shuffled_truth, len(videos))
    rank_of_text = dict(zip(asked.tolist(), before.text_to_video.tolist(), strict=True))
    rank_of_video = dict(zip(answered.tolist(), before.video_to_text.tolist(), strict=True))
    assert after.text_to_video.tolist() == [rank_of_text[texts[row]] for row in now_asked]
    assert after.video_to_text.tolist() == [rank_of_video[videos[row]] for row in now_answered]
