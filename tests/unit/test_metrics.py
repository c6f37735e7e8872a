"""Metrics worked by hand."""

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.eval.metrics import ranks as metrics
from vmr.eval.metrics.ranks import (
    DirectionRanks,
    bidirectional_metrics,
    bidirectional_ranks,
    bidirectional_summary,
    query_indices,
    ranks,
    retrieval_metrics,
    right_answers,
    summary,
)

NAN, INF = float("nan"), float("inf")


def test_the_example_of_the_module_docstring():
    scores = [[0.9, 0.1, 0.3, 0.2], [0.5, 0.8, 0.1, 0.4]]
    assert ranks(scores, [0, 3]).tolist() == [1, 3]
    # ranks 1, 3 -> R@1 = 1/2, R@5 = 2/2, MdR = (1 + 3) / 2, MnR = 4/2
    assert retrieval_metrics(scores, [0, 3]) == {"R@1": 50.0, "R@5": 100.0, "R@10": 100.0, "MdR": 2.0, "MnR": 2.0}


def test_diagonal_is_the_default_truth():
    scores = np.array(
        [
            [9, 1, 2, 3],  # 9 leads                 -> rank 1
            [1, 9, 2, 3],  # 9 leads                 -> rank 1
            [4, 3, 1, 2],  # 1 is below 4, 3 and 2   -> rank 4
            [1, 9, 2, 5],  # 5 is below 9            -> rank 2
        ]
    )
    assert ranks(scores).tolist() == [1, 1, 4, 2]
    # ranks 1, 1, 4, 2 -> R@1 = 2/4, R@5 = 4/4, MdR = (1 + 2) / 2, MnR = 8/4
    assert retrieval_metrics(scores) == {"R@1": 50.0, "R@5": 100.0, "R@10": 100.0, "MdR": 1.5, "MnR": 2.0}


def test_recall_counts_the_rank_k_itself():
    row = np.arange(12.0)[::-1]  # item j is at rank j + 1
    # ranks 5, 6, 10, 11 -> R@5 = 1/4, R@10 = 3/4, MdR = (6 + 10) / 2, MnR = 32/4
    result = retrieval_metrics(np.tile(row, (4, 1)), [4, 5, 9, 10])
    assert result == {"R@1": 0.0, "R@5": 25.0, "R@10": 75.0, "MdR": 8.0, "MnR": 8.0}


def test_ties_count_against_the_query():
    # query 0: items 1 and 2 tie with the own 5 -> rank 3; query 1: only item 2 ties -> rank 2; query 2 leads alone
    assert ranks([[5, 5, 5], [1, 5, 5], [1, 1, 5]]).tolist() == [3, 2, 1]


def test_constant_scores_get_the_worst_rank():
    # 20 equal scores: rank 20 for everyone, never R@1 = 100
    assert retrieval_metrics(np.zeros((20, 20))) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "MdR": 20.0, "MnR": 20.0}


def test_nan_and_inf_of_other_items():
    # own score 1 at item 0; NaN and +inf stand above it, -inf and 0 below -> rank 3
    assert ranks([[1.0, NAN, INF, -INF, 0.0]], [0]).tolist() == [3]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_broken_own_score_names_the_query(bad):
    scores = np.eye(3)
    scores[1, 1] = bad
    with pytest.raises(VmrError) as caught:
        ranks(scores)
    assert str(caught.value) == (
        f"query 1 scores {bad} against its own gallery item 1: it has no rank; check the embeddings for NaN or infinity"
    )


def test_broken_own_score_beside_a_good_one_is_an_error():
    with pytest.raises(VmrError, match="query 0 scores nan against its own gallery item 2"):
        ranks([[0.5, 0.1, NAN]], [[0, 2]])


def test_300_of_1000_queries_without_a_score_is_an_error():
    scores = np.eye(1000)
    scores[range(700, 1000), range(700, 1000)] = NAN
    with pytest.raises(VmrError, match="query 700 scores nan"):
        retrieval_metrics(scores)


