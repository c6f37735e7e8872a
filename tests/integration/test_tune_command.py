"""`vmr-index tune` on an index of vectors that were made up."""

import numpy as np
import pytest

from tests.index_by_blocks import new_index, space, video
from tests.integration.commands import refused, run_here
from vmr.models.catalogue import load_model
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds


@pytest.fixture
def index(tmp_path):
    """2000 rows in 44 lists."""
    encoder = load_model("offline")
    of_encoder = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "kind": "ivf_sq8"}
    with new_index(tmp_path / "index", space(encoder.embed_dim, **of_encoder)) as writer:
        rows = np.random.default_rng(0).normal(size=(2000, encoder.embed_dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        with writer.commit() as changes:
            changes.put_video(video("a.mp4", {1: rows}))
        bring_up_to_date(writer, 1, thresholds=Thresholds(file_rows=100, list_rows=100))
    return tmp_path / "index"


def settings(index):
    with IndexReader(index) as reader, reader.snapshot() as snapshot:
        return dict(snapshot.spaces()[0].search)


def test_the_setting_is_kept_and_a_table_is_printed(index):
    result = run_here("vmr-index", "tune", index, "--recall", 0.9, "--k", 5)
    assert result.returncode == 0, result.stderr
    kept = settings(index)
    assert kept["recall"] >= 0.9 and kept["k"] == 5 and kept["factory"] == "IVF{n},SQ8" and kept["num_queries"] == 200
    (line,) = [line for line in result.stdout.splitlines() if "chosen" in line]
    assert f" {kept['effort']} " in line and f"{kept['recall']:.3f}" in line
    assert "IVF51,SQ8, 200 queries" in result.stdout and "recall@5" in result.stdout and "lists read" in result.stdout


def test_queries_of_a_file_are_asked(index, tmp_path):
    (tmp_path / "queries.txt").write_text("a dog\n\n  two people ride bicycles \na man in a suit\n")
    result = run_here("vmr-index", "tune", index, "--recall", 0.5, "--queries", tmp_path / "queries.txt")
    assert result.returncode == 0, result.stderr
    assert settings(index)["num_queries"] == 3


def test_wrong_input_is_one_line(index, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for options, words in (
        (["--recall", 2], "error: --recall is 2, but all moments are a recall of 1"),
        (["--recall", 0], "--recall must be a positive number"),
        (["--k", 0], "--k must be a whole number of at least 1"),
        (["--space", "clip"], "has no space clip, but space"),
        (["--queries", tmp_path / "empty.txt"], "empty.txt holds no query: write one per line"),
        (["--queries", tmp_path / "latin.txt"], "latin.txt: cannot be read: it is not UTF-8"),
        (["--queries", tmp_path / "gone.txt"], "gone.txt: cannot be read: No such file"),
    ):
        assert words in refused(run_here("vmr-index", "tune", index, *options)), options
    assert settings(index) == {}
    assert "no such index" in refused(run_here("vmr-index", "tune", tmp_path / "nowhere"))


def test_an_exact_index_needs_no_tuning(tmp_path):
    with new_index(tmp_path / "index", space(8)) as writer, writer.commit() as changes:
        changes.put_video(video("a.mp4", {1: np.ones((3, 8), np.float32)}))
    assert "the recall is 1, and nothing to tune" in refused(run_here("vmr-index", "tune", tmp_path / "index"))
