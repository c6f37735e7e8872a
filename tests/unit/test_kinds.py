"""Kinds of FAISS indexes: their names, when an index makes which, and how thoroughly it is searched."""

import numpy as np
import pytest

from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.kinds import (
    THRESHOLDS,
    Thoroughness,
    Thresholds,
    factory_matches,
    factory_of_space,
    is_exact,
    needs_training,
    num_training_rows,
    with_lists,
)


@pytest.mark.parametrize(
    ("kind", "dtype", "rows", "before", "factory"),
    [
        ("auto", "float16", 99_999, "", "SQfp16"),
        ("auto", "float32", 99_999, "", "Flat"),
        ("auto", "float16", 100_000, "", "IVF{n},SQ8"),
        ("auto", "float32", 100_000, "Flat", "IVF{n},SQ8"),
        # Lists stay while an index shrinks a little, so that it is not built again and again around one number.
        ("auto", "float16", 50_000, "IVF316,SQ8", "IVF{n},SQ8"),
        ("auto", "float16", 49_999, "IVF316,SQ8", "SQfp16"),
        ("flat", "float16", 10**6, "", "SQfp16"),
        ("hnsw", "float16", 10, "", "HNSW32,SQfp16"),
        ("HNSW", "float32", 10, "", "HNSW32,Flat"),
        ("ivf_flat", "float16", 10, "", "IVF{n},SQfp16"),
        ("ivf_rabitq", "float16", 10, "", "IVF{n},RaBitQ"),
        ("sq8", "float32", 10, "", "SQ8"),
        ("IVF100,Flat", "float16", 10, "", "IVF100,Flat"),  # what is spelled out is taken as it is
        ("OPQ16,IVF{n},PQ16", "float16", 10, "", "OPQ16,IVF{n},PQ16"),
    ],
)
def test_the_kind_of_a_space(kind, dtype, rows, before, factory):
    assert factory_of_space(kind, dtype, rows, THRESHOLDS, before) == factory


@pytest.mark.parametrize(
    ("pattern", "factory", "same"),
    [
        ("IVF{n},SQ8", "IVF1000,SQ8", True),
        ("IVF{n},SQ8", "IVF,SQ8", False),
        ("IVF{n},SQ8", "IVF10,SQ8,x", False),
        ("IVF10,SQ8", "IVF100,SQ8", False),
        ("SQfp16", "SQfp16", True),
        ("Flat", "SQfp16", False),
        ("IVF{n}_HNSW32,SQ8", "IVF64_HNSW32,SQ8", True),
    ],
)
def test_the_same_kind(pattern, factory, same):
    assert factory_matches(pattern, factory) == same


def test_lists_and_training():
    # 2 sqrt(1e6) = 2000; 500 // 39 = 12 is less than 2 sqrt(500) = 45
    assert [with_lists("IVF{n},SQ8", n) for n in (10**6, 500, 3)] == ["IVF2000,SQ8", "IVF12,SQ8", "IVF1,SQ8"]
    assert with_lists("SQfp16", 500) == "SQfp16"
    assert [num_training_rows(kind) for kind in ("IVF1000,SQ8", "IVF10,SQ8", "SQ8")] == [64_000, 16_384, 16_384]
    assert [kind for kind in ("Flat", "SQfp16", "HNSW32,SQfp16", "HNSW32,Flat") if needs_training(kind)] == []
    assert all(needs_training(kind) for kind in ("SQ8", "IVF10,Flat", "PQ16", "HNSW32,SQ8", "IVF10,SQfp16"))
    assert is_exact("SQfp16", "float16") and is_exact("Flat", "float32")
    assert not is_exact("SQfp16", "float32") and not is_exact("SQ8", "float16")


def test_how_many_rows_may_be_newer():
    limits = Thresholds(flat_delta=5, delta=20, delta_share=0.02)
    assert limits.max_delta("SQfp16", 10**6) == 5
    assert [limits.max_delta("IVF9,SQ8", count) for count in (900, 1001, 5000)] == [20, 20, 100]
    assert limits.max_delta("HNSW32,SQfp16", 5000) == 100


def test_the_effort_of_a_search():
    usual = Thoroughness(effort=8, rescore=2)
    assert [usual.num_candidates(k) for k in (1, 10, 100)] == [11, 20, 200]
    # 1,000,000 rows in 1000 lists: 8 lists hold 8000 rows. Each of 200 lists holds 500 of 100,000 selected rows, so
    # that 4 * 8000 / 500 = 64 lists are read, or 4 * 8000 / 100 = 320 of 1000 if the others cannot be passed over.
    assert usual.num_lists(20, 1.0, 10**6, 1000, 1000) == 8
    assert usual.num_lists(20, 0.1, 10**6, 1000, 200) == 64
    assert usual.num_lists(20, 0.1, 10**6, 1000, 1000) == 320
    assert usual.num_lists(20, 0.01, 10**6, 1000, 200) == 200
    # Of rows of which a few were removed, hardly more are read: (1 + 8 * 0.01) * 8 / 0.99 = 8.73.
    assert usual.num_lists(20, 0.99, 10**6, 1000, 1000) == 9
    # 200 candidates of 10,000 rows in 100 lists: 20 lists hold 2000 rows.
    assert usual.num_lists(200, 1.0, 10_000, 100, 100) == 20
    # A graph keeps at least the candidates, and never more than all rows.
    graph = Thoroughness(effort=128, rescore=2)
    assert [graph.ef_search(n, 1.0, 10**6) for n in (20, 400)] == [128, 400]
    assert graph.ef_search(20, 0.5, 100) == 100
    assert [graph.ef_search(20, share, 10**6) for share in (0.6, 0.01)] == [128, 7680]


