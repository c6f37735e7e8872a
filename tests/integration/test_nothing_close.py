"""Queries about nothing visible are told from sentences about real videos, by the encoder that comes with pip."""

import json

import numpy as np

import vmr
from tests.paths import REPOSITORY
from vmr.retrieval.calibration.kept import kept_calibration
from vmr.retrieval.texts import embed_texts

NOTHING = (REPOSITORY / "tests" / "data" / "about_nothing_visible.txt").read_text().splitlines()


def told(index: vmr.VideoIndex, encoder, texts) -> float:
    """The share of texts for which it is said that nothing is close."""
    calibration = kept_calibration(index.space, len(index))
    assert calibration is not None
    vectors = embed_texts(texts, encoder)
    scores, _ = index.search_vectors(vectors, 1)
    best = [calibration.match(score, vector)[0] for score, vector in zip(scores, vectors, strict=True)]
    return float(np.mean([calibration.nothing_close(match) for match in best]))


def test_three_videos(footage, tmp_path, offline):
    index = vmr.build_index(footage, tmp_path / "index", offline)
    assert len(NOTHING) >= 100
    assert told(index, offline, NOTHING) >= 0.9
    there = ["a cartoon rabbit", "people on bicycles in a street", "a man in a suit talks in a car"]
    assert told(index, offline, there) == 0
    assert index.space.calibration["rule"] == "words"


def test_the_real_clips(clips, tmp_path, offline):
    """What was promised for nonsense and for captions; half a minute of decoding, for which nothing can stand in."""
    rows = json.loads((clips / "test.json").read_text())
    index = vmr.build_index([clips / "videos" / row["video"] for row in rows], tmp_path / "index", offline)
    assert len(index) == len(rows) == 109
    assert told(index, offline, NOTHING) >= 0.9
    assert told(index, offline, [row["caption"] for row in rows]) <= 0.08
