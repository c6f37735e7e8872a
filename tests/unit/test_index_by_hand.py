"""An index of a few vectors that were chosen by hand: what is found, what its manifest says, and what is refused."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vmr
from vmr.errors import IndexFileError, ModelError, VmrError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.index import Hit, VideoIndex, open_index
from vmr.retrieval.manifest import Manifest, Row
from vmr.retrieval.results import Failure, VideoRemark
from vmr.retrieval.vectors.faiss_store import FaissStore


class TwoDimensional:
    """Texts are a pair of numbers; the vector of a video is its mean red and blue."""

    name, about, embed_dim = "two", "by hand", 2
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)
    fingerprint = "f" * 16

    def encode_video(self, video):
        mean = video.float().mean(dim=(1, 3, 4))  # (B, 3)
        return torch.nn.functional.normalize(mean[:, [0, 2]], dim=1)

    def encode_text(self, texts):
        return torch.tensor([[float(number) for number in text.split()] for text in texts])


class Other(TwoDimensional):
    name, fingerprint = "other", "0" * 16


ROWS = (
    Row(0, "a.mp4", 0.0, 8.0),
    Row(1, "a.mp4", 4.0, 12.0),
    Row(2, "a.mp4", 8.0, 16.0),
    Row(3, "b/c.mp4", 0.0, 8.0),
    Row(4, "b/c.mp4", 4.0, 9.0),
)
VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [0, 1]], np.float32)
MANIFEST = Manifest(
    encoder="two",
    fingerprint="f" * 16,
    embed_dim=2,
    num_frames=1,
    window_s=8.0,
    stride_s=4.0,
    reader="pyav",
    root="/videos",
    rows=ROWS,
    failures=(Failure("d.mp4", "is empty"),),
    remarks=(VideoRemark("a.mp4", "damage", "cut"), VideoRemark("a.mp4", "times", "mended")),
    vectors_file="vectors.faiss",
    vectors_sha256="",
    created="2026-11-01T00:00:00+00:00",
    vmr_version="0.1.0",
    other_files={".txt": 2, ".jpg": 1},
)


def written(folder, vectors=VECTORS, **changes):
    """An index folder; returns its manifest."""
    folder.mkdir(exist_ok=True)
    store = FaissStore(vectors.shape[1], path=folder / "vectors.faiss")
    store.add(np.arange(len(vectors)), vectors)
    store.commit()
    manifest = replace(MANIFEST, **{"vectors_sha256": store.sha256, **changes})
    manifest.save(folder)
    return manifest


@pytest.fixture
def index(tmp_path):
    written(tmp_path / "index")
    return open_index(tmp_path / "index", TwoDimensional())


def found(index, query, *args, **options):
    """Number of the row and score of each hit."""
    numbers = {(str(Path("/videos", row.video)), row.start_s, row.end_s): row.id for row in index.manifest.rows}
    hits = index.search(query, *args, **options)
    return [(numbers[hit.video, hit.start_s, hit.end_s], round(hit.score, 6)) for hit in hits]


def refused(call, kind=VmrError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


# --- search -----------------------------------------------------------------------------------------------------------


def test_hits_by_hand(index):
    # (1, 0): 1, 0.8, 0.6, 0, 0. Row 1 overlaps row 0; row 2 begins where row 0 ends; row 4 overlaps row 3, which is
    # before it in the index.
    assert found(index, "1 0", overlapping=True) == [(0, 1.0), (1, 0.8), (2, 0.6), (3, 0.0), (4, 0.0)]
    assert found(index, "1 0") == [(0, 1.0), (2, 0.6), (3, 0.0)]
    # (0.8, 0.6): 0.8, 1, 0.96, 0.6, 0.6. Row 1 overlaps rows 0 and 2.
    assert found(index, "0.8 0.6") == [(1, 1.0), (3, 0.6)]
    assert found(index, "0.8 0.6", 1) == [(1, 1.0)]
    assert found(index, "0 1", 2) == [(3, 1.0), (2, 0.8)]
    # (0.6, 0.8): 0.6, 0.96, 1, 0.8, 0.8. Row 1 overlaps row 2; row 0 ends where row 2 begins.
    assert found(index, "0.6 0.8") == [(2, 1.0), (3, 0.8), (0, 0.6)]
    assert index.search("1 0", 1) == [Hit(1.0, str(Path("/videos/a.mp4")), 0.0, 8.0)]
    assert type(index.search("1 0", 1)[0].score) is float


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_the_best_of_many_that_tie_come_in_the_order_of_the_index(tmp_path, k):
    rows = tuple(Row(number, f"{number}.mp4", 0.0, 8.0) for number in range(12))
    vectors = np.array([[0, 1]] * 3 + [[1, 0]] * 8 + [[0.6, 0.8]], np.float32)
    written(tmp_path / "index", vectors, rows=rows)
    index = open_index(tmp_path / "index", TwoDimensional())
    expected = [*((number, 1.0) for number in range(3, 11)), (11, 0.6)]
    assert found(index, "1 0", k) == expected[:k]


def test_the_five_best_are_found_by_default(tmp_path):
    rows = tuple(Row(number, f"{number}.mp4", 0.0, 8.0) for number in range(9))
    angles = np.linspace(0, 1, 9)
    written(tmp_path / "index", np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), rows=rows)
    index = open_index(tmp_path / "index", TwoDimensional())
    assert [row for row, _ in found(index, "1 0")] == [0, 1, 2, 3, 4]


def test_windows_that_overlap_are_looked_past(tmp_path):
    """The second moment is row 40 of 41: the 39 rows between overlap the best one."""
    rows = tuple(Row(number, "a.mp4", number / 10, number / 10 + 4) for number in range(41))
    angles = np.linspace(0, 1, 41)
    written(tmp_path / "index", np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), rows=rows)
    index = open_index(tmp_path / "index", TwoDimensional())
    assert [row for row, _ in found(index, "1 0", 2)] == [0, 40]
    assert [row for row, _ in found(index, "1 0", 9)] == [0, 40]


def test_no_more_rows_are_asked_for_than_needed(index):
    asked, store = [], index._store
    real = store.search

    def search(vector, k, allowed=None):
        asked.append(k)
        return real(vector, k, allowed)

    store.search = search
    index.search("1 0", 1)  # rows 0 and 1: the first is better than the second
    index.search("1 0", 2)  # 3 rows give 2 hits, but the last may tie with others: all 5
    index.search("1 0", 9)
    assert asked == [2, 3, 5, 5]


@pytest.mark.parametrize("query", ["", "  ", "\udcff", None, 5])
def test_no_question(index, query):
    message = "the query is empty or not valid text: describe what the video shows"
    assert refused(lambda: index.search(query)) == message


def test_no_hits_asked_for(index):
    assert refused(lambda: index.search("1 0", 0)) == "k is 0, but must be a whole number of at least 1"


# --- what an index says of itself -------------------------------------------------------------------------------------


def test_what_an_index_holds(index, tmp_path):
    assert len(index) == 5 and index.folder == tmp_path / "index"
    assert np.array_equal(index.vectors, VECTORS)
    assert index.videos == (str(Path("/videos/a.mp4")), str(Path("/videos/b/c.mp4")))
    assert index.failures == MANIFEST.failures and index.remarks == MANIFEST.remarks
    assert index.other_files == {".txt": 2, ".jpg": 1} and index.other_files is not index.manifest.other_files
    manifest = index.manifest
    assert (manifest.num_videos, manifest.num_damaged, manifest.videos) == (2, 1, ("a.mp4", "b/c.mp4"))


def test_the_file_of_a_manifest(tmp_path):
    manifest = written(tmp_path / "index")
    text = (tmp_path / "index" / "manifest.json").read_text()
    content = json.loads(text)
    assert text.startswith('{\n "schema": "vmr-index/1",\n "counts": {') and text.endswith("}\n")
    assert content["counts"] == {"videos": 2, "rows": 5, "failures": 1, "other_files": 3}
    assert content["rows"][1] == {"id": 1, "video": "a.mp4", "start_s": 4.0, "end_s": 12.0}
    assert Manifest.load(tmp_path / "index") == manifest
    # Earlier versions did not write these.
    for name in ("remarks", "other_files"):
        del content[name]
    (tmp_path / "index" / "manifest.json").write_text(json.dumps(content))
    assert Manifest.load(tmp_path / "index") == replace(manifest, remarks=(), other_files={})
    with pytest.raises(ValueError, match="JSON"):
        replace(manifest, window_s=float("nan")).save(tmp_path / "index")
    strange = replace(manifest, root="/vidéos", rows=(replace(ROWS[0], video="\udcff.mp4"), *ROWS[1:]))
    strange.save(tmp_path / "index")
    assert Manifest.load(tmp_path / "index") == strange


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {**content, "schema": "vmr-index/2"},
         "{path}: not of schema vmr-index/1: build the index again with this version of vmr"),
        (lambda content: {**content, "rows": content["rows"][:-1]},
         "{path} is damaged (rows missing or out of order): build the index again"),
        (lambda content: {**content, "counts": {"rows": 4}},
         "{path} is damaged (rows missing or out of order): build the index again"),
        (lambda content: {**content, "counts": {}}, "{path} is damaged ('rows'): build the index again"),
        (lambda content: {**content, "root": 5},
         "{path} is damaged (root is 5, expected text): build the index again"),
        (lambda content: {key: value for key, value in content.items() if key != "schema"}, None),
        (lambda content: [content], None),
        (lambda content: 5, None),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_right(tmp_path, change, message):
    folder = tmp_path / "index"
    written(folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    said = refused(lambda: Manifest.load(folder), IndexFileError)
    if message is not None:
        assert said == message.format(path=path)
    assert said.startswith(str(path)) and said.endswith((": build the index again", "with this version of vmr"))


def test_folders_that_hold_no_index(tmp_path):
    folder = tmp_path / "index"
    assert refused(lambda: open_index(folder), IndexFileError) == (
        f"{folder}: no such index: make one with vmr-index build DIR --out {folder}"
    )
    folder.mkdir()
    assert refused(lambda: open_index(str(folder)), IndexFileError) == (
        f"{folder} is not a finished index (no manifest.json): build it again with vmr-index build"
    )
    assert refused(lambda: open_index(3)) == "folder is 3, but must be a path"


REMEDY = "build the index again with vmr-index build"


def test_vectors_that_are_not_those_of_the_manifest(tmp_path):
    folder = tmp_path / "index"
    path = folder / "vectors.faiss"
    written(folder, vectors_sha256="0" * 64)
    assert refused(lambda: open_index(folder), IndexFileError) == f"{path} is damaged: {REMEDY}"
    written(folder, rows=ROWS[:4])
    assert refused(lambda: open_index(folder), IndexFileError) == (
        f"{path} holds 5 vectors of 2 dimensions, its manifest says 4 of 2: {REMEDY}"
    )
    written(folder, embed_dim=3)
    assert refused(lambda: open_index(folder), IndexFileError) == (
        f"{path} holds 5 vectors of 2 dimensions, its manifest says 5 of 3: {REMEDY}"
    )
    path.write_bytes(b"nothing of the kind")
    replace(MANIFEST, vectors_sha256=hashlib.sha256(path.read_bytes()).hexdigest()).save(folder)
    said = refused(lambda: open_index(folder), IndexFileError)
    assert said.startswith(f"{path}: FAISS cannot read this file: ") and said.endswith(f": {REMEDY}")
    path.unlink()
    assert refused(lambda: open_index(folder), IndexFileError) == f"{path} is missing: {REMEDY}"


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_as_it_is_now(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    written(folder)
    load, replaced = Manifest.load, iter([lambda: written(folder, VECTORS[::-1], created="later")])

    def load_and_be_late(folder):
        manifest = load(folder)
        next(replaced, lambda: None)()
        return manifest

    monkeypatch.setattr(Manifest, "load", load_and_be_late)
    index = open_index(folder, TwoDimensional())
    assert index.manifest.created == "later" and np.array_equal(index.vectors, VECTORS[::-1])


# --- encoders ---------------------------------------------------------------------------------------------------------


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

    monkeypatch.setattr("vmr.retrieval.index.load_model", load_model)
    written(tmp_path / "index")
    for name in (None, "two", Path("two")):
        index = VideoIndex.open(tmp_path / "index", name)
        assert loaded == []
        assert index.encoder is index.encoder and loaded.pop() == "two" and loaded == []
        assert found(index, "1 0", 1) == [(0, 1.0)] and loaded == []
    assert "not by other" in refused(lambda: open_index(tmp_path / "index", "third"), IndexFileError)
    assert loaded == ["third"]
    written(tmp_path / "index", encoder="third")
    index = open_index(tmp_path / "index")
    assert "not by other" in refused(lambda: index.encoder, IndexFileError)
