"""Measuring how thoroughly an index must be searched."""

import json
import time

import numpy as np
import pytest

import vmr
from tests.index_by_blocks import new_index, space, video
from vmr.retrieval.vectors import tuning
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thoroughness, Thresholds
from vmr.retrieval.vectors.space_store import SpaceStore
from vmr.retrieval.vectors.tuning import tune

LIMITS = Thresholds(file_rows=50, list_rows=50)


@pytest.fixture
def make(tmp_path):
    """An index of 4000 rows in 16 dimensions without any order, which is hard for lists; 200 of them are newer."""
    writers = []

    def make(kind="ivf_flat", thresholds=LIMITS):
        writers.append(new_index(tmp_path / kind, space(16, kind=kind)).__enter__())
        rows = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
        for i in range(20):
            with writers[-1].commit() as changes:
                changes.put_video(video(f"{i}.mp4", {1: rows[200 * i : 200 * i + 200]}))
            if i == 18:
                bring_up_to_date(writers[-1], 1, thresholds=thresholds)
        return writers[-1]

    yield make
    for writer in writers:
        writer.__exit__(None, None, None)


def settings(writer) -> dict:
    with writer.reader.snapshot() as snapshot:
        return dict(snapshot.spaces()[0].search)


def recall_of(writer, queries, k, thoroughness=None) -> float:
    """Recall by brute force."""
    with writer.reader.snapshot() as snapshot:
        store = SpaceStore(writer.folder, snapshot.spaces()[0])
        store.refresh(snapshot)
        found = store.search(queries, k, thoroughness=thoroughness)[1]
        rows = np.concatenate([block.vectors for block in snapshot.blocks(1)])  # of windows 1 to 4000
        truth = np.argsort(-(queries @ rows.T), axis=1)[:, :k] + 1
        store.close()
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found, truth, strict=True)]))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_rabitq", "hnsw", "sq8"])
def test_the_cheapest_setting_that_is_good_enough(make, kind):
    writer = make(kind)
    queries = np.random.default_rng(1).normal(size=(60, 16)).astype(np.float32)
    found = tune(writer, 1, recall=0.9, k=5, queries=queries)
    assert found.k == 5 and found.num_queries == 60 and found.chosen in found.measured
    good = [each for each in found.measured if each.recall >= 0.9]
    assert found.chosen.cpu_ms == min(each.cpu_ms for each in good)
    for each in found.measured:
        assert each.recall == pytest.approx(recall_of(writer, queries, 5, each.thoroughness), abs=1e-9)
    kept = settings(writer)
    assert (kept["effort"], kept["rescore"]) == (found.chosen.thoroughness.effort, found.chosen.thoroughness.rescore)
    assert (kept["k"], kept["num_queries"], kept["num_rows"]) == (5, 60, 4000)
    assert kept["recall"] == pytest.approx(found.chosen.recall, abs=1e-4) and kept["cpu_ms"] > 0
    assert json.loads(json.dumps(kept)) == kept
    # The next search uses it.
    assert recall_of(writer, queries, 5) == pytest.approx(found.chosen.recall, abs=1e-9)


def test_more_effort_finds_more(make):
    writer = make()
    found = tune(writer, 1, recall=1.0, k=10, queries=np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32))
    first = [each for each in found.measured if each.thoroughness.rescore == 2]
    assert [each.thoroughness.effort for each in first] == [1, 2, 4, 8, 16, 32, 64, 97][: len(first)]
    recalls = [each.recall for each in first]
    assert recalls == sorted(recalls) and recalls[0] < 0.7 and recalls[-1] == 1
    assert found.factory == "IVF97,SQfp16" and settings(writer)["factory"] == "IVF{n},SQfp16"


def test_without_queries_rows_with_noise_are_asked_for(make):
    writer = make()
    found = tune(writer, 1, recall=0.5)
    assert (found.num_queries, found.k) == (200, 10)
    with writer.reader.snapshot() as snapshot:
        queries = tuning._noisy_rows(snapshot, snapshot.spaces()[0], 4000, 0)
        rows = np.concatenate([block.vectors for block in snapshot.blocks(1)])
    nearest = rows[np.argmax(queries @ rows.T / np.linalg.norm(rows, axis=1), axis=1)]
    cosines = (nearest * queries).sum(axis=1) / np.linalg.norm(nearest, axis=1) / np.linalg.norm(queries, axis=1)
    assert 0.6 < cosines.mean() < 0.95  # near a row, but none


def test_if_nothing_is_good_enough_nothing_changes(make, monkeypatch):
    writer = make()
    with writer.commit() as changes:
        changes.set_space(1, search={"factory": "IVF{n},SQfp16", "effort": 3, "rescore": 2})
    before = settings(writer)
    most = tuning._measure
    few = Thoroughness(1, 2)
    monkeypatch.setattr(tuning, "_measure", lambda *arguments: most(*arguments[:-1], few))
    with pytest.raises(
        vmr.VmrError, match=r"no setting of IVF97,SQfp16 finds 1 of the 10 best rows: the best finds 0\."
    ):
        tune(writer, 1, recall=1.0)
    assert settings(writer) == before


def test_equal_rows_are_equally_right(make, tmp_path):
    """Which of many equal rows is found makes no difference."""
    with new_index(tmp_path / "equal", space(4, kind="ivf_sq8")) as writer:
        rows = np.repeat(np.eye(4, dtype=np.float32), 500, axis=0)
        with writer.commit() as changes:
            changes.put_video(video("a.mp4", {1: rows}))
        assert bring_up_to_date(writer, 1, thresholds=LIMITS)
        found = tune(writer, 1, recall=1.0, queries=np.eye(4, dtype=np.float32))
        assert found.chosen.recall == 1


def test_only_the_time_of_the_search_counts(make, monkeypatch):
    """The thread that checks the file also takes time."""
    writer = make()
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    found = tune(writer, 1, recall=0.5, queries=np.ones((8, 16), np.float32))
    assert {each.cpu_ms for each in found.measured} == {125.0}  # one second for 8 queries


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recall": 0.0}, "recall is 0.0, but must be above 0 and at most 1"),
        ({"recall": 1.1}, "recall is 1.1, but"),
        ({"recall": 0.9, "k": 0}, "k is 0"),
    ],
)
def test_wrong_arguments(make, options, words):
    writer = make()
    with pytest.raises(vmr.VmrError, match=words):
        tune(writer, 1, **options)
    with pytest.raises(vmr.VmrError, match="no space with number 2"):
        tune(writer, 2, recall=0.9)


def test_an_exact_search_needs_no_tuning(make):
    for writer in (make("flat"), make("auto", Thresholds())):
        with pytest.raises(vmr.VmrError, match="the recall is 1, and nothing to tune"):
            tune(writer, 1, recall=0.9)
        assert settings(writer) == {}
