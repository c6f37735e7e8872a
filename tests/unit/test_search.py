"""An open index of a few vectors that were chosen by hand: what is found, what it says of itself, what is refused."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.indexes import STATE, Other, TwoDimensional, put_rows, space, write_index
from vmr.data.remark import Remark
from vmr.errors import IndexFileError, ModelError, VmrError
from vmr.retrieval.index import VideoIndex, open_index
from vmr.retrieval.results import Failure, Hit, VideoRemark
from vmr.retrieval.storage.records import FailedFile, IndexSettings, Window
from vmr.retrieval.storage.writer import IndexWriter

ROWS = (("a.mp4", 0.0, 8.0), ("a.mp4", 4.0, 12.0), ("a.mp4", 8.0, 16.0), ("b/c.mp4", 0.0, 8.0), ("b/c.mp4", 4.0, 9.0))
VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [0, 1]], np.float32)
ENCODER = TwoDimensional()


@pytest.fixture
def index(tmp_path):
    return open_index(write_index(tmp_path / "index", ROWS, VECTORS), ENCODER)


def found(index, query, *args, **options):
    """Number of the row, in the order of the index, and score of each hit, where windows are not merged."""
    numbers = {(row.file, row.start_s, row.end_s): number for number, row in enumerate(index.windows)}
    hits = index.search(query, *args, overlapping=True, keep_duplicates=True, **options)
    return [(numbers[hit.video, hit.start_s, hit.end_s], round(hit.score, 6)) for hit in hits]


def moments(index, query, *args, **options):
    """Name of the video, start, end and score of each hit."""
    hits = index.search(query, *args, **options)
    return [(Path(hit.video).stem, *(round(x, 6) for x in (hit.start_s, hit.end_s, hit.score))) for hit in hits]


def refused(call, kind=VmrError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


# --- search -----------------------------------------------------------------------------------------------------------


def test_windows_by_hand(index):
    # (1, 0): 1, 0.8, 0.6, 0, 0.
    assert found(index, "1 0") == [(0, 1.0), (1, 0.8), (2, 0.6), (3, 0.0), (4, 0.0)]
    assert found(index, "0.8 0.6", 3) == [(1, 1.0), (2, 0.96), (0, 0.8)]


def test_moments_by_hand(index):
    # (1, 0): the windows of a.mp4 score 1, 0.8 and 0.6, and are as similar to the first. A quarter lies below 0.7, so
    # the second has a share of a third: the moment ends in the middle of what they share. The third window is next;
    # the second overlaps the first, and is gone. All of c.mp4 is alike.
    assert moments(index, "1 0") == [("a", 0, 6, 1.0), ("a", 8, 16, 0.6), ("c", 0, 9, 0.0)]
    # (0, 1): 0, 0.6 and 0.8. Seen from the third window, a quarter lies below 0.3, and 0.78 of the similarities 0.6,
    # 0.96 and 1. The second has a share of (0.3 / 0.5 + 0.18 / 0.22) / 2 = 0.709; of the way from 0.5 to 0.8, 0.697.
    share = ((0.3 / 0.5 + 0.18 / 0.22) / 2 - 0.5) / 0.3
    expected = [("c", 0, 9, 1.0), ("a", 10 - 4 * share, 16, 0.8)]
    assert moments(index, "0 1") == [(name, pytest.approx(start, abs=1e-5), *rest) for name, start, *rest in expected]
    (hit,) = index.search("0 1", 1)
    assert hit == Hit(1.0, "/videos/b/c.mp4", 0.0, 9.0, 4, 2, None, "two", missing=True)
    assert all(type(number) is float for number in (hit.score, hit.start_s, hit.end_s))


def test_a_search_among_what_an_earlier_one_saw(index):
    """What was added since is not found, and does not hide what is like it; what was removed is gone."""
    seen = index.search("1 0").seen
    assert (seen.next_moment_id, seen.commit, seen.has_texts) == (6, 2, False) and seen.roots == ("/videos",)
    assert {number: video.path for number, video in seen.videos.items()} == {1: "a.mp4", 2: "b/c.mp4"}
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        put_rows(changes, 1, [("0.mp4", 0.0, 8.0)], [[1, 0]])
    now, then = index.search("1 0"), index.search("1 0", before=seen.next_moment_id)
    assert now[0].video == "/videos/0.mp4" and (now.seen.commit, now.seen.next_moment_id) == (3, 7)
    assert [(hit.video, hit.duplicates) for hit in then] == [
        ("/videos/a.mp4", ()), ("/videos/a.mp4", ()), ("/videos/b/c.mp4", ())
    ]  # fmt: skip
    assert [hit.moment_id for hit in index.search("1 0", before=4, where="duration < 10")] == []
    assert [hit.moment_id for hit in index.search("1 0", before=7, where="duration < 10")] == [6, 4]
    assert refused(lambda: index.search("1 0", before=-1)) == "before is -1, but must be a whole number of at least 0"


def test_a_result_says_what_was_asked(index):
    result = index.search("1 0", 2)
    assert (result.query, result.index, result.nothing_close) == ("1 0", str(index.folder), None)
    assert (
        len(result) == 2 and list(result) == list(result.hits) == [result[0], result[1]] and result[:1] == (result[0],)
    )
    assert result.took_ms >= 0 and result == index.search("1 0", 2) != index.search("1 0", 1)
    read = json.loads(json.dumps(result.to_json()))
    assert list(read) == ["query", "index", "took_ms", "nothing_close", "remarks", "hits"]
    assert read["hits"][1] == {
        "score": pytest.approx(0.6), "video": "/videos/a.mp4", "start_s": 8.0, "end_s": 16.0, "moment_id": 3,
        "video_id": 1, "match": None, "space": "two", "rerank_score": None, "missing": True, "duplicates": [],
    }  # fmt: skip


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("written_first", [range(12), range(11, -1, -1)], ids=["in order", "backwards"])
def test_the_best_of_many_that_tie_come_in_the_order_of_the_index(tmp_path, k, written_first):
    """The order is that of the paths, whichever video was embedded first."""
    names = [f"{number:02d}.mp4" for number in range(12)]
    vectors = np.array([[0, 1]] * 3 + [[1, 0]] * 8 + [[0.6, 0.8]], np.float32)
    rows = tuple((names[number], 0.0, 8.0) for number in written_first)
    index = open_index(write_index(tmp_path / "index", rows, vectors[list(written_first)]), ENCODER)
    expected = [*((number, 1.0) for number in range(3, 11)), (11, 0.6)]
    assert found(index, "1 0", k) == expected[:k]


def test_the_five_best_are_found_by_default(tmp_path):
    angles = np.linspace(0, 1, 9)
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    rows = tuple((f"{number}.mp4", 0.0, 8.0) for number in range(9))
    index = open_index(write_index(tmp_path / "index", rows, vectors), ENCODER)
    assert [row for row, _ in found(index, "1 0")] == [0, 1, 2, 3, 4]


def test_windows_that_overlap_are_looked_past(tmp_path):
    """The second moment is the last row of 41: those between belong to the first moment, or overlap it."""
    angles = np.linspace(0, 1, 41)
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    rows = tuple(("a.mp4", number / 10, number / 10 + 4) for number in range(41))
    index = open_index(write_index(tmp_path / "index", rows, vectors), ENCODER)
    first, *rest = index.search("1 0", 9)
    assert first.moment_id == 1 and first.start_s == 0 and 0 < first.end_s < 8 and len(rest) <= 1


class Recording:
    """A store of the user's own, which notes how many rows it was asked for."""

    def __init__(self, ids, vectors):
        self.ids, self.rows, self.asked = np.array(ids), np.asarray(vectors, np.float32), []

    def __len__(self):
        return len(self.ids)

    def search(self, queries, k, allowed=None):
        self.asked.append(k)
        order = np.argsort(-(self.rows @ queries[0]), kind="stable")[:k]
        scores, ids = np.full((1, k), -np.inf, np.float32), np.full((1, k), -1, np.int64)
        scores[0, : len(order)], ids[0, : len(order)] = (self.rows @ queries[0])[order], self.ids[order]
        return scores, ids

    def vectors(self, ids):
        return self.rows[np.searchsorted(self.ids, ids)]


