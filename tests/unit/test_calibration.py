"""What a match is made of: statistics against numbers worked out by hand, and calibrations of made-up encoders."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vmr
from tests.indexes import SETTINGS, TwoDimensional, put_rows, space
from tests.paths import REPOSITORY
from vmr.errors import IndexFileError
from vmr.retrieval.calibration.calibrate import calibrate, calibration_of, weigh_words
from vmr.retrieval.calibration.calibration import VERSION, Calibration, packed, share_below, weighed
from vmr.retrieval.calibration.kept import keep_calibrated, kept_calibration
from vmr.retrieval.calibration.sentences import other_sentences, visible_sentences
from vmr.retrieval.calibration.statistics import auc, folds, logistic_regression, sigmoid
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter

CALIBRATION = Calibration(
    version=VERSION,
    rows=100,
    rule="words",
    auc=0.99,
    auc_words=0.98,
    auc_scores=0.9,
    visible_told=0.03,
    others_told=0.97,
    threshold=0.1,
    reference=(0.1, 0.3),
    spread=0.1,
    weights=packed(np.array([2.0, -1.0])),
    bias=0.5,
)
QUERIES = REPOSITORY / "tests" / "data" / "about_nothing_visible.txt"
numbers = st.floats(-1, 1, width=32)


class Words(TwoDimensional):
    """Texts about something visible point one way, all others the other; a bit of noise, and nothing of videos."""

    name, embed_dim = "words", 8

    def encode_text(self, texts):
        visible = frozenset(visible_sentences())
        rows = []
        for text in texts:
            noise = np.random.default_rng(list(text.encode())).normal(scale=0.2, size=8)
            rows.append(np.eye(8)[0] * (1 if text in visible else -1) + noise)
        return torch.nn.functional.normalize(torch.tensor(np.array(rows)).float(), dim=1)


class Random(TwoDimensional):
    """A direction at random for each text: it means nothing."""

    name, embed_dim = "random", 16

    def encode_text(self, texts):
        rows = [np.random.default_rng(list(text.encode())).normal(size=16) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(rows)).float(), dim=1)


def directions(num_rows: int, dim: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(num_rows, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def searching(rows: np.ndarray):
    return lambda queries, k: -np.sort(-(queries @ rows.T), axis=1)[:, :k]


def test_auc_counts_pairs_and_halves_of_ties():
    # Of 3 and 2 against 1 and 2: 3 > 1, 3 > 2, 2 > 1 and 2 = 2.
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4
    assert auc(np.array([0.0]), np.array([1.0])) == 0


def test_logistic_regression_by_hand():
    """Two rows, 1 and -1, one of each label: 2 * (1 - sigmoid(w)) = penalty * w, which w = log 3 solves for 0.5 / w."""
    (weight,), bias = logistic_regression(np.array([[1.0], [-1.0]]), np.array([True, False]), 0.5 / log(3))
    assert weight == pytest.approx(log(3), abs=1e-6)
    assert bias == pytest.approx(0, abs=1e-6)


def test_the_bias_of_a_logistic_regression_is_the_share_of_a_label():
    (weight,), bias = logistic_regression(np.zeros((8, 1)), np.arange(8) < 6, 1.0)
    assert weight == pytest.approx(0)
    assert sigmoid(np.array(bias)) == pytest.approx(6 / 8, abs=1e-5)


def test_logistic_regression_ends_where_labels_are_separable_and_far_apart():
    rows = np.array([[1e3], [2e3], [-1e3], [-2e3]])
    weights, bias = logistic_regression(rows, np.array([True, True, False, False]), 1e-3)
    assert np.isfinite(weights).all() and np.isfinite(bias)
    assert (rows @ weights + bias > 0).tolist() == [True, True, False, False]


def test_folds_hold_equally_many_of_both_labels():
    labels = np.arange(23) < 11
    fold = folds(labels, 5, seed=3)
    for label in (False, True):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_share_below_blurs_the_reference():
    # sigmoid(log 3) is 3/4, sigmoid(0) 1/2; the two values of the reference count equally.
    found = share_below(np.array([0.0, log(3)]), np.array([0.0]), 1.0)
    assert found == pytest.approx([0.5, 0.75])
    assert share_below(np.array(0.0), np.array([0.0, -log(3)]), 1.0) == pytest.approx(0.625)
    assert share_below(np.array([-1e6, 1e6]), np.array([0.0]), 1e-6) == pytest.approx([0, 1])


def test_words_count_where_they_are_eight_to_one_against():
    # Odds of 1 times (8/16)^4 are 1/16, a share of 1/17.
    assert weighed(np.array(0.5), -log(16)) == pytest.approx(1 / 17)
    assert weighed(np.array([0.0, 0.3, 1.0]), -log(7.9)) == pytest.approx([0, 0.3, 1])
    assert weighed(np.array([0.0, 1.0]), -1e4) == pytest.approx([0, 1])


def test_a_match_by_hand():
    query = np.array([0.0, 0.5 + log(16)])  # log-odds 2 * 0 - (0.5 + log 16) + 0.5
    assert CALIBRATION.log_odds(query) == pytest.approx(-log(16))
    near = (0.5 + 1 / (1 + np.exp(2))) / 2  # of the score 0.1: below 0.1 by half, and two spreads below 0.3
    odds = near / (1 - near) / 16
    assert CALIBRATION.match([0.1], query) == pytest.approx([odds / (1 + odds)])
    assert CALIBRATION.nothing_close(0.0999) and not CALIBRATION.nothing_close(0.1)


@given(st.lists(numbers, min_size=2), st.tuples(numbers, st.floats(-9, 9)), st.sampled_from(["words", "none"]))
def test_matches_grow_with_scores(scores, query, rule):
    calibration = replace(CALIBRATION, rule=rule, weights=CALIBRATION.weights if rule == "words" else "")
    matches = calibration.match(sorted(scores), np.array(query))
    assert matches.shape == (len(scores),)
    assert (matches >= 0).all() and (matches <= 1).all()
    assert (np.diff(matches) >= 0).all()


@given(st.tuples(numbers, st.floats(-9, 9)))
def test_a_match_tells_scores_apart(query):
    assert (np.diff(CALIBRATION.match(np.linspace(-0.5, 0.9, 29), np.array(query))) > 0).all()


def test_json_gives_the_same_calibration_again():
    assert Calibration.from_json(json.loads(json.dumps(CALIBRATION.to_json()))) == CALIBRATION


@pytest.mark.parametrize("value", [{}, {"version": VERSION + 1}, CALIBRATION.to_json() | {"version": 0}])
def test_no_calibration_and_one_of_another_version_are_none(value):
    assert Calibration.from_json(value) is None


@pytest.mark.parametrize("damage", [{"weights": "%"}, {"weights": "QQ=="}, {"spread": "wide"}, {"more": 1}])
def test_a_damaged_calibration_is_named(damage):
    with pytest.raises(IndexFileError, match="the calibration of the index is damaged"):
        Calibration.from_json(CALIBRATION.to_json() | damage)


def test_it_holds_until_the_index_has_grown_or_shrunk_by_half():
    assert [CALIBRATION.is_for(rows) for rows in (0, 66, 67, 100, 149, 150)] == [False, False, True, True, True, False]


def test_words_that_tell_are_used():
    calibration = calibrate(Words(), searching(directions(20, 8)), 20)
    assert calibration is not None and calibration.rule == "words"
    assert calibration.auc_words > 0.99 and calibration.auc > 0.99
    assert calibration.visible_told == pytest.approx(0.08, abs=0.005)
    assert calibration.others_told > 0.9
    vectors = Words().encode_text(["gibberish", visible_sentences()[0]]).numpy()
    assert calibration.log_odds(vectors)[0] < 0 < calibration.log_odds(vectors)[1]
    assert "told with AUC" in calibration.summary()


def test_an_encoder_without_meaning_never_says_that_nothing_is_close():
    calibration = calibrate(Random(), searching(directions(20, 16)), 20)
    assert calibration is not None and calibration.rule == "none"
    assert abs(calibration.auc - 0.5) < 0.08
    assert not calibration.nothing_close(0.0)
    assert "cannot be told" in calibration.summary() and f"AUC {calibration.auc:.2f}" in calibration.summary()


def test_a_model_of_one_domain_goes_by_the_score():
    """Of 1000 sentences whose words say nothing, a dozen about visible things score far above all others."""
    rng = np.random.default_rng(1)
    best, is_visible = rng.normal(0.2, 0.02, 1000), np.arange(1000) % 2 == 0
    best[:24:2] = 0.6
    words = weigh_words(directions(1000, 16).astype(np.float64), is_visible)
    calibration = calibration_of(words, best, is_visible, 50)
    assert (
        np.diff(calibration.match(np.linspace(0, 1, 101), np.zeros(16))) > 0
    ).all()  # none is so near 1 that it ties
    assert calibration.rule == "domain"
    said = [calibration.nothing_close(each) for each in calibration.match([0.2, 0.22, 0.4, 0.6], np.zeros(16))]
    assert said == [True, True, False, False]
    best[1:25:2] = 0.6  # as many of the others do as well
    assert calibration_of(words, best, is_visible, 50).rule == "none"


def test_the_same_score_for_all_sentences_is_no_error():
    is_visible = np.arange(100) < 50
    words = weigh_words(directions(100, 4).astype(np.float64), is_visible)
    calibration = calibration_of(words, np.full(100, 0.5), is_visible, 1)
    assert calibration.rule == "none"
    assert calibration.match([0.4, 0.5, 0.6], np.zeros(4)) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_what_cannot_be_calibrated_is_not():
    assert calibrate(Random(), searching(directions(1, 16)), 0) is None
    assert calibrate(TwoDimensional(), searching(directions(3, 2)), 3) is None  # it reads numbers only
    assert calibrate(Random(), lambda queries, k: np.full((len(queries), k), -np.inf, np.float32), 3) is None


@pytest.fixture
def index(tmp_path):
    """An index with the spaces of an encoder that means nothing and of one that reads numbers only."""

    def fill(changes):
        ids = [changes.add_space(space(each.name, each.embed_dim)) for each in (Random, TwoDimensional)]
        put_rows(changes, ids[0], [(f"{row}.mp4", 0, 8) for row in range(6)], directions(6, 16))

    with IndexWriter(tmp_path / "index", SETTINGS, fill):
        pass
    return tmp_path / "index"


def test_spaces_keep_their_calibration(index):
    encoders = {"random": Random(), "two": TwoDimensional()}
    with IndexWriter(index) as writer:
        keep_calibrated(writer, {})
        with writer.reader.snapshot() as snapshot:
            assert [each.calibration for each in snapshot.spaces()] == [{}, {}]
        keep_calibrated(writer, encoders)
        with writer.reader.snapshot() as snapshot:
            first, second = snapshot.spaces()
            commit = snapshot.meta("commit")
        kept = kept_calibration(first, 6)
        assert kept is not None and kept.rows == 6
        assert kept_calibration(second, 6) is None
        keep_calibrated(writer, encoders)  # nothing to do
        with writer.reader.snapshot() as snapshot:
            assert snapshot.meta("commit") == commit
    assert verify(index) == []


def test_a_space_that_has_grown_is_calibrated_again(index):
    with IndexWriter(index) as writer:
        keep_calibrated(writer, {"random": Random()})
        with writer.commit() as changes:
            put_rows(changes, 1, [(f"more{row}.mp4", 0, 8) for row in range(3)], directions(3, 16))
        keep_calibrated(writer, {"random": Random()})
        with writer.reader.snapshot() as snapshot:
            kept = kept_calibration(snapshot.spaces()[0], 9)
    assert kept is not None and kept.rows == 9


def test_a_damaged_calibration_is_made_again():
    kept = space("random", 16, calibration=CALIBRATION.to_json())
    assert kept_calibration(kept, 100) == CALIBRATION
    assert kept_calibration(kept, 6) is None
    assert kept_calibration(replace(kept, calibration=CALIBRATION.to_json() | {"spread": "wide"}), 100) is None


def test_a_search_calibrates_an_index_that_has_no_calibration(index):
    encoder = Random()
    opened = vmr.open_index(index, encoder, space="random")
    found = opened.search("a dog")
    assert found.nothing_close is False
    matches = [hit.match for hit in found]
    assert None not in matches and matches == sorted(matches, reverse=True)
    with IndexWriter(index) as writer, writer.commit() as changes:
        changes.set_space(1, calibration=replace(CALIBRATION, rows=6, rule="none", threshold=2.0, weights="").to_json())
    assert opened.search("a dog").nothing_close  # what is kept goes before what was made


def test_sentences_are_of_the_kind_that_is_said():
    kinds = visible_sentences(), other_sentences()
    for some in kinds:
        assert len(some) > 300
        assert all(text.isascii() and text == text.strip() and 0 < len(text.split()) <= 12 for text in some)
    every = [text.casefold() for some in (*kinds, QUERIES.read_text().splitlines()) for text in some]
    assert len(set(every)) == len(every)  # none stands for both, and none calibrates and tests


def test_no_sentence_is_a_caption_of_the_clips(clips):
    rows = [json.loads(line) for line in (clips / "clips.jsonl").read_text().splitlines()]
    captions = {text.casefold() for row in rows for text in (*row["captions"], row["written_caption"])}
    assert not captions & {text.casefold() for text in (*visible_sentences(), *other_sentences())}
