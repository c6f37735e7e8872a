"""The FAISS files of an index: when they are written, what they hold, and what is left of the old ones."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.index_by_blocks import new_index, space, video
from vmr.retrieval.storage.records import Generation
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.vectors import generations
from vmr.retrieval.vectors.faiss_store import FaissStore
from vmr.retrieval.vectors.generations import bring_up_to_date, remove_orphans
from vmr.retrieval.vectors.kinds import Thresholds

LIMITS = Thresholds(
    file_rows=50, list_rows=400, flat_delta=30, delta=100, delta_share=0.5, removed_share=0.25, growth=2.0
)


def normal(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float16).astype(np.float32)


@pytest.fixture
def writer(tmp_path):
    with new_index(tmp_path / "index", space(8)) as writer:
        yield writer


def put(writer, path: str, n: int, spaces=(1,), seed: int = 0) -> None:
    with writer.commit() as changes:
        changes.put_video(video(path, {each: normal(seed, n) for each in spaces}))


def remove(writer, path: str) -> None:
    with writer.commit() as changes:
        changes.remove_video(changes.snapshot.video_at(f"/videos/{path}").id)


def files(writer) -> list[Path]:
    return sorted(writer.folder.glob("*gen-*"))


def newest(writer, space_id: int = 1) -> Generation | None:
    with writer.reader.snapshot() as snapshot:
        return next(iter(snapshot.generations(space_id)), None)


def rows_of(writer, space_id: int = 1) -> dict[int, list[float]]:
    with writer.reader.snapshot() as snapshot:
        return {
            block.first_window + i: row
            for block in snapshot.blocks(space_id)
            for i, row in enumerate(block.vectors.tolist())
        }


def held(writer, space_id: int = 1) -> dict[int, list[float]]:
    """The rows of the newest file."""
    store = FaissStore.open(writer.folder / newest(writer, space_id).file)
    ids = np.sort(store.ids)
    return dict(zip(ids.tolist(), store.vectors(ids).tolist(), strict=True))


def check(writer) -> None:
    """The row of the file describes it, and it is the only one."""
    found, (path,) = newest(writer), files(writer)
    assert (found.file, found.size) == (path.name, path.stat().st_size)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).digest()
    assert found.count == len(FaissStore.open(path))
    assert verify(writer.folder) == []


def test_the_life_of_a_file(writer):
    def update(**options):
        return bring_up_to_date(writer, 1, thresholds=LIMITS, **options)

    assert not update()
    put(writer, "a.mp4", 49)
    assert not update() and newest(writer) is None and files(writer) == []
    put(writer, "b.mp4", 1)
    assert update()  # 50 rows
    first = newest(writer)
    assert (first.kind, first.count, first.upto_block, first.trained_on) == ("SQfp16", 50, 2, 0)
    assert held(writer) == rows_of(writer)
    check(writer)
    assert not update()
    put(writer, "c.mp4", 30)
    assert not update() and newest(writer) == first  # 30 are newer: not more than 30
    put(writer, "d.mp4", 1)
    assert update() and (newest(writer).count, newest(writer).upto_block) == (81, 4)
    assert held(writer) == rows_of(writer)
    check(writer)
    put(writer, "b.mp4", 3)  # replaced: 1 removed, 3 new
    for _ in range(3):
        put(writer, "e.mp4", 6)  # newer than the file, and replaced: not removed from the file
    assert not update()
    remove(writer, "c.mp4")  # 31 of 81 removed
    assert update()
    assert held(writer) == rows_of(writer) and newest(writer).count == 49 + 3 + 6 + 1
    check(writer)
    remove(writer, "a.mp4")  # 10 rows are left
    assert update() and newest(writer) is None and files(writer) == []
    assert verify(writer.folder) == []


def test_lists_are_merged_and_trained_again(writer):
    def update():
        changed = bring_up_to_date(writer, 1, thresholds=LIMITS)
        return changed, newest(writer).kind, newest(writer).count, newest(writer).trained_on

    for i in range(10):
        put(writer, f"{i}.mp4", 40, seed=i)
    assert update() == (True, "IVF10,SQ8", 400, 400)  # 400 // 39 lists
    put(writer, "x.mp4", 200, seed=11)
    assert update() == (False, "IVF10,SQ8", 400, 400)  # half of 400 may be newer
    put(writer, "y.mp4", 1, seed=12)
    assert update() == (True, "IVF10,SQ8", 601, 400)  # merged
    assert set(held(writer)) == set(rows_of(writer))
    check(writer)
    put(writer, "z.mp4", 199, seed=13)
    assert update() == (False, "IVF10,SQ8", 601, 400)  # 800 rows: not more than twice 400
    put(writer, "zz.mp4", 1, seed=14)
    assert update() == (True, "IVF20,SQ8", 801, 801)  # trained again
    check(writer)
    for name in ("x", "y", "z", "zz"):
        remove(writer, f"{name}.mp4")
    for i in range(5):
        remove(writer, f"{i}.mp4")
    assert update() == (True, "IVF20,SQ8", 200, 801)  # still lists: half of 400
    remove(writer, "5.mp4")
    assert update() == (True, "SQfp16", 160, 0)
    assert held(writer) == rows_of(writer)
    check(writer)


def test_a_graph_is_built_again_when_rows_go(tmp_path):
    with new_index(tmp_path / "index", space(8, kind="hnsw")) as writer:
        put(writer, "a.mp4", 100)
        put(writer, "b.mp4", 60, seed=1)
        assert bring_up_to_date(writer, 1, thresholds=LIMITS)
        assert newest(writer).kind == "HNSW32,SQfp16"
        put(writer, "c.mp4", 101, seed=2)
        assert bring_up_to_date(writer, 1, thresholds=LIMITS)
        assert held(writer) == rows_of(writer)
        remove(writer, "a.mp4")
        assert bring_up_to_date(writer, 1, thresholds=LIMITS)
        assert held(writer) == rows_of(writer)
        check(writer)


def test_another_kind_is_made_when_it_is_asked_for(writer):
    put(writer, "a.mp4", 200)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS)
    for kind, factory in (("ivf_rabitq", "IVF5,RaBitQ"), ("IVF3,Flat", "IVF3,Flat"), ("flat", "SQfp16")):
        with writer.commit() as changes:
            changes.set_space(1, kind=kind)
        assert bring_up_to_date(writer, 1, thresholds=LIMITS) and newest(writer).kind == factory
        assert not bring_up_to_date(writer, 1, thresholds=LIMITS)
        check(writer)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS, force=True)


def test_each_space_has_its_own_file(tmp_path):
    with new_index(tmp_path / "index", space(8, name="one"), space(8, name="two", dtype="float32")) as writer:
        put(writer, "a.mp4", 60, spaces=(1, 2))
        put(writer, "b.mp4", 20, spaces=(1,), seed=1)
        assert bring_up_to_date(writer, 1, thresholds=LIMITS) and bring_up_to_date(writer, 2, thresholds=LIMITS)
        assert (newest(writer, 1).count, newest(writer, 2).count) == (80, 60)
        assert newest(writer, 2).kind == "Flat" and len(files(writer)) == 2
        # An old video is embedded in the second space: the numbers of blocks and windows are not in the same order.
        put(writer, "c.mp4", 40, spaces=(2,), seed=3)
        with writer.commit() as changes:
            changes.add_vectors(changes.snapshot.video_at("/videos/b.mp4").id, 2, normal(4, 20))
        remove(writer, "a.mp4")
        assert bring_up_to_date(writer, 2, thresholds=LIMITS)
        assert held(writer, 2) == rows_of(writer, 2) and len(held(writer, 2)) == 60
        assert bring_up_to_date(writer, 1, thresholds=LIMITS) and newest(writer, 1) is None
        assert verify(writer.folder) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_file_is_built_again(writer, damage):
    put(writer, "a.mp4", 100)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS)
    (path,) = files(writer)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.unlink() if damage == "missing" else path.write_bytes(data if damage == "flipped" else data[:-1])
    if damage == "flipped":  # is noticed when the file would be read
        assert not bring_up_to_date(writer, 1, thresholds=LIMITS)
        put(writer, "b.mp4", 31, seed=1)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS)
    assert held(writer) == rows_of(writer)
    check(writer)


@pytest.mark.parametrize("kind", ["auto", "ivf_sq8", "hnsw"])
def test_one_thread_makes_the_same_file_twice(tmp_path, kind):
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        hashes = set()
        for name in "ab":
            with new_index(tmp_path / name, space(8, kind=kind)) as writer:
                for i in range(8):
                    put(writer, f"{i}.mp4", 50, seed=i)
                bring_up_to_date(writer, 1, thresholds=LIMITS)
                hashes.add(newest(writer).sha256)
    finally:
        faiss.omp_set_num_threads(before)
    assert len(hashes) == 1


def test_rows_are_read_piece_by_piece(writer, monkeypatch):
    monkeypatch.setattr(generations, "_ROWS_AT_ONCE", 50)
    added = []
    add = FaissStore.add
    monkeypatch.setattr(FaissStore, "add", lambda self, ids, rows: (added.append(len(ids)), add(self, ids, rows)))
    for i in range(10):
        put(writer, f"{i}.mp4", 30, seed=i)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS)
    assert added == [60] * 5
    assert held(writer) == rows_of(writer)


def test_a_sample_is_of_the_rows():
    from vmr.retrieval.storage.records import Block

    rows = np.arange(1000, dtype=np.float32)[:, None]
    blocks = [Block(i, 0, rows[100 * i : 100 * i + 100]) for i in range(10)]
    sample = generations.sample_rows(blocks, 1000, 200, 1)[:, 0].tolist()
    assert len(set(sample)) == 200 and set(sample) <= set(rows[:, 0].tolist())
    assert 70 < sum(one < 500 for one in sample) < 130
    assert generations.sample_rows(blocks, 1000, 5000, 1).tolist() == rows.tolist()


def test_a_file_that_cannot_be_written_leaves_the_old_one(writer, monkeypatch):
    put(writer, "a.mp4", 100)
    assert bring_up_to_date(writer, 1, thresholds=LIMITS)
    before, old = newest(writer), files(writer)
    put(writer, "b.mp4", 50, seed=1)

    def fails(*_):
        raise vmr.VmrError("the disk is full")

    for name in ("put_generation", "finish"):
        with monkeypatch.context() as patched, pytest.raises(vmr.VmrError, match="the disk is full"):
            patched.setattr(f"vmr.retrieval.storage.changes.Changes.{name}", fails)
            bring_up_to_date(writer, 1, thresholds=LIMITS)
        assert newest(writer) == before and files(writer) == old


def test_what_faiss_cannot_make_is_one_line(writer):
    put(writer, "a.mp4", 100)
    with writer.commit() as changes:
        changes.set_space(1, kind="nonsense")
    with pytest.raises(vmr.VmrError, match="nonsense: FAISS cannot"):
        bring_up_to_date(writer, 1, thresholds=LIMITS)
    with pytest.raises(vmr.VmrError, match="no space with number 7"):
        bring_up_to_date(writer, 7, thresholds=LIMITS)
    assert files(writer) == []


def test_what_a_killed_writer_left_is_removed(writer):
    put(writer, "a.mp4", 100)
    bring_up_to_date(writer, 1, thresholds=LIMITS)
    (path,) = files(writer)
    left = f"gen-{'a' * 32}.faiss"
    for name in (left, f".{left}.0123abcd.tmp", "gen-mine.faiss", "notes.txt"):
        (writer.folder / name).touch()
    remove_orphans(writer.folder, {path.name})
    assert {file.name for file in writer.folder.iterdir()} >= {path.name, "gen-mine.faiss", "notes.txt", "index.db"}
    assert files(writer) == sorted([path, writer.folder / "gen-mine.faiss"])
