"""Re-ranking: which pairs are scored, once each, and the score of all others; and the engine, with a model."""

import hashlib
import sqlite3
import threading

import numpy as np
import pytest
import torch

import vmr.retrieval.reranking.candidates
from tests.models import make_encoder, make_video, tiny_model
from vmr.errors import VmrError
from vmr.retrieval.reranking import plan as rerank_plan
from vmr.retrieval.reranking.candidates import NOT_RERANKED, Candidates
from vmr.retrieval.reranking.engine import rerank_videos
from vmr.retrieval.reranking.log import LOG_FILE, RerankLog
from vmr.retrieval.reranking.text_store import TextStore

# text 0 prefers videos 0, 2; text 1 prefers 1, 0; text 2 prefers 2, 1
SCORES = np.array([[0.9, 0.1, 0.5], [0.4, 0.8, 0.3], [0.1, 0.6, 0.7]], np.float32)


def logit(text: int, video: int) -> float:
    return 10 * text + video


def match(video, texts):
    return np.array([logit(text, video) for text in texts], np.float32)


def test_only_candidates_of_a_direction_have_logits():
    result = Candidates(SCORES, 1).score(match)
    no = -100  # as in upstream
    # text to video: text 0 -> video 0, text 1 -> video 1, text 2 -> video 2
    assert result.text_to_video.tolist() == [[0, no, no], [no, 11, no], [no, no, 22]]
    # video to text: video 0 -> text 0, video 1 -> text 1, video 2 -> text 2
    assert result.video_to_text.tolist() == [[0, no, no], [no, 11, no], [no, no, 22]]


def test_directions_differ():
    scores = np.array([[0.9, 0.8], [0.7, 0.1]], np.float32)
    result = Candidates(scores, 1).score(match)
    # both texts prefer video 0; both videos prefer text 0
    assert result.text_to_video.tolist() == [[0, NOT_RERANKED], [10, NOT_RERANKED]]
    assert result.video_to_text.tolist() == [[0, NOT_RERANKED], [1, NOT_RERANKED]]


def test_a_video_is_asked_once_and_a_pair_scored_once():
    asked = []

    def counting(video, texts):
        asked.append((video, texts.tolist()))
        return match(video, texts)

    Candidates(SCORES, 2).score(counting)
    # by text: 0 -> {0, 2}, 1 -> {1, 0}, 2 -> {2, 1}; by video: 0 -> {0, 1}, 1 -> {1, 2}, 2 -> {2, 0}
    assert asked == [(0, [0, 1]), (1, [1, 2]), (2, [0, 2])]


def test_k_beyond_the_gallery_scores_all():
    result = Candidates(SCORES, 100).score(match)
    assert result.text_to_video.tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert result.video_to_text.tolist() == [[0, 10, 20], [1, 11, 21], [2, 12, 22]]


def test_ties_take_the_first():
    result = Candidates(np.zeros((2, 3), np.float32), 1).score(match)
    assert (result.text_to_video != NOT_RERANKED).tolist() == [[True, False, False], [True, False, False]]
    scores = np.random.default_rng(0).integers(0, 3, (1, 300)).astype(np.float32)
    first = sorted(range(300), key=lambda video: (-scores[0, video], video))[:150]
    assert np.flatnonzero(Candidates(scores, 150).by_text).tolist() == sorted(first)


@pytest.mark.parametrize("k", [0, -1])
def test_no_candidates(k):
    with pytest.raises(VmrError, match="at least one candidate"):
        Candidates(SCORES, k).score(match)


def test_broken_logits():
    with pytest.raises(VmrError, match=r"video 0 .* not finite"):
        Candidates(SCORES, 1).score(lambda video, texts: np.full(len(texts), np.nan, np.float32))


def test_what_was_not_found_is_no_candidate():
    scores = np.array([[0.9, -np.inf], [-np.inf, -np.inf]], np.float32)
    result = Candidates(scores, 2).score(match)
    no = NOT_RERANKED
    assert result.text_to_video.tolist() == [[0, no], [no, no]]
    assert result.video_to_text.tolist() == [[0, no], [no, no]]


def test_scores_that_are_not_numbers():
    with pytest.raises(VmrError, match="2 of 4 scores are NaN"):
        Candidates(np.array([[0.5, np.nan], [np.nan, 0.1]], np.float32), 1).score(match)


def test_candidates_of_a_few_rows_at_a_time(monkeypatch):
    scores = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(np.float32)  # with ties
    whole = Candidates(scores, 7)
    monkeypatch.setattr(vmr.retrieval.reranking.candidates, "_SORTED_AT_ONCE", 64)
    parts = Candidates(scores, 7)
    assert np.array_equal(whole.by_text, parts.by_text) and np.array_equal(whole.by_video, parts.by_video)
    assert (whole.by_text.sum(1) == 7).all() and (whole.by_video.sum(0) == 7).all()
    assert whole.num_pairs == (whole.by_text | whole.by_video).sum()


# -- the engine: the same with a model ------------------------------------------------------------------------------

NUM_TEXTS, NUM_VIDEOS, K = 90, 5, 3


