"""Searching a space of an index: equal to brute force where the kind is exact, close to it elsewhere."""

import logging
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.index_by_blocks import brute_force, new_index, space, video
from tests.indexes import SETTINGS
from tests.patience import PATIENCE_S
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.vectors import space_store
from vmr.retrieval.vectors.generation_file import GenerationFile
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thoroughness, Thresholds
from vmr.retrieval.vectors.ranking import best, certain_best, inner_products, rounding_margin
from vmr.retrieval.vectors.space_store import SpaceStore

SMALL = Thresholds(file_rows=40, list_rows=10**9, flat_delta=60, delta=60)
LISTS = Thresholds(file_rows=40, list_rows=40, delta=500, delta_share=0)


class World:
    """An index with one space, a store that searches it, and the rows that it should hold."""

    def __init__(self, folder: Path, dim: int = 8, exact_rows: int = 20, **options):
        self.dim, self.rows, self.ids = dim, {}, {}  # id -> row, path -> (video id, window ids)
        self.dtype = options.get("dtype", "float16")
        self.writer = new_index(folder, space(dim, **options)).__enter__()
        self.reader = IndexReader(folder)
        with self.reader.snapshot() as snapshot:
            self.store = SpaceStore(folder, snapshot.spaces()[0], exact_rows=exact_rows)

    def put(self, path: str, vectors: np.ndarray) -> None:
        self.forget(path)
        with self.writer.commit() as changes:
            number = changes.put_video(video(path, {1: vectors}))
            first = changes.snapshot.video(number).first_window
        ids = range(first, first + len(vectors))
        self.ids[path] = (number, ids)
        self.rows |= dict(zip(ids, vectors.astype(self.dtype).astype(np.float32), strict=True))

    def remove(self, path: str) -> None:
        with self.writer.commit() as changes:
            changes.remove_video(self.ids[path][0])
        self.forget(path)

    def forget(self, path: str) -> None:
        for number in self.ids.pop(path, (None, ()))[1]:
            del self.rows[number]

    def search(self, queries, k, allowed=None, **options):
        with self.reader.snapshot() as snapshot:
            assert self.store.refresh(snapshot)
            assert len(self.store) == len(self.rows) == snapshot.num_windows(1)
            return self.store.search(queries, k, allowed, **options)

    def check(self, queries, k, allowed=None):
        """Compare with brute force, bit for bit."""
        scores, ids = self.search(queries, k, allowed)
        mask = allowed
        if allowed is not None and allowed.dtype != bool:
            mask = np.zeros(max(10_000, allowed.max(initial=0) + 1), bool)
            mask[allowed[allowed >= 0]] = True
        for i, query in enumerate(queries):
            expected_scores, expected_ids = brute_force(self.rows, query, k, mask)
            n = len(expected_ids)
            assert ids[i].tolist() == expected_ids + [-1] * (k - n)
            assert scores[i].tolist() == expected_scores + [-np.inf] * (k - n)

    def close(self):
        self.store.close()
        self.reader.close()
        self.writer.__exit__(None, None, None)


@pytest.fixture
def world(tmp_path):
    worlds = []

    def make(**options):
        worlds.append(World(tmp_path / str(len(worlds)), **options))
        return worlds[-1]

    yield make
    for each in worlds:
        each.close()