def test_best_of_several_own_items_counts():
    # own items 1 (7) and 3 (4): best is 7, only item 0 (9) is above -> rank 2; item 3 does not count against item 1
    assert ranks([[9, 7, 1, 4]], [[1, 3]]).tolist() == [2]
    # both own items lead with the same score -> rank 1: a tie among own items costs nothing
    assert ranks([[1, 8, 2, 8]], [[1, 3]]).tolist() == [1]
    # single indices and lists may be mixed: 4 is below 9 and 7 -> rank 3
    assert ranks([[9, 7, 1, 4], [9, 7, 1, 4]], [[0, 1], 3]).tolist() == [1, 3]


def test_one_item():
    assert retrieval_metrics([[0.3]]) == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0, "MdR": 1.0, "MnR": 1.0}


@pytest.mark.parametrize(
    ("scores", "ground_truth", "message"),
    [
        (np.zeros((0, 4)), [], "no queries"),
        (np.zeros((4, 0)), [0] * 4, "no gallery items"),
        (np.zeros(4), None, "must be .num_queries, num_gallery."),
        (np.zeros((2, 3)), None, r"shape \(2, 3\): without ground_truth it must be square"),
        ([[1, 2], [3]], None, "scores is not a matrix"),
        (np.array([["a"]]), None, "must be real numbers"),
        (np.zeros((2, 2)), [0], "1 entries for 2 queries"),
        (np.zeros((2, 2)), [0, 2], "query 1 names item 2; the gallery has 0 to 1"),
        (np.zeros((2, 2)), [-1, 0], "query 0 names item -1"),
        (np.zeros((2, 2)), [[0], []], "query 1 has no right gallery item"),
        (np.zeros((2, 2)), [0, 0.5], "query 1 is 0.5: expected an index"),
        (np.zeros((2, 2)), [0, "1"], "query 1 is '1': expected an index"),
    ],
)
def test_input_that_cannot_be_ranked(scores, ground_truth, message):
    with pytest.raises(VmrError, match=message):
        ranks(scores, ground_truth)


def test_both_directions_with_several_captions_per_video():
    scores = [
        # videos 0, 1, 2 (video 2 has no caption)
        [0.9, 0.2, 0.1],  # text 0 describes video 0: leads                   -> rank 1
        [0.3, 0.4, 0.8],  # text 1 describes video 0: below both others       -> rank 3
        [0.7, 0.6, 0.5],  # text 2 describes video 1: below 0.7               -> rank 2
    ]
    # V2T, column by column: video 0 has texts 0 and 1, best 0.9 leads        -> rank 1
    #                        video 1 has text 2 with 0.6, which leads         -> rank 1
    #                        video 2 asks nothing
    assert bidirectional_metrics(scores, [0, 0, 1]) == {
        "text_to_video/R@1": pytest.approx(100 / 3),
        "text_to_video/R@5": 100.0,
        "text_to_video/R@10": 100.0,
        "text_to_video/MdR": 2.0,
        "text_to_video/MnR": 2.0,
        "video_to_text/R@1": 100.0,
        "video_to_text/R@5": 100.0,
        "video_to_text/R@10": 100.0,
        "video_to_text/MdR": 1.0,
        "video_to_text/MnR": 1.0,
        "rsum": pytest.approx(100 / 3 + 500),
    }


def test_the_other_direction_may_have_scores_of_its_own():
    # T2V by the diagonal: ranks 1, 1; V2T: 0.1 is below 0.2 -> 2, and 0.4 leads -> 1
    result = bidirectional_metrics(np.eye(2), [0, 1], [[0.1, 0.2], [0.3, 0.4]])
    assert (result["text_to_video/MnR"], result["video_to_text/MnR"]) == (1.0, 1.5)
    with pytest.raises(VmrError, match=r"^video_to_text has shape \(2, 3\), expected \(3, 2\)$"):
        bidirectional_ranks(np.zeros((2, 3)), [0, 1], np.zeros((2, 3)))


def test_an_uncaptioned_video_does_not_shift_the_others():
    # video 0 has no caption; column 1: text 0 leads -> 1; column 2: text 1 (0.2) is below text 0 (0.3) -> 2
    result = bidirectional_metrics([[0.0, 0.9, 0.3], [0.0, 0.1, 0.2]], [1, 2])
    assert result["video_to_text/MnR"] == 1.5  # ranks 1, 2 -> MnR = 3/2


