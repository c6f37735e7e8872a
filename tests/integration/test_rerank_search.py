"""A re-ranked search says what `vmr-eval --rerank` says of the same index, pair by pair."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.integration.commands import refused, run, run_here
from vmr.data.shapes.files import make_shapes
from vmr.eval.scores import all_scores
from vmr.eval.task import EvalOptions, load, prepare
from vmr.eval.videos import embed_retrieval_set
from vmr.models.catalogue import load_model
from vmr.processes import ALONE
from vmr.retrieval.embedding.token_files import TOKENS
from vmr.retrieval.reranking.candidates import NOT_RERANKED

MODEL = "videomamba-nano-shapes"
K = 12
# The evaluation matches many texts in a batch, a search one: products of matrices of other sizes round differently.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def encoder():
    return load_model(MODEL, device="cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """20 clips, and an index of them that keeps tokens."""
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder / "clips", ("pairs", "order"), 10, split="test")
    built = run(
        "vmr-index", "build", folder / "clips", "--out", folder / "index", "--encoder", MODEL, "--segments", "whole",
        "--keep-tokens",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert built.stdout.splitlines()[0] == "tokens take 41 kB a window"
    return folder


@pytest.fixture(scope="module")
def evaluated(shapes, encoder) -> tuple[list[str], list[str], np.ndarray]:
    """The sentences, the videos, and the logits (Q, V) that `vmr-eval --rerank` scores them with."""
    task = prepare(load(shapes / "clips" / "test.json", None, None), encoder, EvalOptions(rerank_depth=K))
    data = task.data
    embedded = embed_retrieval_set(
        data, task.encoder, task.frames, tokens=True, index=vmr.open_index(shapes / "index"), decode=task.options.decode
    )
    scores = all_scores(task, data, embedded, cache=None, processes=ALONE, progress=False)["vtm"].text_to_video
    return list(data.texts), [str(video.path) for video in data.videos], scores


def test_every_logit_and_the_order_are_those_of_the_evaluation(shapes, evaluated, encoder):
    texts, files, scores = evaluated
    index = vmr.open_index(shapes / "index", encoder)
    for text, row in zip(texts, scores, strict=True):
        found = index.search(text, k=K, rerank=K, keep_duplicates=True)
        logits = {files.index(hit.video): hit.rerank_score for hit in found}
        assert logits.keys() == set(np.flatnonzero(row != NOT_RERANKED)) and len(logits) == K
        assert np.abs([row[place] - logit for place, logit in logits.items()]).max() < ROUNDING
        ours = row[list(logits)]  # the evaluation's logits in our order
        assert (np.diff(ours) < ROUNDING).all()


def test_tokens_that_are_made_when_needed_give_the_same_to_the_bit(shapes, evaluated, encoder, tmp_path):
    made = Path(shutil.copytree(shapes / "index", tmp_path / "index", ignore=shutil.ignore_patterns(TOKENS)))
    for text in evaluated[0][:2]:
        kept, again = (vmr.open_index(each, encoder).search(text, K, rerank=K) for each in (shapes / "index", made))
        assert kept.hits == again.hits and kept[0].rerank_score is not None


def test_the_rank_in_the_report_is_the_place_in_the_search(shapes, evaluated, encoder, tmp_path):
    report = tmp_path / "report.json"
    done = run_here(
        "vmr-eval", "--dataset", shapes / "clips" / "test.json", "--encoder", MODEL, "--index", shapes / "index",
        "--rerank", K, "--no-cache", "--out", report,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((shapes / "clips" / "test.json").read_text())
    ranks = json.loads(report.read_text())["ranks"]["vtm"]["text_to_video"]
    index = vmr.open_index(shapes / "index", encoder)
    num_found = 0
    for row, rank in zip(rows, ranks, strict=True):
        own = str(shapes / "clips" / row["video"])
        found = [hit.video for hit in index.search(row["caption"], K, rerank=K, keep_duplicates=True)]
        if own in found:
            assert found.index(own) + 1 == rank, row
            num_found += 1
    assert num_found >= 12


def test_a_person_is_told_which_moments_were_not_re_ranked(shapes, evaluated, tmp_path):
    made = Path(shutil.copytree(shapes / "index", tmp_path / "index", ignore=shutil.ignore_patterns(TOKENS)))
    gone = Path(evaluated[1][0])
    text = evaluated[0][0]
    gone.rename(tmp_path / gone.name)
    try:
        done = run_here("vmr-search", made, text, "--k", 5, "--rerank", K)
    finally:
        (tmp_path / gone.name).rename(gone)
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()[1:]
    told = f"not re-ranked: 1 of {K} moments, which come after the others; first: {gone}: no such file"
    assert done.stderr.splitlines() == [told]
    assert "re-ranked" in header and len(rows) == 5 and not any(gone.name in row for row in rows)


def test_an_estimate_says_how_much_room_tokens_take(shapes, tmp_path):
    asked = ("--encoder", MODEL, "--window", "0.5", "--estimate")
    done = run_here("vmr-index", "build", shapes / "clips", "--out", tmp_path / "index", *asked)
    assert done.returncode == 0 and "3 MiB more with --keep-tokens" in done.stdout


def test_offline_is_told_that_it_has_no_tokens(shapes, tmp_path):
    line = refused(run_here("vmr-index", "build", shapes / "clips", "--out", tmp_path / "index", "--keep-tokens"))
    assert line == (
        "error: --keep-tokens is for models that compare a sentence and a video token by token, not for offline: leave "
        "it out, or add such a model"
    )
    assert not (tmp_path / "index").exists()