def normal(seed: int, n: int, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_by_hand(world):
    w = world(dim=2)
    w.put("a.mp4", np.array([[1, 0], [0, 2]], np.float32))  # windows 1 and 2
    w.put("b.mp4", np.array([[3, 0]], np.float32))  # window 3
    # (3, 4) . (1, 0) = 3, . (0, 2) = 8, . (3, 0) = 9
    scores, ids = w.search(np.array([[3, 4]], np.float32), 4)
    assert ids.tolist() == [[3, 2, 1, -1]] and scores.tolist() == [[9, 8, 3, -np.inf]]
    scores, ids = w.search(np.array([[3, 4]], np.float32), 2, np.array([1, 2]))
    assert ids.tolist() == [[2, 1]] and scores.tolist() == [[8, 3]]
    assert w.store.is_exact and w.store.dim == 2 and w.store.generation is None
    w.remove("b.mp4")
    assert w.search(np.array([[3, 4]], np.float32), 1)[1].tolist() == [[2]]
    with w.reader.snapshot():
        assert w.store.vectors(np.array([2, 1, 2])).tolist() == [[0, 2], [1, 0], [0, 2]]
        with pytest.raises(vmr.VmrError, match="no vector of window 3"):
            w.store.vectors(np.array([1, 3]))


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "SQfp16"), ("float32", "Flat")])
def test_random_histories_equal_brute_force(world, dtype, kind):
    rng = np.random.default_rng(7)
    w = world(dtype=dtype)
    kinds = set()
    for _ in range(60):
        path = f"{rng.integers(12)}.mp4"
        if path in w.ids and rng.random() < 0.4:
            w.remove(path)
        else:
            # Few different values: many ties, inside a video and between videos.
            w.put(path, rng.integers(-2, 3, size=(rng.integers(1, 30), 8)).astype(np.float32))
        if rng.random() < 0.3:
            bring_up_to_date(w.writer, 1, thresholds=SMALL)
        if w.rows:
            queries = rng.integers(-2, 3, size=(3, 8)).astype(np.float32)
            k = int(rng.choice([1, 3, 10, 500]))
            mask = rng.random(3000) < rng.choice([0.02, 0.3, 0.9])
            w.check(queries, k)
            w.check(queries, k, mask)
            w.check(queries, k, np.flatnonzero(mask))
        kinds.add(w.store.generation and w.store.generation.kind)
    assert kinds == {None, kind}


def test_random_floats_equal_brute_force(world):
    """Sums of such products depend on the order in which they are added."""
    w = world(dim=64, exact_rows=3)
    rows = normal(1, 300, 64)
    rows[100:130] = rows[100]  # equal rows, of which a search finds only some
    for i in range(6):
        w.put(f"{i}.mp4", rows[50 * i : 50 * i + 50])
        if i == 3:
            assert bring_up_to_date(w.writer, 1, thresholds=SMALL)
    w.put("again.mp4", rows[100:110])  # the same rows in memory
    queries = np.concatenate([normal(2, 10, 64), rows[100:101]])
    for k in (1, 5, 20, 200, 400):
        w.check(queries, k)
    w.check(queries, 5, np.arange(30, 260))
    w.remove("1.mp4")
    w.check(queries, 5)
    assert w.store.generation.count == 200


def test_rounding_hides_no_better_row(world):
    """Rows that differ in the last bit of a few numbers: a library that adds in another order ranks them otherwise."""
    w = world(dim=64, dtype="float32", exact_rows=3)
    rows = np.repeat(normal(1, 1, 64), 600, axis=0)
    rng = np.random.default_rng(2)
    for row in rows:
        places = rng.integers(64, size=3)
        row[places] = np.nextafter(row[places], np.float32(np.inf))
    queries = normal(3, 8, 64)
    w.put("a.mp4", rows[:300])
    w.check(queries, 5)
    assert bring_up_to_date(w.writer, 1, thresholds=SMALL)
    w.check(queries, 5)
    w.put("b.mp4", rows[300:])
    w.check(queries, 5)


def test_equal_vectors_have_equal_scores_in_the_file_and_in_memory(world):
    w = world(dim=100)
    rows = normal(3, 60, 100)
    w.put("a.mp4", rows)
    bring_up_to_date(w.writer, 1, thresholds=SMALL)
    w.put("b.mp4", rows)
    scores, ids = w.search(normal(4, 5, 100), 120)
    for some_scores, some_ids in zip(scores, ids, strict=True):
        of = dict(zip(some_ids.tolist(), some_scores.tolist(), strict=True))
        assert all(of[i] == of[i + 60] for i in range(1, 61))


def test_what_a_filter_may_look_like(world):
    w = world()
    w.put("a.mp4", normal(0, 50))
    bring_up_to_date(w.writer, 1, thresholds=SMALL)
    w.put("b.mp4", normal(1, 10))
    query = normal(2, 2)
    for allowed in (
        np.array([], np.int64),
        np.array([3]),
        np.array([-5, 3, 7, 55, 10**9]),
        np.ones(5, bool),
        np.ones(10_000, bool),
        np.zeros(0, bool),
        np.array([7, 3, 3], np.int32),
    ):
        w.check(query, 4, allowed)


