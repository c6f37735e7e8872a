"""The store of vectors: ids, removal, filters, and the files after a commit."""

import hashlib
import sys

import numpy as np
import pytest

import vmr
from vmr.retrieval.vectors.faiss_store import FaissStore, check_kind, require_faiss
from vmr.retrieval.vectors.kinds import FACTORIES, factory_string, num_lists, num_probes


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


# --- limits, messages, and what FAISS is told -------------------------------------------------------------------------


def refused(call) -> str:
    with pytest.raises(vmr.VmrError) as caught:
        call()
    return str(caught.value)


def test_the_id_0_has_a_score():
    store = FaissStore(2)
    store.add(np.array([0, 1]), np.array([[1, 0], [0, 1]], np.float32))
    scores, ids = store.search(np.array([[3, 4]], np.float32), k=2)
    assert ids.tolist() == [[1, 0]] and scores.tolist() == [[4.0, 3.0]]


def test_numbers_of_any_type_are_taken():
    store = FaissStore(2)
    store.add(np.array([4, 5], np.int32), np.array([[1, 0], [0, 2]]))
    scores, ids = store.search(np.array([[3.0, 4.0]]), k=1, allowed=np.array([4, 5], np.uint8))
    assert (ids.tolist(), scores.tolist()) == ([[5]], [[8.0]])
    assert store.vectors(np.array([5, 4], np.int16)).tolist() == [[0, 2], [1, 0]]
    store.remove(np.array([5], np.int32))
    assert len(store) == 1
    assert len(FaissStore(2).vectors([])) == 0  # no ids have no type


def test_the_types_of_what_an_empty_store_gives():
    scores, ids = FaissStore(2).search(np.zeros((3, 2), np.float32), k=4)
    assert (scores.dtype, ids.dtype, scores.shape, ids.shape) == (np.float32, np.int64, (3, 4), (3, 4))
    assert FaissStore(2).vectors(np.empty(0, np.int64)).dtype == np.float32


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8"])
def test_vectors_of_lists_are_found_by_id(kind):
    rows = vectors(400)
    store = FaissStore(16, kind)
    store.add(np.arange(1000, 1400), rows)
    found = store.vectors(np.array([1399, 1000, 1007]))
    np.testing.assert_allclose(found, rows[[399, 0, 7]], atol=0 if kind == "ivf_flat" else 0.03)


def test_a_search_among_all_ids_is_a_search():
    """The parameters that limit a search replace those of the index, which must be given again."""
    rows, queries = vectors(400), vectors(20, seed=1)
    for kind in ("ivf_flat", "hnsw"):
        store = FaissStore(16, kind)
        store.add(np.arange(400), rows)
        for found, expected in zip(store.search(queries, 400, np.arange(400)), store.search(queries, 400), strict=True):
            assert np.array_equal(found, expected)


def test_what_faiss_is_told():
    import faiss

    store = FaissStore(16, "ivf_flat")
    store.add(np.arange(400), vectors(400))
    assert store.factory == "IVF10,Flat"  # 4 sqrt(400) = 80, but at least 39 vectors a list: 400 // 39 = 10
    lists = faiss.extract_index_ivf(store._index)
    assert (lists.nlist, lists.nprobe, store._parameters(None, None, None).nprobe) == (10, 3, 3)  # sqrt(10) = 3.2
    graph = FaissStore(16, "HNSW16,Flat")
    graph.add(np.arange(40), vectors(40))
    assert faiss.downcast_index(graph._index.index).hnsw.efSearch == graph._parameters(None, None, None).efSearch == 128
    assert (graph.default_k, graph.is_exact, graph.factory) == (40, False, "HNSW16,Flat")


def test_as_many_lists_as_vectors():
    store = FaissStore(2, "IVF3,Flat")
    store.add(np.arange(3), vectors(3, width=2))
    assert len(store) == 3
    message = "IVF3,Flat: 3 lists need as many vectors, but there are 2"
    assert refused(lambda: FaissStore(2, "IVF3,Flat").add(np.arange(2), vectors(2, width=2))) == message