def test_a_store_of_ones_own_is_asked_for_no_more_rows_than_needed(index):
    store = Recording([window.id for window in index.windows], index.vectors)
    own = open_index(index.folder, ENCODER, store=store)
    assert own.search("1 0", 1) == index.search("1 0", 1)
    assert own.search("1 0", 2) == index.search("1 0", 2)
    assert own.search("1 0", 9) == index.search("1 0", 9)
    assert store.asked == [64, 64, 72]


@pytest.mark.parametrize("query", ["", "  ", "\udcff"])
def test_no_question(index, query):
    message = "the query is empty or not valid text: describe what the video shows"
    assert refused(lambda: index.search(query)) == message


def test_no_hits_asked_for(index):
    assert refused(lambda: index.search("1 0", 0)) == "k is 0, but must be a whole number of at least 1"


def test_half_precision_makes_no_score_larger_than_1(tmp_path):
    angles = np.linspace(0, np.pi / 2, 200)
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    rows = tuple((f"{number:03d}.mp4", 0.0, 8.0) for number in range(200))
    index = open_index(write_index(tmp_path / "index", rows, vectors, dtype="float16"), ENCODER)
    assert (np.linalg.norm(index.vectors, axis=1) > 1).any()
    for number in range(0, 200, 20):
        hits = index.search(f"{vectors[number][0]} {vectors[number][1]}", 200, keep_duplicates=True)
        assert all(-1 <= hit.score <= 1 for hit in hits)
        assert hits[0].score == pytest.approx(1.0, abs=5e-4)


