"""The store of vectors: ids, removal, filters, and the files after a commit."""

import numpy as np
import pytest

import vmr
from vmr.retrieval.store import FACTORIES, FaissStore


def vectors(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def test_by_hand():
    store = FaissStore(2)
    assert len(store) == 0
    store.add(np.array([7, 3]), np.array([[1, 0], [0, 2]], np.float32))
    # (3, 4) . (1, 0) = 3, (3, 4) . (0, 2) = 8
    scores, ids = store.search(np.array([[3, 4]], np.float32), k=3)
    assert ids.tolist() == [[3, 7, -1]]
    assert scores.tolist() == [[8.0, 3.0, -np.inf]]
    assert store.vectors(np.array([3, 7])).tolist() == [[0, 2], [1, 0]]


def test_an_empty_store_finds_nothing():
    scores, ids = FaissStore(2).search(np.zeros((1, 2), np.float32), k=2)
    assert ids.tolist() == [[-1, -1]] and np.isneginf(scores).all()
    assert FaissStore(2).vectors(np.empty(0, np.int64)).shape == (0, 2)


@pytest.mark.parametrize("kind", ["flat", "sq8", "ivf_flat", "ivf_sq8"])
def test_what_was_removed_is_not_found(kind):
    rows = vectors(400)
    store = FaissStore(16, kind)
    store.add(np.arange(1000, 1400), rows)
    store.remove(np.array([1005, 1006, 5]))  # 5 is not there
    assert len(store) == 398
    _, ids = store.search(rows[5:7], k=398)
    assert not np.isin(ids, [1005, 1006]).any()


def test_a_graph_cannot_forget():
    store = FaissStore(16, "hnsw")
    store.add(np.arange(100), vectors(100))
    with pytest.raises(vmr.VmrError, match="HNSW32,Flat: FAISS cannot"):
        store.remove(np.array([1]))


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_search_may_be_limited_to_some_ids(kind):
    rows = vectors(400)
    store = FaissStore(16, kind)
    store.add(np.arange(1000, 1400), rows)
    allowed = np.array([1001, 1203, 1399])
    _, ids = store.search(rows[[1, 203, 399]], 3, allowed)
    assert np.isin(ids, [-1, *allowed]).all()
    assert ids[:, 0].tolist() == allowed.tolist()  # each vector finds itself


def test_a_commit_is_what_is_opened(tmp_path):
    rows, path = vectors(50), tmp_path / "vectors.faiss"
    store = FaissStore(16, path=path)
    store.add(np.arange(10, 60), rows)
    assert not path.exists()
    store.commit()
    store.remove(np.array([10]))  # not committed
    again = FaissStore.open(path)
    assert len(again) == 50
    assert np.array_equal(again.vectors(np.array([10, 59])), rows[[0, 49]])
    again.remove(np.array([10]))
    again.commit()
    assert len(FaissStore.open(path)) == 49


@pytest.mark.parametrize(("kind", "is_exact"), [("flat", True), ("sq8", False), ("hnsw", False), ("ivf_flat", False)])
def test_a_store_that_is_opened_knows_its_kind(tmp_path, kind, is_exact):
    store = FaissStore(16, kind, tmp_path / "vectors.faiss")
    store.add(np.arange(400), vectors(400))
    store.commit()
    again = FaissStore.open(str(tmp_path / "vectors.faiss"))
    assert again.is_exact == is_exact and again.default_k == store.default_k == (128 if kind == "hnsw" else 400)
    for found, expected in zip(again.search(vectors(3), 5), store.search(vectors(3), 5), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda store: store.add(np.array([1, 1]), vectors(2)), "different, not negative and not in use"),
        (lambda store: store.add(np.array([-1]), vectors(1)), "not negative"),
        (lambda store: store.add(np.array([7]), vectors(1)), "not in use"),
        (lambda store: store.add(np.array([1, 2]), vectors(1)), "1 vectors need as many ids"),
        (lambda store: store.add(np.array([0.5]), vectors(1)), "ids of type float64"),
        (lambda store: store.add(np.array([1]), vectors(1, width=8)), r"vectors of shape \(1, 8\)"),
        (lambda store: store.search(vectors(1), 0), "k is 0"),
        (lambda store: store.search(vectors(1, width=8), 1), r"vectors of shape \(1, 8\)"),
        (lambda store: store.vectors(np.array([7, 8])), "no vector with id 8"),
    ],
)
def test_what_makes_no_sense_is_one_line(call, words):
    store = FaissStore(16)
    store.add(np.array([7]), vectors(1))
    with pytest.raises(vmr.VmrError, match=words):
        call(store)
    assert len(store) == 1
    with pytest.raises(vmr.VmrError, match="no vector with id 1"):
        FaissStore(16).vectors(np.array([1]))


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "vectors.faiss").write_bytes(b"nothing of the kind")
    with pytest.raises(vmr.IndexFileError, match="FAISS cannot read this file"):
        FaissStore.open(tmp_path / "vectors.faiss")


def test_a_file_without_ids_is_numbered_from_0(tmp_path):
    import faiss

    flat = faiss.IndexFlatIP(16)
    flat.add(vectors(5))
    faiss.write_index(flat, str(tmp_path / "vectors.faiss"))
    store = FaissStore.open(tmp_path / "vectors.faiss")
    assert np.array_equal(store.vectors(np.arange(5)), vectors(5))


def test_an_index_searches_in_any_store(tmp_path):
    """A store of a user's own: here, arrays in memory."""

    class ArrayStore:
        def __init__(self) -> None:
            self.rows: dict[int, np.ndarray] = {}

        def __len__(self) -> int:
            return len(self.rows)

        def add(self, ids, vectors):
            self.rows |= dict(zip(ids.tolist(), vectors, strict=True))

        def remove(self, ids):
            for id in ids.tolist():
                self.rows.pop(id, None)

        def search(self, queries, k, allowed=None):
            ids = np.array([id for id in self.rows if allowed is None or id in allowed])
            scores = queries @ self.vectors(ids).T
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(scores, order, axis=1), ids[order]

        def vectors(self, ids):
            return np.stack([self.rows[id] for id in ids.tolist()])

        def commit(self):
            pass

    rows, queries = vectors(30), vectors(4, seed=1)
    ours, theirs = FaissStore(16), ArrayStore()
    for store in (ours, theirs):
        store.add(np.arange(30), rows)
        store.remove(np.array([3]))
    for allowed in (None, np.array([1, 4, 29])):
        scores, ids = ours.search(queries, 3, allowed)
        expected, expected_ids = theirs.search(queries, 3, allowed)
        assert np.array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
