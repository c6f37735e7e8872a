"""Vectors that leave an index and come back, vectors made elsewhere, and metadata from tables."""

import csv
import datetime
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vmr
from tests.integration.commands import refused, run_here
from tests.old_indexes import content_of, old_index
from vmr.files import sha256_of
from vmr.retrieval.legacy import UNKNOWN
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space, Text
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import IndexWriter

FRAMES = {"num_frames": 4, "size": 32, "resize": "crop", "sampling": "middle", "reader": "pyav"}
NOW = FileState(size=10, mtime_ns=10**18, inode=7, seen_ns=2 * 10**18)
NAMES = ("b.mp4", 'sub/a,\n"b".mp4', "\udcff.mp4")


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of three videos, in the spaces `half` (float16) and, but for the last video, `full` (float32)."""
    with IndexWriter(tmp_path / "index", IndexSettings(2.0, 1.0)) as writer, writer.commit() as changes:
        half = changes.add_space(Space(0, "half", "tiny", "f00d", 8, "float16", FRAMES))
        full = changes.add_space(Space(0, "full", "small", "beef", 5, "float32", FRAMES))
        for number, name in enumerate(NAMES):
            n = number + 2
            spans = tuple((float(i), i + 2.0) for i in range(n))
            vectors = {half: unit(n, 8, seed=number), full: unit(n, 5, seed=number)}
            if number == 2:
                del vectors[full]
            changes.put_video(NewVideo("/videos", name, b"", NOW, n + 1.0, (), spans, vectors))
    return tmp_path / "index"


def exported(folder: Path, kind: str, *options: str) -> Path:
    to = folder.parent / f"vectors.{kind}"
    done = run_here("vmr-index", "export", folder, f"--{kind}", to, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return to


def vectors_of(folder: Path, space: str) -> dict[tuple, bytes]:
    return {key[1:]: data for key, data in content_of(IndexReader(folder))["vectors"].items() if key[0] == space}


# Export


def test_parquet(folder):
    to = exported(folder, "parquet", "--space", "half")
    table = pq.read_table(to)
    assert table.column_names == ["video", "window", "start_s", "end_s", "vector"] and len(table) == 9
    rows = table.to_pylist()
    assert [row["video"] for row in rows] == sorted(row["video"] for row in rows)
    assert {row["video"] for row in rows} == {"/videos/b.mp4", '/videos/sub/a,\n"b".mp4', "/videos///ff.mp4"}
    of_b = [row for row in rows if row["video"] == "/videos/b.mp4"]
    assert [(row["start_s"], row["end_s"]) for row in of_b] == [(0, 2), (1, 3)]
    expected = unit(2, 8, seed=0).astype(np.float16).astype(np.float32)
    assert np.array([row["vector"] for row in of_b], np.float32).tobytes() == expected.tobytes()
    assert json.loads(table.schema.metadata[b"vmr"])["fingerprint"] == "f00d"


def test_npz(folder):
    content = np.load(exported(folder, "npz", "--space", "full"), allow_pickle=False)
    assert content["vector"].shape == (5, 5) and content["vector"].dtype == np.float32
    names = [content["videos"][number] for number in content["video"]]
    assert names == ["/videos/b.mp4"] * 2 + ['/videos/sub/a,\n"b".mp4'] * 3
    assert content["vector"][:2].tobytes() == unit(2, 5, seed=0).tobytes()
    assert json.loads(str(content["about"]))["encoder"] == "small"


def test_csv(folder):
    rows = list(csv.DictReader(exported(folder, "csv", "--space", "full").open(newline="")))
    assert [*rows[0]] == ["video", "window", "start_s", "end_s"] and len(rows) == 5
    assert (rows[2]["video"], rows[2]["start_s"], rows[2]["end_s"]) == ('/videos/sub/a,\n"b".mp4', "0.0", "2.0")
    rows = list(csv.DictReader(exported(folder, "csv", "--space", "full", "--vectors").open(newline="")))
    found = np.array([[float(row[f"v{i}"]) for i in range(5)] for row in rows[:2]], np.float32)
    assert found.tobytes() == unit(2, 5, seed=0).tobytes()


def test_export_of_some_videos(folder):
    to = exported(folder, "csv", "--space", "half", "--where", 'path ~ "b*" or folder = "sub"')
    assert len(list(csv.DictReader(to.open(newline="")))) == 5
    old_index(folder.parent / "old")
    assert len(list(csv.DictReader(exported(folder.parent / "old", "csv").open(newline="")))) == 5


def test_a_wrong_export_is_refused(folder, tmp_path, monkeypatch):
    to = tmp_path / "x.npz"
    to.write_text("mine")
    for options, message in (
        ((), "name one file to write: --parquet FILE, --npz FILE or --csv FILE"),
        (("--npz", to, "--csv", to), "name one file to write"),
        (("--npz", to, "--vectors"), "--vectors is for --csv"),
        (("--npz", to), "has several vector spaces: name one with --space: half, full"),
        (("--npz", to, "--space", "none"), "has no vector space none: it has half, full"),
        (("--npz", tmp_path, "--space", "half"), "is a folder: name a file"),
        (("--npz", to, "--space", "half", "--where", "x"), "the expression is wrong at 'x' (character 1)"),
    ):
        assert message in refused(run_here("vmr-index", "export", folder, *options))
    assert to.read_text() == "mine"
    assert "no such index" in refused(run_here("vmr-index", "export", tmp_path / "none", "--csv", to))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = refused(run_here("vmr-index", "export", folder, "--parquet", to, "--space", "half"))
    assert "needs pyarrow: pip install 'vmr[train]'" in said


# There and back


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_round_trip(folder, kind, tmp_path):
    for name in ("half", "full"):
        file = exported(folder, kind, "--space", name)
        done = run_here("vmr-index", "import", tmp_path / "new", file, "--space", name)
        assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "new") == []
    before, after = content_of(IndexReader(folder)), content_of(IndexReader(tmp_path / "new"))
    for key in ("vectors", "spaces", "settings"):
        assert after[key] == before[key]
    with IndexReader(tmp_path / "new") as reader, reader.snapshot() as snapshot:
        assert [space.dtype for space in snapshot.spaces()] == ["float16", "float32"]
        assert set(snapshot.roots().values()) == {"/videos"}


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_answers_are_the_same_after_a_round_trip(offline, footage, tmp_path, kind):
    index = vmr.build_index(footage, tmp_path / "index", offline, window_s=4, stride_s=2)
    run_here("vmr-index", "import", tmp_path / "new", exported(tmp_path / "index", kind))
    again = vmr.open_index(tmp_path / "new", offline)
    for query in ("a cyclist with a helmet", "a cartoon rabbit"):
        found, expected = (
            [(hit.score, hit.video, hit.start_s, hit.end_s) for hit in one.search(query, k=4)] for one in (again, index)
        )
        assert found == expected
    with IndexReader(tmp_path / "new") as reader, reader.snapshot() as snapshot:
        for video in snapshot.videos():
            assert video.content_hash.hex() == sha256_of(Path(video.file))
            assert video.state.is_same(FileState.of(video.file))


# Vectors made elsewhere


def write(path: Path, videos, starts, ends, vectors) -> Path:
    if path.suffix == ".npz":
        np.savez(path, video=videos, start_s=starts, end_s=ends, vector=vectors)
    else:
        columns = {"video": videos, "start_s": starts, "end_s": ends, "vector": [list(vector) for vector in vectors]}
        pq.write_table(pa.table(columns), path)
    return path


GIVEN = ("--encoder", "mine", "--fingerprint", "abcd")


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_import_into_a_new_index(tmp_path, kind):
    (tmp_path / "videos").mkdir()
    there = tmp_path / "videos" / "there.mp4"
    there.write_bytes(b"video")
    os.utime(there, (10**9, 10**9))
    videos = ["there.mp4", "gone.mp4", "there.mp4", str(there)]
    vectors = unit(4, 6)
    file = write(tmp_path / f"v.{kind}", videos, [4.0, 0.0, 0.0, 2], [6.0, 9.5, 2.0, 4], vectors)
    options = ("--root", tmp_path / "videos", "--dtype", "float32", "--window", "2", "--stride", "2")
    done = run_here("vmr-index", "import", tmp_path / "index", file, *GIVEN, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'index'}: 4 windows of 2 videos in the vector space mine\n"
    assert vectors_of(tmp_path / "index", "mine") == {
        (str(there), 0, 2): vectors[2].tobytes(),
        (str(there), 2, 4): vectors[3].tobytes(),
        (str(there), 4, 6): vectors[0].tobytes(),
        (str(tmp_path / "videos" / "gone.mp4"), 0, 9.5): vectors[1].tobytes(),
    }
    with IndexReader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        assert (snapshot.settings, [*snapshot.roots().values()]) == (IndexSettings(2, 2), [str(tmp_path / "videos")])
        gone, found = snapshot.videos()
        assert (gone.state, gone.content_hash, gone.duration_s) == (UNKNOWN, b"", 9.5)
        assert found.state.is_same(FileState.of(there)) and found.content_hash.hex() == sha256_of(there)
    before = content_of(IndexReader(tmp_path / "index"))
    again = run_here("vmr-index", "import", tmp_path / "index", file, *GIVEN, "--root", tmp_path / "videos")
    assert "4 windows of 2 videos in the vector space mine, 2 of the videos were there already" in again.stdout
    assert content_of(IndexReader(tmp_path / "index")) == before and verify(tmp_path / "index") == []


def test_import_beside_other_vectors(folder, tmp_path):
    """A further space for videos that the index has, and a new video; the rows come in any order."""
    videos = ["/videos/b.mp4", "/videos/new.mp4", "/videos/b.mp4"]
    vectors = unit(3, 4, seed=9)
    file = write(tmp_path / "v.npz", videos, [1.0, 0.0, 0.0], [3.0, 1.0, 2.0], vectors)
    before = content_of(IndexReader(folder))
    assert (
        run_here("vmr-index", "import", folder, file, *GIVEN, "--space", "third", "--dtype", "float32").returncode == 0
    )
    after = content_of(IndexReader(folder))
    assert vectors_of(folder, "third") == {
        ("/videos/b.mp4", 0, 2): vectors[2].tobytes(),
        ("/videos/b.mp4", 1, 3): vectors[0].tobytes(),
        ("/videos/new.mp4", 0, 1): vectors[1].tobytes(),
    }
    assert before["vectors"].items() <= after["vectors"].items() and verify(folder) == []
    assert after["spaces"][:2] == before["spaces"] and after["spaces"][2][:4] == ("third", "mine", "abcd", 4)


def test_the_fingerprint_comes_from_the_model(offline, tmp_path):
    file = write(tmp_path / "v.npz", ["/v/a.mp4"], [0.0], [1.0], unit(1, offline.embed_dim))
    assert run_here("vmr-index", "import", tmp_path / "index", file, "--encoder", "offline").returncode == 0
    with IndexReader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        (space,) = snapshot.spaces()
        assert (space.encoder, space.fingerprint) == (offline.name, offline.fingerprint)
    assert len(vmr.open_index(tmp_path / "index", offline).search("a dog")) == 1
    file = write(tmp_path / "w.npz", ["/v/a.mp4"], [0.0], [1.0], unit(1, 7))
    said = refused(run_here("vmr-index", "import", tmp_path / "index", file, "--encoder", "offline"))
    assert f"its vectors have 7 dimensions, those of offline have {offline.embed_dim}" in said


def test_lengths(tmp_path):
    file = write(tmp_path / "v.npz", ["a.mp4", "b.mp4"], [0.0, 0.0], [1.0, 1.0], unit(2, 4) * [[1], [3]])
    assert "row 2: its vector is longer than 1" in refused(
        run_here("vmr-index", "import", tmp_path / "i", file, *GIVEN)
    )
    assert not (tmp_path / "i").exists()
    assert run_here("vmr-index", "import", tmp_path / "i", file, *GIVEN, "--normalize").returncode == 0
    (_, first), (_, second) = vectors_of(tmp_path / "i", "mine").items()
    expected = unit(2, 4).astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(np.frombuffer(first + second, np.float32).reshape(2, 4), expected, atol=1e-3)
    # Models that average over frames make vectors that are shorter than 1.
    short = write(tmp_path / "s.npz", ["a.mp4", "b.mp4"], [0.0, 0.0], [1.0, 1.0], unit(2, 4) / [[2], [4]])
    assert run_here("vmr-index", "import", tmp_path / "j", short, *GIVEN).returncode == 0
    (_, first), (_, second) = vectors_of(tmp_path / "j", "mine").items()
    np.testing.assert_allclose(np.frombuffer(first, np.float32), expected[0] / 2, atol=1e-3)
    np.testing.assert_allclose(np.frombuffer(second, np.float32), expected[1] / 4, atol=1e-3)


@pytest.mark.parametrize("kind", ["parquet", "npz"])
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("video", ["a", "", "c"], "row 2: '' is no name of a file"),
        ("video", ["a", "b", "c\0d"], "row 3: 'c\\x00d' is no name of a file"),
        ("video", ["a", "b", "a"], "row 3: it has the video and the times of row 1"),
        ("video", ["a", "b", "./x/../a"], "row 3: it has the video and the times of row 1"),
        ("video", [1, 2, 3], "column video holds other values than texts"),
        ("start_s", [0.0, np.nan, 0.0], "row 2: its times are no numbers"),
        ("start_s", [0.0, 0.0, -1.0], "row 3: its end lies before its start"),
        ("end_s", [1.0, 1.0, -1.0], "row 3: its end lies before its start"),
        ("end_s", ["1", "1", "1"], "column end_s is"),
        ("vector", [[1.0, 0.0], [np.inf, 0.0], [np.nan, 0.0]], "row 2 (and 1 more): its vector holds numbers"),
        ("vector", [["a", "b"]] * 3, "column vector is"),
        ("vector", [[], [], []], "column vector is"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_and_nothing_is_written(folder, tmp_path, kind, column, values, message):
    columns = {"video": ["a", "b", "c"], "start_s": [0.0] * 3, "end_s": [1.0] * 3, "vector": [[1.0, 0.0]] * 3}
    file = write(tmp_path / f"v.{kind}", *{**columns, column: values}.values())
    before = sha256_of(folder / "index.db")
    for index in (folder, tmp_path / "new"):
        said = refused(run_here("vmr-index", "import", index, file, *GIVEN))
        assert said.startswith(f"error: {file}: ") and message in said
    assert sha256_of(folder / "index.db") == before and not (tmp_path / "new").exists()


def test_a_wrong_file_is_named(folder, tmp_path):
    def said(file: Path, *options: object) -> str:
        return refused(run_here("vmr-index", "import", folder, file, *(options or GIVEN)))

    assert "no such file" in said(tmp_path / "none.npz")
    (tmp_path / "a.txt").write_text("x")
    assert "name a file that ends with .parquet or .npz" in said(tmp_path / "a.txt")
    for name in ("bad.npz", "bad.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 or not")
        assert f"{name}: cannot be read: " in said(tmp_path / name)
    np.savez(tmp_path / "b.npz", video=["a"], start_s=[0.0])
    assert "has no column end_s, vector: it needs video, start_s, end_s, vector" in said(tmp_path / "b.npz")
    pq.write_table(pa.table({"video": ["a"], "vector": [[1.0]]}), tmp_path / "b.parquet")
    assert "has no column start_s, end_s" in said(tmp_path / "b.parquet")
    np.savez(tmp_path / "c.npz", video=np.array(["a"], object), start_s=[0.0], end_s=[1.0], vector=[[1.0]])
    assert "c.npz: cannot be read: Object arrays cannot be loaded" in said(tmp_path / "c.npz")
    pq.write_table(
        pa.table({"video": ["a", "b"], "start_s": [0.0, 0.0], "end_s": [1.0, 1.0], "vector": [[1.0, 0.0], [1.0]]}),
        tmp_path / "d.parquet",
    )
    assert "row 2: its vector has 1 numbers, that of row 1 2" in said(tmp_path / "d.parquet")
    pq.write_table(
        pa.table({"video": ["a", "b"], "start_s": [0.0, None], "end_s": [1.0, 1.0], "vector": [[1.0], [1.0]]}),
        tmp_path / "e.parquet",
    )
    assert "row 2: column start_s has no value" in said(tmp_path / "e.parquet")
    empty = write(tmp_path / "f.npz", np.array([], str), [], [], np.empty((0, 4)))
    assert "holds no rows" in said(empty)
    pq.write_table(pq.read_table(exported(folder, "parquet", "--space", "half")).slice(0, 0), tmp_path / "g.parquet")
    assert "holds no rows" in said(tmp_path / "g.parquet")
    right = write(tmp_path / "right.npz", ["/v/a"], [0.0], [1.0], unit(1, 4))
    assert "does not say which model made its vectors: give --encoder NAME" in said(right, "--space", "new")
    assert "its vectors have 4 dimensions, those of half have 8" in said(right, "--space", "half")
    own = exported(folder, "npz", "--space", "half")
    assert f"{own}: was made by tiny (f00d), not (x)" in said(own, "--fingerprint", "x", "--space", "y")
    assert f"{own}: was made by tiny (f00d), not by mine (abcd)" in said(own, *GIVEN)
    right = write(tmp_path / "right.npz", ["/v/a"], [0.0], [1.0], unit(1, 8))
    assert "its vectors are of mine (abcd), those of the vector space half of tiny (f00d)" in said(
        right, *GIVEN, "--space", "half"
    )
    assert "stores the vectors of half as float16, not as float32" in said(
        right, "--space", "half", "--dtype", "float32"
    )


def test_rows_that_contradict_the_index(folder, tmp_path):
    before = sha256_of(folder / "index.db")
    rows = {"videos": ["/videos/c", "/videos/b.mp4", "/videos/b.mp4"], "starts": [0.0, 0.0, 1.0]}
    for ends, seed, message in (
        ([1.0, 2.0, 3.5], 0, "row 2: the index holds /videos/b.mp4 with other windows: remove it first"),
        ([1.0, 2.0, 3.0], 1, "row 2: the index holds /videos/b.mp4 with other vectors in half: remove it first"),
    ):
        file = write(tmp_path / "v.npz", *rows.values(), ends, unit(3, 8, seed=seed))
        assert message in refused(run_here("vmr-index", "import", folder, file, "--space", "half"))
    assert sha256_of(folder / "index.db") == before


def test_import_needs_an_index_or_a_new_folder(tmp_path):
    file = write(tmp_path / "v.npz", ["/v/a"], [0.0], [1.0], unit(1, 4))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert "no such index" in refused(run_here("vmr-index", "import", tmp_path / "mine", file, *GIVEN))
    old_index(tmp_path / "old")
    assert "run vmr-index upgrade" in refused(run_here("vmr-index", "import", tmp_path / "old", file, *GIVEN))
    (tmp_path / "empty").mkdir()
    assert run_here("vmr-index", "import", tmp_path / "empty", file, *GIVEN).returncode == 0


def test_an_import_that_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vmr.retrieval.upkeep.importing._ROWS_OF_A_COMMIT", 10)
    videos = [f"/v/{number // 2:03d}" for number in range(100)]
    starts = np.arange(100) % 2.0
    file = write(tmp_path / "v.npz", videos, starts, starts + 1, unit(100, 4))
    put, count = IndexWriter.commit, 0

    def fail_later(writer):
        nonlocal count
        count += 1
        if count == 6:
            raise vmr.VmrError("index.db: cannot be written: database or disk is full")
        return put(writer)

    monkeypatch.setattr(IndexWriter, "commit", fail_later)
    said = refused(run_here("vmr-index", "import", tmp_path / "index", file, *GIVEN))
    assert "disk is full; imported 20 of 50 videos: import again to go on" in said
    assert verify(tmp_path / "index") == [] and len(vectors_of(tmp_path / "index", "mine")) == 40
    done = run_here("vmr-index", "import", tmp_path / "index", file, *GIVEN)
    assert "100 windows of 50 videos in the vector space mine, 20 of the videos were there already" in done.stdout
    assert len(vectors_of(tmp_path / "index", "mine")) == 100 and verify(tmp_path / "index") == []


# Metadata


def metadata_of(folder: Path) -> dict[str, dict]:
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        return {video.path: dict(video.metadata) for video in snapshot.videos()}


def test_metadata_from_a_table(folder, tmp_path):
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.set_texts(changes.snapshot.video_at("/videos/b.mp4").id, [Text(0, 1, "subtitle", "hello")])
    table = tmp_path / "cameras.csv"
    table.write_text(
        "video,camera,take,ok,share,note\n"
        "b.mp4,cam07,3,TRUE,0.5,\n"
        '"/videos/sub/a,\n""b"".mp4",007,1_0,false,-1e3,nan\n'
        "none.mp4,x,1,true,1,y\n"
    )
    done = run_here("vmr-index", "meta", folder, table)
    assert (done.returncode, done.stderr) == (0, "not in the index: none.mp4\n")
    assert done.stdout == f"{folder}: metadata of 2 videos, 1 names are not in the index\n"
    found = metadata_of(folder)
    assert found["b.mp4"] == {"camera": "cam07", "take": 3, "ok": True, "share": 0.5}
    assert found[NAMES[1]] == {"camera": "007", "take": "1_0", "ok": False, "share": -1000.0, "note": "nan"}
    assert found[NAMES[2]] == {}
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert [video.path for video in snapshot.videos(Where.parse("meta.take = 3"))] == ["b.mp4"]
        assert len(snapshot.texts(snapshot.video_at("/videos/b.mp4").id)) == 1
    (tmp_path / "more.json").write_text(
        json.dumps([{"video": "b.mp4", "take": None, "tags": ["x"], "camera": "cam08"}])
    )
    assert run_here("vmr-index", "meta", folder, tmp_path / "more.json").returncode == 0
    assert metadata_of(folder)["b.mp4"] == {"camera": "cam08", "ok": True, "share": 0.5, "tags": ["x"]}
    assert verify(folder) == []


def test_metadata_from_a_parquet_file(folder, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "video": ["b.mp4", NAMES[1]],
        "take": [3, None],
        "share": [0.5, float("nan")],
        "day": [datetime.date(2026, 11, 27), None],
        "ok": [True, False],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "cameras.parquet")
    assert run_here("vmr-index", "meta", folder, tmp_path / "cameras.parquet").returncode == 0
    found = metadata_of(folder)
    assert found["b.mp4"] == {"take": 3, "share": 0.5, "day": "2026-11-27", "ok": True}
    assert found[NAMES[1]] == {"ok": False}
    (tmp_path / "no.parquet").write_bytes(b"x" * 100)
    assert "no.parquet: cannot be read" in refused(run_here("vmr-index", "meta", folder, tmp_path / "no.parquet"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,x\nb.mp4,1\n", "row 1: it has no text video"),
        ("a.csv", "video,x\nb.mp4,1\nb.mp4,2\n", "row 2: b.mp4 is there twice"),
        ("a.csv", "video,x\nb.mp4,1\n/videos/b.mp4,2\n", "b.mp4 and /videos/b.mp4 are the same video"),
        ("a.csv", "video,x\nb.mp4,1,2\n", "row 1 has another number of values than the first line has names"),
        ("a.csv", "video,x\nb.mp4\n", "row 1 has another number of values"),
        ("a.csv", 'video,x\n"b.mp4,1\n', "cannot be read"),
        ("a.json", "{}", "a list of objects is needed"),
        ("a.json", "[", "cannot be read"),
        ("a.json", '[{"video": 5}]', "row 1: it has no text video"),
        ("a.json", '[{"video": "b.mp4", "x": NaN}]', "cannot be kept as JSON"),
        ("b.csv", None, "No such file or directory"),
    ],
)
def test_a_wrong_table_changes_nothing(folder, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    said = refused(run_here("vmr-index", "meta", folder, tmp_path / name))
    assert message in said
    assert set(map(str, metadata_of(folder).values())) == {"{}"}


def test_a_name_of_several_videos(folder, tmp_path):
    with IndexWriter(folder) as writer, writer.commit() as changes:
        for path in ("x/c.mp4", "y/c.mp4"):
            changes.put_video(NewVideo("/videos", path, b"", NOW, 1.0, (), ((0.0, 1.0),), {1: unit(1, 8)}))
    (tmp_path / "a.csv").write_text("video,x\nc.mp4,1\n")
    said = refused(run_here("vmr-index", "meta", folder, tmp_path / "a.csv"))
    assert "c.mp4 can be /videos/x/c.mp4 and /videos/y/c.mp4: write the path" in said


# Selected videos


def test_list_and_remove_the_selected_videos(folder):
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.set_metadata(changes.snapshot.video_at("/videos/b.mp4").id, {"camera": "cam07"})
    expression = 'meta.camera = "cam07" or path ~ "sub/*"'
    listed = json.loads(run_here("vmr-index", "list", folder, "--json", "--where", expression).stdout)
    assert [video["video"] for video in listed["videos"]] == ["/videos/b.mp4", '/videos/sub/a,\n"b".mp4']
    assert [len(video["windows"]) for video in listed["videos"]] == [2, 3]
    printed = run_here("vmr-index", "list", folder, "--where", "duration < 4").stdout
    assert "b.mp4" in printed and "sub" not in printed
    assert "--where selects videos" in refused(
        run_here("vmr-index", "list", folder, "--failures", "--where", expression)
    )
    for options, message in (
        ((), "no pattern given: name at least one video, or select some with --where"),
        (("b.mp4", "--where", expression), "give patterns or --where, not both"),
        (("--where", "size > 1 TB"), f"no video of {folder} is selected by size > 1 TB"),
        (("--where", "size >"), "the expression is wrong at its end: a value is expected here"),
    ):
        assert message in refused(run_here("vmr-index", "remove", folder, *options))
    assert len(metadata_of(folder)) == 3
    done = run_here("vmr-index", "remove", folder, "--where", expression)
    assert done.returncode == 0 and done.stdout.startswith("2 removed\n")
    assert [*metadata_of(folder)] == ["\udcff.mp4"] and verify(folder) == []