def test_vectors_that_are_longer_than_1_keep_their_scores(tmp_path):
    index = open_index(write_index(tmp_path / "index", ROWS[:1], np.array([[3.0, 4.0]])), ENCODER)
    assert index.search("1 1")[0].score == 7


# --- an index that changes --------------------------------------------------------------------------------------------


def test_an_open_index_sees_what_was_committed_last(index):
    assert [row for row, _ in found(index, "0 1", 1)] == [3]
    with IndexWriter(index.folder) as writer:
        with writer.commit() as changes:
            put_rows(changes, 1, [("0.mp4", 0.0, 8.0)], np.array([[0, 1]]))
        assert index.search("0 1", 1)[0].video == "/videos/0.mp4" and len(index) == 6
        with writer.commit() as changes:
            changes.remove_video(changes.snapshot.video_at("/videos/0.mp4").id)
            changes.move_root("/videos", "/moved")
        assert index.search("0 1", 1)[0].video == "/moved/b/c.mp4" and len(index) == 5
        with writer.commit() as changes:
            for video in list(changes.snapshot.videos()):
                changes.remove_video(video.id)
        assert not index.search("0 1").hits and len(index) == 0 and index.vectors.shape == (0, 2) and index.videos == ()


def test_an_index_that_was_built_again_in_another_way_must_be_opened_again(index):
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.clear(IndexSettings(None, None))
        put_rows(changes, changes.add_space(space(dim=3)), [("a.mp4", 0.0, 8.0)], np.ones((1, 3)))
    assert "was built again in another way: open it again" in refused(lambda: index.search("1 0"), IndexFileError)


def test_several_threads_search_one_index(index):
    expected, wrong = index.search("0.6 0.8"), []

    def search():
        wrong.extend(hits for _ in range(50) if (hits := index.search("0.6 0.8")) != expected)

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what an index says of itself -------------------------------------------------------------------------------------


def test_what_an_index_holds(tmp_path):
    folder = tmp_path / "index"
    remarks = {"a.mp4": [Remark("damage", "cut"), Remark("times", "mended")]}
    with IndexWriter(folder, IndexSettings(8.0, 4.0)) as writer, writer.commit() as changes:
        put_rows(changes, changes.add_space(space()), ROWS, VECTORS, remarks=remarks)
        changes.put_failure(FailedFile("/videos", "d.mp4", STATE, "is empty"))
        changes.set_other_files("/videos", {".jpg": 1, ".txt": 2})
    index = open_index(folder, ENCODER)
    assert len(index) == 5 and index.folder == folder
    assert np.array_equal(index.vectors, VECTORS) and index.vectors.dtype == np.float32
    assert index.windows[1:3] == (Window(2, "/videos/a.mp4", 4.0, 12.0), Window(3, "/videos/a.mp4", 8.0, 16.0))
    assert index.videos == ("/videos/a.mp4", "/videos/b/c.mp4")
    assert index.failures == (Failure("/videos/d.mp4", "is empty"),)
    noticed = (VideoRemark("/videos/a.mp4", "damage", "cut"), VideoRemark("/videos/a.mp4", "times", "mended"))
    assert index.remarks == noticed
    assert list(index.other_files.items()) == [(".txt", 2), (".jpg", 1)]
    info = index.info
    assert (info.encoder, info.fingerprint, info.embed_dim, info.dtype) == ("two", "f" * 16, 2, "float32")
    assert (info.num_frames, info.reader, info.window_s, info.stride_s) == (1, "pyav", 8.0, 4.0)
    assert (info.roots, info.spaces, info.kind) == (("/videos",), ("two",), "exact")
    assert (info.num_videos, info.num_windows, info.num_damaged, info.num_failures) == (2, 5, 1, 1)
    assert info.vmr_version == vmr.__version__ and info.created.endswith("+00:00")


