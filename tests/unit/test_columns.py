"""The columns of a report: what is said about each, and from its scores to its numbers, worked by hand."""

import math

import numpy as np
import pytest

from vmr.data.annotations.retrieval_set import Choice, RetrievalSet, VideoItem
from vmr.errors import VmrError
from vmr.eval.metrics.bootstrap import intervals, share_interval
from vmr.eval.metrics.columns import ColumnInfo, column_info
from vmr.eval.metrics.scoring import ColumnScores, score_column

VIDEOS = (VideoItem("man", None), VideoItem("cat", None))
DATA = RetrievalSet("pets", ("a man", "a man runs", "a cat"), (0, 0, 1), VIDEOS)
SCORES = np.array(
    [
        # videos 0, 1
        [0.9, 0.2],  # text 0 describes video 0: leads              -> rank 1
        [0.3, 0.4],  # text 1 describes video 0: below 0.4          -> rank 2
        [0.7, 0.6],  # text 2 describes video 1: below 0.7          -> rank 2
    ]
)
# video to text: video 0 has 0.9 of text 0, which leads -> 1; video 1 has 0.6 of text 2, which leads -> 1


@pytest.mark.parametrize(
    ("kind", "about", "marks"),
    [
        ("embedding", "dot products of text vectors and video vectors", ""),
        (
            "vtm",
            "raw matching logits (VTM) of the 7 best candidates by embedding, the others below them",
            "",
        ),
        ("static", "embeddings of videos that are one frame repeated: what this scores needs no motion", ""),
        ("shuffled", "embeddings of videos whose frames are out of order: what this scores needs no order", ""),
        ("index:Flat", "embeddings, searched through a FAISS index Flat", ""),
        ("index:IVF64", "embeddings, searched through a FAISS index IVF64", "approximate search"),
        (
            "embedding+dsl",
            "dot products of text vectors and video vectors; normalised by a dual softmax over all test queries (DSL)",
            "uses the other test queries",
        ),
        (
            "index:HNSW32+qbnorm",
            "embeddings, searched through a FAISS index HNSW32; "
            "normalised against a bank of all test queries (QB-Norm)",
            "uses the other test queries, approximate search",
        ),
    ],
)
def test_a_column_says_how_it_was_computed(kind, about, marks):
    info = column_info(kind, 7)
    assert (info.about, info.marks) == (about, marks)


def test_a_column_owes_nothing_to_other_queries_unless_it_says_so():
    assert ColumnInfo("a score").marks == ""
    assert "the 0 best candidates" in column_info("vtm").about


@pytest.mark.parametrize("kind", ["cosine", "embedding+magic", "cosine+dsl", ""])
def test_an_unknown_column_is_refused_with_the_known_ones(kind):
    with pytest.raises(VmrError) as caught:
        column_info(kind)
    assert str(caught.value) == (
        f"unknown kind of score '{kind}': known: vtm, embedding, static, shuffled, index:FACTORY, with +dsl or +qbnorm"
    )


def test_a_column_holds_metrics_intervals_and_ranks():
    result = score_column(ColumnScores(SCORES), DATA)
    assert result.ranks_by_direction() == {"text_to_video": (1, 2, 2), "video_to_text": (1, 1)}
    assert result.metrics == {
        "text_to_video/R@1": pytest.approx(100 / 3),
        "text_to_video/R@5": 100.0,
        "text_to_video/R@10": 100.0,
        "text_to_video/MdR": 2.0,
        "text_to_video/MnR": pytest.approx(5 / 3),
        "video_to_text/R@1": 100.0,
        "video_to_text/R@5": 100.0,
        "video_to_text/R@10": 100.0,
        "video_to_text/MdR": 1.0,
        "video_to_text/MnR": 1.0,
        "rsum": pytest.approx(100 / 3 + 500),
    }
    assert result.intervals == intervals(result.ranks)
    assert result.alarms == ()


def test_the_other_direction_may_have_scores_of_its_own():
    # video 0: 0.2 of text 1 is below 0.5 -> 2; video 1: 0.2 of text 2 is below 0.3 -> 2
    back = np.array([[0.1, 0.2, 0.5], [0.3, 0.1, 0.2]])
    result = score_column(ColumnScores(SCORES, back), DATA)
    assert result.ranks_by_direction() == {"text_to_video": (1, 2, 2), "video_to_text": (2, 2)}
    back[0, 2] = math.nan
    (alarm,) = score_column(ColumnScores(SCORES, back), DATA).alarms
    assert alarm.startswith("of 6 scores (video to text), 1 NaN: ")


def test_what_a_search_missed_ranks_last_and_is_no_alarm():
    missed = SCORES.copy()
    missed[1] = -math.inf  # text 1 found nothing -> rank 2 of 2
    result = score_column(ColumnScores(missed, not_found=True), DATA)
    assert result.ranks_by_direction()["text_to_video"] == (1, 2, 2)
    assert result.alarms == ()
    with pytest.raises(VmrError, match="query 1 scores -inf against its own gallery item 0"):
        score_column(ColumnScores(missed), DATA)


def test_a_column_is_searched_for_signs_that_it_is_broken_unless_it_is_a_control():
    texts, videos = np.eye(3), np.eye(2)
    texts[0, 0], videos[1] = math.nan, 0.0
    scores = ColumnScores(SCORES, text_vectors=texts, video_vectors=videos)
    assert score_column(scores, DATA).alarms == (
        "1 of 3 text embeddings have NaN or infinite numbers",
        "1 of 2 video embeddings are zero",
    )
    control = score_column(scores, DATA, with_alarms=False)
    assert control.alarms == ()
    assert control.metrics == score_column(scores, DATA).metrics


def test_questions_have_an_accuracy_and_no_ranks():
    # video 0: 0.9 leads 0.3 -> right; video 1: text 2 is right and 0.6 leads 0.4 -> right; 0.3 of text 1 does not
    # lead 0.7 -> wrong: two of three
    questions = (Choice(0, (0, 1), 0), Choice(1, (1, 2), 1), Choice(0, (2, 1), 1))
    data = RetrievalSet("quiz", DATA.texts, DATA.video_of_text, VIDEOS, choices=questions)
    result = score_column(ColumnScores(SCORES), data)
    assert result.metrics == {"accuracy": pytest.approx(200 / 3)}
    assert result.intervals == {"accuracy": share_interval(np.array([True, True, False]))}
    assert (result.ranks, result.alarms, result.ranks_by_direction()) == (None, (), {})