@pytest.mark.parametrize(
    ("kind", "bound"), [("auto", 0.95), ("ivf_flat", 0.95), ("ivf_rabitq", 0.85), ("hnsw", 0.97), ("sq8", 0.97)]
)
def test_approximate_kinds_find_most(world, kind, bound):
    w = world(dim=32, kind=kind, exact_rows=100)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 32))
    rows = (centres[rng.integers(200, size=20_000)] + 0.5 * rng.normal(size=(20_000, 32))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for i in range(200):
        w.put(f"{i}.mp4", rows[100 * i : 100 * i + 100])
        if i == 189:
            assert bring_up_to_date(w.writer, 1, thresholds=LISTS)
    w.remove("3.mp4")
    queries = rows[rng.integers(20_000, size=40)] + 0.1 * normal(5, 40, 32)
    matrix, numbers = np.stack(list(w.rows.values())), np.array(list(w.rows))
    for share in (1.0, 0.3, 0.02, 0.004):
        mask = rng.random(20_001) < share
        found = []
        for query, ids, scores in zip(queries, *reversed(w.search(queries, 10, mask)), strict=True):
            all_scores = np.where(mask[numbers], inner_products(matrix, query), -np.inf)
            truth = numbers[np.argsort(-all_scores)[:10]]
            found.append(len(set(ids) & set(truth)) / 10)
            assert scores.tolist() == all_scores[np.searchsorted(numbers, ids)].tolist()  # those of stored vectors
        assert np.mean(found) >= (1.0 if share == 0.004 else bound), share  # 80 rows: all are scored
    assert not w.store.is_exact and w.store.generation.count == 19_000


@pytest.mark.parametrize("kind", ["auto", "hnsw"])
def test_an_approximate_kind_finds_as_many_as_there_are(world, kind):
    w = world(kind=kind, exact_rows=3)
    rows = np.concatenate([normal(0, 80) + 20, normal(1, 80) - 20])  # two groups far from each other
    w.put("a.mp4", rows[:80])
    w.put("b.mp4", rows[80:])
    assert bring_up_to_date(w.writer, 1, thresholds=LISTS)
    query = np.full((1, 8), 20, np.float32)
    for k in (1, 100, 160, 300):
        assert np.count_nonzero(w.search(query, k)[1] >= 0) == min(k, 160)
    w.check(query, 50, np.arange(90, 140))  # all of them far from the query
    w.check(query, 5, np.arange(90, 140))


def test_thoroughness_changes_what_is_found(world):
    w = world(dim=16, kind="ivf_flat", exact_rows=10)
    w.put("a.mp4", normal(0, 4000, 16))
    assert bring_up_to_date(w.writer, 1, thresholds=LISTS)
    queries = normal(1, 30, 16)
    truth = w.search(queries, 10, thoroughness=Thoroughness(10_000, 2))[1]
    recalls = []
    for effort in (1, 12, 63):
        found = w.search(queries, 10, thoroughness=Thoroughness(effort, 2))[1]
        recalls.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]))
    assert recalls[0] < recalls[1] - 0.1 < recalls[1] < recalls[2] - 0.1 < recalls[2] == 1
    # What was measured is used, as long as the file is of the kind that was measured.
    few = w.search(queries, 10, thoroughness=Thoroughness(1, 2))[1]
    for factory, same in (("IVF{n},SQfp16", True), ("IVF{n},SQ8", False)):
        with w.writer.commit() as changes:
            changes.set_space(1, search={"factory": factory, "effort": 1, "rescore": 2})
        assert np.array_equal(w.search(queries, 10)[1], few) == same