def test_an_index_is_opened_by_its_path(tmp_path, index):
    assert VideoIndex.open(str(tmp_path / "index"), ENCODER).search("1 0") == index.search("1 0")
    assert refused(lambda: open_index(3)) == "folder is 3, but must be a path"


def test_folders_that_hold_no_index(tmp_path):
    folder = tmp_path / "index"
    assert refused(lambda: open_index(folder), IndexFileError) == (
        f"{folder}: no such index: make one with vmr-index build DIR --out {folder}"
    )
    folder.mkdir()
    assert refused(lambda: open_index(folder), IndexFileError) == (
        f"{folder} is not a finished index (no index.db): build it again with vmr-index build"
    )
    with IndexWriter(folder, IndexSettings(None, None)):
        pass
    assert refused(lambda: open_index(folder), IndexFileError) == f"{folder} is empty: add videos with vmr-index build"


def test_a_closed_index_closes_its_files(index):
    index.search("1 0")
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else None
    index.close()
    if before is not None:
        assert len(list(Path("/proc/self/fd").iterdir())) < before
    assert refused(lambda: index.search("1 0"), IndexFileError) == f"{index.folder} was closed: open it again"


# --- encoders and spaces ----------------------------------------------------------------------------------------------


def test_only_the_encoder_that_built_an_index_searches_it(tmp_path, index):
    message = (
        f"{tmp_path / 'index'} was made by two ({'f' * 16}), not by other ({'0' * 16}): search with the former or "
        "build the index again"
    )
    assert refused(lambda: open_index(tmp_path / "index", Other()), IndexFileError) == message
    assert refused(lambda: VideoIndex.open(tmp_path / "index", Other()), IndexFileError) == message
    assert refused(lambda: index.check_encoder(Other()), IndexFileError) == message
    wide = TwoDimensional()
    wide.embed_dim = 3
    assert "not by two" in refused(lambda: index.check_encoder(wide), IndexFileError)
    assert "is no encoder" in refused(lambda: open_index(tmp_path / "index", 5), ModelError)
    index.check_encoder(TwoDimensional())


def test_the_encoder_of_an_index_is_loaded_at_the_first_search(tmp_path, monkeypatch):
    loaded = []

    def load_model(name):
        loaded.append(name)
        return TwoDimensional() if name == "two" else Other()

    monkeypatch.setattr("vmr.retrieval.index.load_encoder", load_model)
    write_index(tmp_path / "index", ROWS, VECTORS)
    for name in (None, "two", Path("two")):
        index = VideoIndex.open(tmp_path / "index", name)
        assert loaded == []
        assert index.encoder is index.encoder and loaded.pop() == "two" and loaded == []
        assert found(index, "1 0", 1) == [(0, 1.0)] and loaded == []
    assert "not by other" in refused(lambda: open_index(tmp_path / "index", "third"), IndexFileError)
    assert loaded == ["third"]
    index = open_index(write_index(tmp_path / "other", ROWS, VECTORS, encoder="third"))
    assert "not by other" in refused(lambda: index.encoder, IndexFileError)


def test_each_space_is_searched_by_its_encoder(tmp_path):
    folder = write_index(tmp_path / "index", ROWS, VECTORS)
    with IndexWriter(folder) as writer, writer.commit() as changes:
        other = changes.add_space(space("other", fingerprint="0" * 16))
        a = changes.snapshot.video_at("/videos/a.mp4")
        changes.add_vectors(a.id, other, np.array([[0, 1], [0, 1], [1, 0]], np.float32))
    index = open_index(folder, Other())  # an encoder finds its space
    assert index.space.name == "other" and len(index) == 3 and index.info.spaces == ("two", "other")
    assert moments(index, "1 0", 1) == [("a", 10.0, 16.0, 1.0)]
    assert index.vectors.tolist() == [[0, 1], [0, 1], [1, 0]] and index.videos == ("/videos/a.mp4",)
    assert len(open_index(folder, ENCODER)) == len(open_index(folder, ENCODER, space="two")) == 5
    assert open_index(folder).space.name == "two" and open_index(folder, space="other").space.name == "other"
    assert "has no space x, but two, other" in refused(lambda: open_index(folder, space="x"), IndexFileError)
    assert "was made by two" in refused(lambda: open_index(folder, Other(), space="two"), IndexFileError)