def test_a_commit_knows_its_checksum(tmp_path):
    path = tmp_path / "vectors.faiss"
    store = FaissStore(16, path=path)
    assert store.sha256 == ""
    assert refused(store.commit) == f"{path}: there are no vectors to write"
    store.add(np.arange(5), vectors(5))
    store.commit()
    assert store.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    again = FaissStore.open(path)
    assert (again.factory, again.is_exact, again.dim, again.path, again.sha256) == ("Flat", True, 16, path, "")
    in_memory = FaissStore(16)
    in_memory.commit()
    assert in_memory.sha256 == ""


def test_arguments_are_named(tmp_path):
    assert refused(lambda: FaissStore("2")) == "dim is '2', but must be a whole number of at least 1"
    assert refused(lambda: FaissStore(2, path=3)) == "path is 3, but must be a path"
    assert refused(lambda: FaissStore(2, factory=5)).startswith("factory is 5, but")
    assert refused(lambda: check_kind(5, 2)).startswith("a kind of index is 5, but")
    assert refused(lambda: FaissStore(2).search(vectors(1, width=2), 0)).startswith("k is 0, but")


def test_messages_of_faiss_come_without_its_source_lines(tmp_path):
    path = tmp_path / "vectors.faiss"
    path.write_bytes(b"nothing of the kind")
    message = refused(lambda: FaissStore.open(path))
    assert message.startswith(f"{path}: FAISS cannot read this file: ") and "Index type" in message
    assert ".cpp" not in message and "Error" not in message and "XX" not in message
    short_names = "short names are flat, sq8, hnsw, ivf_flat, ivf_sq8, ivf_rabitq"
    store = FaissStore(16, "hnsw")
    store.add(np.arange(30), vectors(30))
    message = refused(lambda: store.remove(np.array([1])))
    start = "HNSW32,Flat: FAISS cannot do this with an index of 30 vectors of 16 dimensions ("
    assert message.startswith(start) and message.endswith(f"); {short_names}") and ".cpp" not in message
    message = refused(lambda: FaissStore(16, "PQ4").add(np.arange(30), vectors(30)))
    assert message.startswith("PQ4: FAISS cannot do this with an index of 30 vectors of 16 dimensions (")
    message = refused(lambda: check_kind("nonsense", 16))
    assert message.startswith("nonsense: FAISS makes no such index (could not parse index string nonsense")
    assert message.endswith(f"); {short_names}")
    assert refused(lambda: check_kind("PQ5", 16)).startswith("PQ5: FAISS makes no such index (")
    for kind in (*FACTORIES, "IVF_FLAT", "PQ4"):
        check_kind(kind, 16)


def test_without_faiss_the_message_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for call in (require_faiss, lambda: FaissStore(2), lambda: check_kind("flat", 2)):
        with pytest.raises(vmr.MissingExtraError, match=r"needs faiss: pip install 'vmr\[index\]'"):
            call()


def test_lists_and_probes():
    assert [num_lists(count) for count in (0, 1, 38, 77, 78, 1000, 100_000)] == [1, 1, 1, 1, 2, 25, 1265]
    assert [num_probes(count) for count in (1, 2, 3, 25)] == [1, 1, 2, 5]  # roots: 1, 1.4, 1.7, 5
    assert factory_string("IVF_SQ8", 1000) == "IVF25,SQ8"
    assert factory_string("OPQ16,IVF{n},PQ16", 1000) == "OPQ16,IVF25,PQ16"


def test_a_build_takes_one_thread_and_gives_the_others_back():
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        FaissStore(16, "hnsw").add(np.arange(30), vectors(30))
        assert faiss.omp_get_max_threads() == 2
        with FaissStore(16)._build_threads():
            assert faiss.omp_get_max_threads() == 1
    finally:
        faiss.omp_set_num_threads(before)