@pytest.fixture(scope="module")
def matcher():
    return make_encoder(tiny_model())


@pytest.fixture(scope="module")
def texts():
    return [f"caption {'very ' * (index % 7)}number {index}" for index in range(NUM_TEXTS)]


@pytest.fixture(scope="module")
def tokens(matcher):
    videos = matcher.video_tokens(make_video(NUM_VIDEOS))
    return lambda video: videos[video : video + 1]


@pytest.fixture(scope="module")
def scores():
    """Video 0 is a candidate of every text, video 1 only of its own candidates."""
    drawn = np.random.default_rng(0).normal(size=(NUM_TEXTS, NUM_VIDEOS)).astype(np.float32)
    drawn[:, 0] += 10
    drawn[:, 1] -= 10
    return drawn


@pytest.fixture(scope="module")
def defined(matcher, tokens, texts, scores):
    """`rerank` with every pair matched alone."""

    def alone(video, asked):
        return np.array([matcher.match(tokens(video), [texts[text]])[0, 0] for text in asked], np.float32)

    return Candidates(scores, K).score(alone)


def assert_same(result, expected):
    for one, other in zip(result, expected, strict=True):
        assert np.array_equal(one, other)


def test_the_engine_does_what_is_defined(matcher, tokens, texts, scores, defined):
    result = rerank_videos(matcher, tokens, texts, scores, K)
    for one, other in zip(result, defined, strict=True):
        assert one.dtype == np.float32 and np.array_equal(one == NOT_RERANKED, other == NOT_RERANKED)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert (result.text_to_video[:, 0] != NOT_RERANKED).all()
    assert (result.text_to_video[:, 1] == NOT_RERANKED).sum() >= NUM_TEXTS - K
    assert np.ptp(result.text_to_video[:, 0]) > 1e-2  # texts matter, so their order must be right


def test_small_batches_give_the_same(matcher, tokens, texts, scores, defined, monkeypatch):
    monkeypatch.setattr(rerank_plan, "TOKENS_AT_ONCE", 16)
    result = rerank_videos(matcher, tokens, texts, scores, K)
    np.testing.assert_allclose(result.text_to_video, defined.text_to_video, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.video_to_text, defined.video_to_text, rtol=0, atol=1e-6)


def test_a_video_is_remembered_once_and_a_text_read_once(texts, scores, tokens):
    matcher, calls = make_encoder(tiny_model()), []
    matcher.model.text_encoder.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    matcher.model.fusion.layers[0].cross_attention.key.register_forward_hook(lambda *_: calls.append("video"))
    rerank_videos(matcher, tokens, texts, scores, K)
    assert calls.count("video") == NUM_VIDEOS
    assert sum(call for call in calls if call != "video") == NUM_TEXTS


def test_an_interrupted_run_goes_on(matcher, tokens, texts, scores, tmp_path):
    straight = rerank_videos(matcher, tokens, texts, scores, K)

    def breaks(video):
        if video == 3:
            raise KeyboardInterrupt
        return tokens(video)

    with pytest.raises(KeyboardInterrupt):
        rerank_videos(matcher, breaks, texts, scores, K, work=tmp_path)
    asked = []

    def counting(video):
        asked.append(video)
        return tokens(video)

    assert_same(rerank_videos(matcher, counting, texts, scores, K, work=tmp_path), straight)
    assert asked == [3, 4]
    assert_same(rerank_videos(matcher, counting, texts, scores, K, work=tmp_path), straight)
    assert asked == [3, 4]  # all is in the log
    assert [path.name for path in tmp_path.iterdir()] == ["rerank.sqlite"]


@pytest.mark.parametrize("change", ["k", "scores", "texts", "weights", "text limit"])
def test_another_run_starts_anew(matcher, tokens, texts, scores, tmp_path, change):
    first = rerank_videos(matcher, tokens, texts, scores, K, work=tmp_path)
    arguments = {"matcher": matcher, "texts": texts, "scores": scores, "k": K}
    arguments |= {
        "k": {"k": K + 1},
        "scores": {"scores": scores + np.float32(1)},
        "texts": {"texts": [*texts[:-1], "another"]},
        "weights": {"matcher": make_encoder(tiny_model(seed=1))},
        "text limit": {"matcher": matcher.with_text_limit(6)},
    }[change]
    asked = []

    def counting(video):
        asked.append(video)
        return tokens(video)

    rerank_videos(tokens=counting, work=tmp_path, **arguments)
    assert asked == [0, 1, 2, 3, 4]
    assert_same(rerank_videos(matcher, counting, texts, scores, K, work=tmp_path), first)
    assert len(asked) == NUM_VIDEOS  # the first run is in the log still


def test_a_run_is_known_by_what_its_logits_depend_on(matcher, tokens, tmp_path):
    # a log written by an earlier version must be found again, so the key must stay as it is
    rerank_videos(matcher, tokens, ["a dog", "two dogs run"], np.array([[0.5], [-2.0]], np.float32), 3, work=tmp_path)
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        ((run,),) = connection.execute("SELECT run FROM runs").fetchall()
    settings = (
        f'{{"fingerprint": "{matcher.fingerprint}", "k": 3, "lengths": [4, 5], "shape": [2, 1], '
        '"texts": ["a dog", "two dogs run"]}'
    )
    scores = bytes.fromhex("0000003f 000000c0")  # 0.5 and -2 as float32, little-endian
    assert run == hashlib.sha256(settings.encode() + scores).hexdigest()