@pytest.mark.parametrize("kind", ["ivf_flat", "IVF40_HNSW32,SQ8", "PCA16,IVF40,SQ8"])
def test_a_filter_far_from_the_query_is_searched_well(world, kind):
    """Videos are clusters of their own, so that the lists nearest to a query hold few of the rows of a filter."""
    w = world(dim=16, kind=kind, exact_rows=10)
    centres = 3 * normal(0, 100, 16)
    for number, centre in enumerate(centres):
        w.put(f"{number:03d}.mp4", centre + normal(number, 40, 16))
    assert bring_up_to_date(w.writer, 1, thresholds=LISTS)
    queries = centres[:20] + normal(1, 20, 16)
    for share in (0.05, 0.2, 0.5):
        nearness = centres @ centres[0]
        for chosen in (
            np.argsort(nearness)[: int(share * 100)],
            np.random.default_rng(2).permutation(100)[: int(share * 100)],
        ):
            mask = np.zeros(4001, bool)
            for number in chosen:
                mask[1 + 40 * number : 41 + 40 * number] = True
            _, ids = w.search(queries, 10, mask)
            assert mask[ids].all()
            truth = [brute_force(w.rows, query, 10, mask)[1] for query in queries]
            recall = np.mean([len(set(a.tolist()) & set(b)) / 10 for a, b in zip(ids, truth, strict=True)])
            assert recall > (0.95 if kind == "ivf_flat" else 0.85)


@pytest.mark.parametrize("kind", ["flat", "ivf_flat"])
def test_what_was_prepared_for_a_filter_is_dropped_with_a_change(world, kind):
    w = world(kind=kind, exact_rows=3)
    for number in range(4):
        w.put(f"{number}.mp4", normal(number, 60))
    assert bring_up_to_date(w.writer, 1, thresholds=LISTS)
    mask = np.zeros(1000, bool)
    mask[30:150] = mask[200:400] = True
    changing, fixed = mask.copy(), mask.copy()
    fixed.flags.writeable = False
    query = normal(9, 1)
    found = set(w.search(query, 60, fixed)[1][0].tolist())
    for step in range(3):
        assert set(w.search(query, 60, fixed)[1][0].tolist()) == found == set(w.search(query, 60, mask)[1][0].tolist())
        number = min(found)
        changing[number] = False
        assert number not in w.search(query, 60, changing)[1]
        changing[number] = True
        assert number in w.search(query, 60, changing)[1]
        path = next(path for path, (_, ids) in w.ids.items() if number in ids)
        w.remove(path) if step else w.put(path, normal(10 + step, 60))
        after = set(w.search(query, 60, fixed)[1][0].tolist())
        assert number not in after
        assert number not in w.search(query, 60)[1]
        found = after


# --- what a reader takes in -------------------------------------------------------------------------------------------


def test_a_reader_keeps_its_moment(world):
    w = world()
    w.put("a.mp4", normal(0, 50))
    bring_up_to_date(w.writer, 1, thresholds=SMALL)
    query = normal(1, 1)
    with w.reader.snapshot() as snapshot:
        w.store.refresh(snapshot)
        before = w.store.search(query, 60)
        w.put("b.mp4", normal(2, 70))
        assert bring_up_to_date(w.writer, 1, thresholds=SMALL)  # the old file is gone
        with w.reader.snapshot() as inside:
            w.store.refresh(inside)
            after = w.store.search(query, 60)
    assert all(map(np.array_equal, before, after))
    w.check(query, 200)
    assert w.store.generation.count == 120


def test_a_reader_that_looks_seldom_loads_again(world):
    w = world()
    w.put("a.mp4", normal(0, 20))
    w.check(normal(1, 1), 5)
    for seed in range(3):  # the first lines of what was removed are forgotten
        with w.writer.commit() as changes:
            changes.put_video(video("a.mp4", {1: normal(seed, 3)}))
            for _ in range(700):
                changes.remove_video(changes.put_video(video("b.mp4", {1: np.ones((1, 8), np.float32)})))
    with w.reader.snapshot() as snapshot:
        assert snapshot.meta("removed_from") > 100
        first = snapshot.video_at("/videos/a.mp4").first_window
    w.rows = dict(zip(range(first, first + 3), normal(2, 3).astype(np.float16).astype(np.float32), strict=True))
    w.check(normal(1, 1), 5)


def test_memory_of_rows_that_were_replaced_is_given_back(world):
    w = world()
    for i in range(50):
        w.put("a.mp4", normal(i, 40))
        w.check(normal(1, 1), 5)
    assert len(w.store._delta._rows) < 400