def test_a_text_may_describe_several_videos_or_none():
    scores = [
        # videos 0, 1, 2
        [0.1, 0.9, 0.5],  # text 0 describes videos 0 and 2: best 0.5, below 0.9  -> rank 2
        [0.7, 0.8, 0.6],  # text 1 describes nothing and asks nothing
        [0.3, 0.2, 0.4],  # text 2 describes video 0: 0.3 is below 0.4           -> rank 2
    ]
    # V2T: video 0 has texts 0 and 2, best 0.3, below the 0.7 of text 1           -> rank 2
    #      video 1 asks nothing; video 2 has text 0 with 0.5, below 0.6           -> rank 2
    truth = [(0, 2), (), 0]
    result = bidirectional_ranks(scores, truth)
    assert (result.text_to_video.tolist(), result.video_to_text.tolist()) == ([2, 2], [2, 2])
    texts, videos = query_indices(truth, 3)
    assert (texts.tolist(), videos.tolist()) == ([0, 2], [0, 2])
    assert right_answers(truth, 3, 3) == ([[0, 2], [], [0]], [[0, 2], [], [0]])
    assert [(len(rows), rows.dtype) for rows in query_indices([(), ()], 3)] == [(0, np.int64)] * 2


def test_nobody_asks():
    with pytest.raises(VmrError, match="no text has a video"):
        bidirectional_ranks(np.eye(2), [(), ()])
    with pytest.raises(VmrError, match=r"^no ranks: there was no query$"):
        summary(np.zeros(0, dtype=np.int64))


def test_the_metrics_are_the_summary_of_the_ranks():
    result = bidirectional_summary(DirectionRanks(np.array([1, 6, 20]), np.array([2, 11])))
    # T2V: R@1 = 1/3, R@5 = 1/3, R@10 = 2/3, MdR = 6, MnR = 27/3; V2T: R@1 = 0, R@5 = R@10 = 1/2, MdR = MnR = 13/2
    assert result == {
        "text_to_video/R@1": pytest.approx(100 / 3),
        "text_to_video/R@5": pytest.approx(100 / 3),
        "text_to_video/R@10": pytest.approx(200 / 3),
        "text_to_video/MdR": 6.0,
        "text_to_video/MnR": 9.0,
        "video_to_text/R@1": 0.0,
        "video_to_text/R@5": 50.0,
        "video_to_text/R@10": 50.0,
        "video_to_text/MdR": 6.5,
        "video_to_text/MnR": 6.5,
        "rsum": pytest.approx(400 / 3 + 100),
    }


def test_an_item_that_was_not_found_ranks_last():
    scores = [
        [0.2, -INF, 0.1, -INF],  # video 0 was found and leads                              -> rank 1
        [0.2, -INF, 0.1, -INF],  # video 1 was missed: after two found, tied with video 3   -> rank 4
        [-INF, -INF, -INF, -INF],  # nothing was found                                      -> rank 4
        [0.2, -INF, -INF, -INF],  # video 0 is right too, and was found                     -> rank 1
    ]
    truth = [0, 1, 2, (0, 3)]
    result = bidirectional_ranks(scores, truth, not_found=True)
    assert result.text_to_video.tolist() == [1, 4, 4, 1]
    # column 0: texts 0 and 3 are its own: 0.2, tied with text 1                   -> rank 2
    # column 1: all missed, text 1 own -> 4; column 2: text 2 missed, own -> 4; column 3: text 3 missed, own -> 4
    assert result.video_to_text.tolist() == [2, 4, 4, 4]
    with pytest.raises(VmrError, match="query 1 scores -inf against its own gallery item 1"):
        bidirectional_ranks(scores, truth)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_not_found_is_no_excuse_for_nan(bad):
    with pytest.raises(VmrError, match=f"query 1 scores {bad} against its own gallery item 1"):
        bidirectional_ranks([[1.0, -INF], [-INF, bad]], [0, 1], not_found=True)


def test_row_blocks_agree_with_one_block(monkeypatch):
    scores = np.random.default_rng(0).integers(0, 9, (23, 7))
    truth = [row % 7 for row in range(23)]
    whole = ranks(scores, truth)
    monkeypatch.setattr(metrics, "_BLOCK_ELEMENTS", 14)  # two rows at a time, the last block holds one
    assert ranks(scores, truth).tolist() == whole.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.bool_])
def test_any_real_dtype(dtype):
    assert ranks(np.eye(4).astype(dtype)).tolist() == [1, 1, 1, 1]
