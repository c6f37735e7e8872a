"""Indexes of schema 1: what is read from them, and what is refused. tests/written_before/index is a real one."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.old_indexes import VECTORS, old_index
from vmr.data.remark import Remark
from vmr.errors import IndexFileError
from vmr.retrieval.legacy import UNKNOWN, is_old_index, open_old_index, open_reader
from vmr.retrieval.manifest import Manifest
from vmr.retrieval.storage.records import FailedFile, IndexSettings
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.faiss_store import FaissStore

WRITTEN = Path(__file__).parent.parent / "written_before" / "index"


def test_everything_is_read(tmp_path):
    old_index(tmp_path / "index")
    before = {path.name for path in (tmp_path / "index").iterdir()}
    with open_old_index(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        videos = list(snapshot.videos())
        contents = {video.path: video for video in videos}
        assert {path: video.num_windows for path, video in contents.items()} == {
            "a/c.mp4": 1,
            "b.mp4": 3,
            "\udcff.mp4": 1,
        }
        assert {video.state for video in videos} == {UNKNOWN} and {video.content_hash for video in videos} == {b""}
        assert sorted(video.duration_s for video in videos) == [1.5, 2.0, 4.0]
        assert contents["b.mp4"].remarks == (Remark("damage", "3 frames are missing"),)
        assert contents["a/c.mp4"].remarks == ()
        windows = [(window.file, window.start_s, window.end_s) for window in snapshot.windows()]
        assert [window for window in windows if window[0] == "/videos/b.mp4"] == [
            ("/videos/b.mp4", 0, 2),
            ("/videos/b.mp4", 1, 3.5),
            ("/videos/b.mp4", 2, 4),
        ]
        (space,) = snapshot.spaces()
        assert (space.encoder, space.fingerprint, space.dim, space.dtype) == ("tiny", "f00d", 3, "float32")
        assert space.frames == {"num_frames": 4, "reader": "pyav"}
        (block,) = snapshot.blocks_of(space.id, [contents["b.mp4"].first_window])
        assert block.vectors.tobytes() == VECTORS[[0, 1, 4]].tobytes()
        assert snapshot.settings == IndexSettings(2.0, 1.0) and snapshot.other_files() == {".txt": 2}
        assert snapshot.failures() == [FailedFile("/videos", "sub/broken.mp4", None, "is empty")]
        assert (snapshot.meta("created"), snapshot.meta("vmr_version")) == ("2026-11-01T00:00:00+00:00", "0.1.0")
    assert {path.name for path in (tmp_path / "index").iterdir()} == before


def test_an_index_of_an_earlier_version_is_read(tmp_path):
    folder = shutil.copytree(WRITTEN, tmp_path / "index")
    assert is_old_index(folder)
    with open_reader(folder) as reader, reader.snapshot() as snapshot:
        (space,) = snapshot.spaces()
        assert (snapshot.num_videos(), snapshot.num_windows(space.id), space.dim) == (8, 8, 384)
        read = np.concatenate([block.vectors for block in snapshot.blocks(space.id)])
    (file,) = folder.glob("*.faiss")
    assert read.tobytes() == FaissStore.open(file).vectors(np.arange(8)).tobytes()


def test_an_unfinished_database_does_not_hide_an_old_index(tmp_path):
    """As a process that was killed while it converted leaves it."""
    old_index(tmp_path / "index")
    for content in (b"", None):
        if content is not None:
            (tmp_path / "index" / "index.db").write_bytes(content)
        else:
            (tmp_path / "index" / "index.db-journal").write_bytes(b"any")
        assert is_old_index(tmp_path / "index")
        with open_reader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
            assert snapshot.num_videos() == 3


def test_a_finished_database_wins(tmp_path):
    old_index(tmp_path / "index")
    with IndexWriter(tmp_path / "index", IndexSettings(None, None)):
        pass
    assert not is_old_index(tmp_path / "index")
    with open_reader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        assert snapshot.num_videos() == 0


def test_no_index_is_said_in_one_line(tmp_path):
    with pytest.raises(IndexFileError, match="no such index: make one with vmr-index build DIR --out"):
        open_reader(tmp_path / "absent")
    with pytest.raises(IndexFileError, match="is not a finished index"):
        open_reader(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 4}, r"holds 5 vectors of 3 dimensions, its manifest says 5 of 4: build the index again"),
        ({"vectors_file": "none.faiss"}, "none.faiss is missing: build the index again"),
        ({"vectors_sha256": "0" * 64}, "is damaged: build the index again"),
        ({"root": "/\ud800"}, "is no valid name"),
        ({"encoder": "\ud800"}, "is no valid name"),
        ({"window_s": "x"}, "window_s is 'x', expected a number"),
        ({"schema": "vmr-index/3"}, "not of schema vmr-index/1"),
        ({"rows": []}, "rows missing or out of order"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, changes, message):
    old_index(tmp_path / "index", **changes)
    for open_it in (open_old_index, open_reader):
        with pytest.raises(IndexFileError, match=message):
            open_it(tmp_path / "index")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: json.dumps(content)[:300],
        lambda content: "[" * 100_000,
        lambda content: json.dumps([content]),
        lambda content: "5",
        lambda content: json.dumps({**content, "counts": {}}),
        lambda content: json.dumps({**content, "more": 1}),
        lambda content: json.dumps({**content, "rows": [{**content["rows"][0], "video": 5}]}),
        lambda content: json.dumps({key: value for key, value in content.items() if key != "schema"}),
        lambda content: json.dumps({key: value for key, value in content.items() if key != "fingerprint"}),
    ],
    ids=["cut", "nested", "list", "number", "no counts", "more", "video", "no schema", "no fingerprint"],
)
def test_a_damaged_manifest_is_refused(tmp_path, change):
    path = old_index(tmp_path / "index")
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(IndexFileError) as caught:
        open_reader(tmp_path / "index")
    said = str(caught.value)
    assert said.startswith(f"{path} is damaged (") and said.endswith(": build the index again") and "\n" not in said


def test_the_first_versions_said_less(tmp_path):
    path = old_index(tmp_path / "index")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("remarks", "other_files")}))
    with open_reader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        assert snapshot.other_files() == {} and {video.remarks for video in snapshot.videos()} == {()}


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_as_it_is_now(tmp_path, monkeypatch):
    """An earlier version of vmr replaces it between reading the manifest and reading the vectors that it names."""
    path = old_index(tmp_path / "index")
    newer = old_index(tmp_path / "newer", vectors=VECTORS * 2)
    load, replaced = Manifest.load, iter([lambda: newer.parent.rename(path.parent)])

    def load_and_be_late(folder):
        manifest = load(folder)
        for replace in replaced:
            shutil.rmtree(path.parent)
            replace()
        return manifest

    monkeypatch.setattr(Manifest, "load", load_and_be_late)
    with open_old_index(path.parent) as reader, reader.snapshot() as snapshot:
        found = np.concatenate([block.vectors for block in snapshot.blocks(1)])
    assert sorted(found.tolist()) == sorted((VECTORS * 2).tolist())


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    path = old_index(tmp_path / "times")
    content = json.loads(path.read_text())
    content["rows"][2]["end_s"] = float("inf")
    path.write_text(json.dumps(content))
    with pytest.raises(IndexFileError, match="row 2 has times that are no numbers"):
        open_old_index(tmp_path / "times")
    path = old_index(tmp_path / "vectors")
    content = json.loads(path.read_text())
    file = path.parent / content["vectors_file"]
    data = bytearray(file.read_bytes())
    start = data.index(VECTORS.tobytes())
    data[start : start + 4] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    path.write_text(json.dumps({**content, "vectors_sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(IndexFileError, match="holds numbers that are not finite"):
        open_old_index(path.parent)