def test_rows_that_are_loaded_at_once_take_no_more_memory_than_they_need(world):
    w = world()
    for i in range(20):
        w.put(f"{i}.mp4", normal(i, 30))
    w.check(normal(1, 1), 5)
    assert len(w.store._delta._rows) == 600
    w.put("more.mp4", normal(30, 1))
    w.check(normal(1, 1), 5)
    assert len(w.store._delta._rows) == 1200


def test_a_space_that_is_gone_says_so(world):
    w = world()
    w.put("a.mp4", normal(0, 5))
    w.check(normal(1, 1), 2)
    with w.writer.commit() as changes:
        changes.clear(SETTINGS)
    with w.reader.snapshot() as snapshot, pytest.raises(vmr.IndexFileError, match="built again in another way"):
        w.store.refresh(snapshot)
    with w.writer.commit() as changes:
        changes.add_space(space(8))
    w.forget("a.mp4")
    w.check(normal(1, 1), 2)


# --- missing and damaged files ----------------------------------------------------------------------------------------


def with_file(world, **options) -> tuple[World, Path]:
    w = world(**options)
    for i in range(10):
        w.put(f"{i}.mp4", normal(i, 30))
    bring_up_to_date(w.writer, 1, thresholds=LISTS if options else SMALL)
    (path,) = w.writer.folder.glob("gen-*.faiss")
    return w, path


@pytest.mark.parametrize("damage", ["missing", "cut", "long", "empty", "other"])
def test_without_its_file_a_space_is_searched_all_the_same(world, caplog, damage):
    w, path = with_file(world)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {"cut": data[:-1], "long": data + b"x", "empty": b"", "other": bytes(len(data))}[damage]
        path.write_bytes(changed)
    w.check(normal(99, 3), 7)
    w.check(normal(98, 3), 400)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and path.name in record.message and "\n" not in record.message
    assert "searches without this file" in record.message
    if damage in ("cut", "long", "empty"):
        assert f"is damaged: {path.stat().st_size} bytes instead of {len(data)}" in record.message
    assert w.store.generation is None and w.store.is_exact
    w.put("new.mp4", normal(20, 5))
    w.remove("3.mp4")
    w.check(normal(97, 3), 7)
    # A new file is used again.
    assert bring_up_to_date(w.writer, 1, thresholds=SMALL, force=True)
    w.check(normal(97, 3), 7)
    assert w.store.generation is not None and len(caplog.records) == 1


@pytest.fixture
def no_file_is_small(monkeypatch):
    monkeypatch.setattr(space_store, "GenerationFile", partial(GenerationFile, small_bytes=0))


def test_a_flipped_bit_of_a_small_file_is_found_before_it_is_searched(world, caplog):
    w, path = with_file(world)
    data = bytearray(path.read_bytes())
    data[-900] ^= 4  # of a vector: FAISS does not notice
    path.write_bytes(data)
    w.check(normal(2, 3), 7)
    assert w.store.generation is None and "its content has changed" in caplog.text


@pytest.mark.usefixtures("no_file_is_small")
def test_a_flipped_bit_is_found_in_the_background(world, caplog):
    w, path = with_file(world)
    data = bytearray(path.read_bytes())
    data[-900] ^= 4  # of a vector: FAISS does not notice
    path.write_bytes(data)
    w.search(normal(1, 1), 3)
    deadline = time.monotonic() + PATIENCE_S
    while not w.store._file.is_damaged:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    w.check(normal(2, 3), 7)
    assert w.store.generation is None
    assert "its content has changed" in caplog.text


@pytest.mark.usefixtures("no_file_is_small")
def test_ids_that_a_damaged_file_makes_up_are_no_answer(world, caplog):
    """The background check may come too late."""
    w, path = with_file(world, kind="auto")
    import faiss

    index = faiss.read_index(str(path))
    index.remove_ids(np.arange(30))
    index.add_with_ids(normal(50, 29), np.arange(10**7, 10**7 + 29))
    faiss.write_index(index, str(path))
    with w.writer.commit() as changes:
        (old,) = changes.snapshot.generations(1)
        changes.put_generation(replace(old, size=path.stat().st_size))
    w.check(normal(50, 3), 7)  # each of these rows is nearest to itself
    assert "unknown windows" in caplog.text or "do not exist" in caplog.text or "its content" in caplog.text