def test_a_run_keeps_its_batches_unless_memory_forbids(tmp_path):
    log = RerankLog(tmp_path, "run")
    assert log.fix_batch_size(512) == 512
    log.append(4, np.array([1.5, -2.0], np.float32))
    assert RerankLog(tmp_path, "run").fix_batch_size(2048) == 512  # as it began
    assert RerankLog(tmp_path, "run").read()[4].tolist() == [1.5, -2.0]
    assert RerankLog(tmp_path, "other").read() == {}
    assert log.fix_batch_size(256) == 256  # another batch size changes the last bits, so no earlier logits are kept
    assert log.read() == {}


def test_the_log_waits_while_another_process_writes(tmp_path):
    log, other = RerankLog(tmp_path, "run"), sqlite3.connect(tmp_path / LOG_FILE, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.2, other.rollback).start()
    log.append(1, np.array([2.5], np.float32))
    logits = log.read()[1]
    assert (logits.tolist(), logits.dtype) == ([2.5], np.float32)


@pytest.mark.parametrize(
    ("table", "call"),
    [
        ("runs", lambda log: log.fix_batch_size(8)),
        ("logits", lambda log: log.read()),
        ("logits", lambda log: log.append(1, np.zeros(1, np.float32))),
    ],
    ids=["batch size", "read", "append"],
)
def test_a_log_that_loses_its_tables_is_named(tmp_path, table, call):
    log = RerankLog(tmp_path, "run")
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute(f"DROP TABLE {table}")
    with pytest.raises(VmrError) as caught:
        call(log)
    assert str(caught.value) == (
        f"{tmp_path / LOG_FILE}: cannot be used as the log of re-ranking: no such table: {table}; "
        "make room on its disk, or remove it to start anew"
    )


def test_logits_of_another_length_are_computed_again(matcher, tokens, texts, scores, tmp_path):
    straight = rerank_videos(matcher, tokens, texts, scores, K, work=tmp_path)
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute("UPDATE logits SET logits = x'00000000' WHERE video = 2")
    assert_same(rerank_videos(matcher, tokens, texts, scores, K, work=tmp_path), straight)


def test_a_damaged_log_is_named(matcher, tokens, texts, scores, tmp_path):
    (tmp_path / LOG_FILE).write_bytes(b"not a database, and long enough to be sure of it" * 50)
    with pytest.raises(VmrError, match=rf"{LOG_FILE}: cannot be used .* remove it") as caught:
        rerank_videos(matcher, tokens, texts, scores, K, work=tmp_path)
    assert "\n" not in str(caught.value)


def test_texts_are_kept_in_the_folder_that_is_named(matcher, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no folder"))
    texts, lengths = ["a dog", "two dogs run"], np.array([4, 5])
    store = TextStore(matcher, texts, lengths, 64, tmp_path / "new" / "folder")
    found, expected = store.batch(np.array([1, 0])), matcher.read_texts(texts[::-1])
    torch.testing.assert_close(found.tokens[1, :4], expected.tokens[1, :4])
    torch.testing.assert_close(found.tokens[0], expected.tokens[0])
    assert (found.tokens[1, 4] == 0).all()  # padding
    assert (found.mask.tolist(), found.mask.dtype) == ([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], torch.int64)
    store.close()
    (tmp_path / "file").touch()
    with pytest.raises(VmrError) as caught:
        TextStore(matcher, texts, lengths, 64, tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'}: cannot take the features of 2 texts: File exists"


def test_a_budget_that_cannot_hold(matcher, tokens, texts, scores, tmp_path):
    with pytest.raises(VmrError, match="does not fit into 1 MiB: it needs at least"):
        rerank_videos(matcher, tokens, texts, scores, K, memory_bytes=2**20, work=tmp_path)


def test_what_does_not_go_together(matcher, tokens, texts, scores):
    with pytest.raises(VmrError, match=r"scores of shape \(90, 5\) are not those of 89 texts"):
        rerank_videos(matcher, tokens, texts[1:], scores, K)


def test_broken_logits_are_not_logged(matcher, texts, scores, tokens, tmp_path):
    with pytest.raises(VmrError, match=r"video 0 .* not finite"):
        rerank_videos(matcher, lambda video: tokens(video) * float("nan"), texts, scores, K, work=tmp_path)
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        assert connection.execute("SELECT count(*) FROM logits").fetchone() == (0,)


def test_nothing_to_rerank(matcher, tokens):
    result = rerank_videos(matcher, tokens, [], np.zeros((0, 2), np.float32), K)
    assert (result.text_to_video.shape, result.video_to_text.shape) == ((0, 2), (2, 0))
    result = rerank_videos(matcher, tokens, ["a dog"], np.full((1, 2), -np.inf, np.float32), K)
    assert result.text_to_video.tolist() == [[NOT_RERANKED] * 2]
