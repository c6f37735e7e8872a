"""Re-ranking: who is asked for, once, and what stays below."""

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.retrieval.rerank import NOT_RERANKED, rerank

# text 0 prefers videos 0, 2; text 1 prefers 1, 0; text 2 prefers 2, 1
SCORES = np.array([[0.9, 0.1, 0.5], [0.4, 0.8, 0.3], [0.1, 0.6, 0.7]], np.float32)


def logit(text: int, video: int) -> float:
    return 10 * text + video


def match(video, texts):
    return np.array([logit(text, video) for text in texts], np.float32)


def test_only_candidates_of_a_direction_have_logits():
    result = rerank(SCORES, match, k=1)
    no = NOT_RERANKED
    # text to video: text 0 -> video 0, text 1 -> video 1, text 2 -> video 2
    assert result.text_to_video.tolist() == [[0, no, no], [no, 11, no], [no, no, 22]]
    # video to text: video 0 -> text 0, video 1 -> text 1, video 2 -> text 2
    assert result.video_to_text.tolist() == [[0, no, no], [no, 11, no], [no, no, 22]]


def test_directions_differ():
    scores = np.array([[0.9, 0.8], [0.7, 0.1]], np.float32)
    result = rerank(scores, match, k=1)
    # both texts prefer video 0; both videos prefer text 0
    assert result.text_to_video.tolist() == [[0, NOT_RERANKED], [10, NOT_RERANKED]]
    assert result.video_to_text.tolist() == [[0, NOT_RERANKED], [1, NOT_RERANKED]]


def test_a_video_is_asked_once_and_a_pair_scored_once():
    asked = []

    def counting(video, texts):
        asked.append((video, texts.tolist()))
        return match(video, texts)

    rerank(SCORES, counting, k=2)
    # by text: 0 -> {0, 2}, 1 -> {1, 0}, 2 -> {2, 1}; by video: 0 -> {0, 1}, 1 -> {1, 2}, 2 -> {2, 0}
    assert asked == [(0, [0, 1]), (1, [1, 2]), (2, [0, 2])]


def test_k_beyond_the_gallery_scores_all():
    result = rerank(SCORES, match, k=100)
    assert result.text_to_video.tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert result.video_to_text.tolist() == [[0, 10, 20], [1, 11, 21], [2, 12, 22]]


def test_ties_take_the_first():
    result = rerank(np.zeros((2, 3), np.float32), match, k=1)
    assert (result.text_to_video != NOT_RERANKED).tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize("k", [0, -1])
def test_no_candidates(k):
    with pytest.raises(VmrError, match="at least one candidate"):
        rerank(SCORES, match, k)


def test_broken_logits():
    with pytest.raises(VmrError, match=r"video 0 .* not finite"):
        rerank(SCORES, lambda video, texts: np.full(len(texts), np.nan, np.float32), k=1)