def test_what_was_measured_is_for_its_kind():
    tuned = {"factory": "IVF{n},SQ8", "effort": 5, "rescore": 3, "recall": 0.99}
    assert Thoroughness.of("IVF77,SQ8", tuned) == Thoroughness(5, 3)
    assert Thoroughness.of("IVF77,SQfp16", tuned) == Thoroughness.of("IVF77,SQfp16", {}) == Thoroughness(8, 2)
    assert Thoroughness.of("IVF77,SQ8", {"factory": "IVF{n},SQ8", "effort": 5}) == Thoroughness(8, 2)
    assert Thoroughness.of("HNSW32,SQfp16", {}) == Thoroughness(128, 2)
    assert Thoroughness.of("IVF77,RaBitQ", {}) == Thoroughness(16, 10)


# --- the store of vectors, as generations use it ----------------------------------------------------------------------


def normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


@pytest.mark.parametrize("kind", ["Flat", "SQfp16", "IVF10,SQ8", "HNSW16,SQfp16", "PCA8,IVF10,SQ8", "IVF10,RaBitQ"])
@pytest.mark.filterwarnings("ignore")
def test_a_mapped_file_answers_as_the_index_in_memory(tmp_path, kind):
    store = FaissStore(16, kind, tmp_path / "a.faiss")
    ids = np.random.default_rng(1).permutation(3000)[:1000]
    store.train(normal(1000))
    store.add(ids[:500], normal(1000)[:500])
    store.add(ids[500:], normal(1000)[500:])
    store.commit()
    mapped = FaissStore.open(tmp_path / "a.faiss", mapped=True)
    assert sorted(mapped.ids) == sorted(store.ids) == sorted(ids) and mapped.num_lists == store.num_lists
    mask = np.zeros(2500, bool)
    mask[::3] = True
    for allowed in (None, mask, np.flatnonzero(mask)):
        for effort in (None, 1000):
            found = mapped.search(normal(5, 2), 20, allowed, effort=effort)
            expected = store.search(normal(5, 2), 20, allowed, effort=effort)
            assert all(map(np.array_equal, found, expected))
            if allowed is not None:
                assert mask[found[1][found[1] >= 0]].all() and (found[1] >= 0).any()


def test_a_mapped_file_cannot_be_changed(tmp_path):
    from vmr import VmrError

    store = FaissStore(16, path=tmp_path / "a.faiss")
    store.add(np.arange(5), normal(5))
    store.commit()
    mapped = FaissStore.open(tmp_path / "a.faiss", mapped=True)
    for change in (lambda: mapped.add(np.array([9]), normal(1)), lambda: mapped.remove(np.array([1]))):
        with pytest.raises(VmrError, match=r"a\.faiss is open for searching only"):
            change()


def test_effort_is_lists_or_rows():
    lists = FaissStore(16, "IVF20,Flat")
    lists.add(np.arange(2000), normal(2000))
    exact = FaissStore(16)
    exact.add(np.arange(2000), normal(2000))
    truth = exact.search(normal(9, 1), 10)[1]
    recall = [np.mean(lists.search(normal(9, 1), 10, effort=n)[1] == truth) for n in (1, 20)]
    assert recall[0] < 0.8 and recall[1] == 1


def test_the_longest_vector():
    store = FaissStore(16, "SQfp16")
    rows = normal(20_000)
    rows[12_345] *= 9
    store.add(np.arange(20_000), rows)
    assert store.largest_norm == pytest.approx(np.linalg.norm(rows[12_345]), rel=1e-3)


def test_an_id_is_refused_however_it_came(tmp_path):
    """The check must not read all ids at every addition, so it takes several ways."""
    from vmr import VmrError

    store = FaissStore(16, path=tmp_path / "a.faiss")
    store.add(np.array([5, 9]), normal(2))
    store.add(np.array([10]), normal(1))  # larger than all
    store.add(np.array([7]), normal(1))  # smaller than some
    for used in (5, 7, 9, 10):
        with pytest.raises(VmrError, match="not in use"):
            store.add(np.array([used]), normal(1))
    store.remove(np.array([7, 10]))
    store.add(np.array([7]), normal(1))
    store.commit()
    again = FaissStore.open(tmp_path / "a.faiss")
    with pytest.raises(VmrError, match="not in use"):
        again.add(np.array([7]), normal(1))
    again.add(np.array([10]), normal(1))
    assert sorted(again.ids) == [5, 7, 9, 10]


def test_graphics_cards_are_not_chosen_where_there_are_none(monkeypatch):
    import faiss

    if faiss.get_num_gpus():
        pytest.skip("this FAISS has a graphics card")
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: pytest.fail("no card"), raising=False)
    FaissStore(16, "IVF5,Flat").add(np.arange(300), normal(300))