def test_a_reader_may_ask_for_a_second_look(world):
    w, path = with_file(world)
    path.unlink()
    with w.reader.snapshot() as snapshot:
        assert not w.store.refresh(snapshot, is_last_try=False)
        assert w.store.refresh(snapshot)


def test_a_check_does_not_keep_a_process_alive(world, tmp_path):
    w, path = with_file(world)
    size = 1 << 38
    with path.open("r+b") as file:
        file.truncate(size)  # a hole: takes minutes to hash, but no room
    with w.writer.commit() as changes:
        (old,) = changes.snapshot.generations(1)
        changes.put_generation(replace(old, size=size))
    program = (
        "import sys, pathlib, threading, numpy as np\n"
        "from vmr.retrieval.storage.reader import IndexReader\n"
        "from vmr.retrieval.vectors.space_store import SpaceStore\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with IndexReader(folder) as reader, reader.snapshot() as snapshot:\n"
        "    store = SpaceStore(folder, snapshot.spaces()[0])\n"
        "    store.refresh(snapshot)\n"
        "    assert store.generation is not None\n"
        "    print(any(t.name == 'vmr-check-index' for t in threading.enumerate()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(w.writer.folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_what_makes_no_sense_is_one_line(world):
    w = world()
    w.put("a.mp4", normal(0, 5))
    with pytest.raises(vmr.VmrError, match="k is 0"):
        w.search(normal(1, 1), 0)
    with pytest.raises(vmr.VmrError, match=r"queries of shape \(1, 9\), but the space takes \(Q, 8\)"):
        w.search(normal(1, 1, 9), 1)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 7, 8, 100, 129, 512])
def test_a_score_does_not_depend_on_the_other_rows(dim):
    rows, query = normal(0, 300, dim), normal(1, 1, dim)[0]
    together = inner_products(rows, query)
    alone = np.concatenate([inner_products(rows[i : i + 1], query) for i in range(300)])
    shuffled = np.random.default_rng(2).permutation(300)
    assert np.array_equal(together, alone)
    assert np.array_equal(together[shuffled], inner_products(rows[shuffled], query))
    np.testing.assert_allclose(together, rows.astype(float) @ query, atol=1e-4)


@pytest.mark.parametrize("dim", [8, 512])
def test_rounding_stays_within_the_margin(dim):
    rows, query = normal(0, 5000, dim), normal(1, 1, dim)[0]
    margin = rounding_margin(query, float(np.linalg.norm(rows, axis=1).max()))
    differences = np.abs(inner_products(rows, query) - rows @ query)
    assert differences.max() < margin < 100 * dim * 2.0**-24 * dim
    assert dim == 8 or differences.max() > 0  # sums of few numbers may be equal


def test_the_best_by_hand():
    scores, ids = best(np.array([1, 3, 2, 3, 3], np.float32), np.array([5, 9, 4, 2, 7]), 2)
    assert (scores.tolist(), ids.tolist()) == ([3, 3], [2, 7])
    scores, ids = best(np.array([1, 2], np.float32), np.array([5, 9]), 7)
    assert ids.tolist() == [9, 5]


def test_candidates_are_asked_for_until_the_best_are_certain():
    """100 rows of which rounding makes the worst look best."""
    exact = np.arange(100, dtype=np.float32)[:, None] * 0.001
    asked = []

    def find(n):
        asked.append(n)
        rounded = exact[:, 0] + np.where(np.arange(100) < 90, 0.1, 0).astype(np.float32)
        order = np.argsort(-rounded)[:n]
        return rounded[order], order

    scores, ids = certain_best(np.ones(1, np.float32), 3, find, lambda ids: exact[ids], margin=0.1)
    assert ids.tolist() == [99, 98, 97] and scores.tolist() == exact[[99, 98, 97], 0].tolist()
    assert asked == [19, 76, 304]
