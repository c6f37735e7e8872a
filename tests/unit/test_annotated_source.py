"""Training pairs from annotation files."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.video_matrix import Recipe, number_of, write_video

pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra train")

from vmr.data.annotations.locator import MediaFolder
from vmr.data.decoding.options import DecodeOptions
from vmr.data.sources.annotated import AnnotatedSource, load_table
from vmr.data.sources.source import Pair, TrainSource
from vmr.data.training.clips import ClipSpec
from vmr.data.training.loader import TrainLoader
from vmr.errors import AnnotationError, VmrError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_rows(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


ROWS = [
    {"video": "v/a.mp4", "caption": "a cat"},
    {"video": "b", "caption": ["a dog", "a hound"]},
    {"video": "v/a.mp4", "caption": "a tom"},
]


def source_of(tmp_path, rows=ROWS, media="video") -> TrainSource:
    return AnnotatedSource(load_table(write_rows(tmp_path / "t.json", rows)), tmp_path, media, "mine")


def test_pairs(tmp_path):
    source = source_of(tmp_path)
    rng = np.random.default_rng(0)
    assert (source.name, source.media, len(source), source.num_ids) == ("mine", "video", 3, 2)
    assert source.pair(0, rng) == Pair("v/a.mp4", 0, "a cat", tmp_path / "v/a.mp4")
    assert source.pair(2, rng) == Pair("v/a.mp4", 0, "a tom", tmp_path / "v/a.mp4")
    drawn = Counter(source.pair(1, rng).caption for _ in range(200))
    assert set(drawn) == {"a dog", "a hound"}
    assert min(drawn.values()) > 60  # of 200 draws of one in two, 5.7 standard deviations below 100
    assert source.pair(1, rng).id == 1


def test_the_generator_alone_chooses(tmp_path):
    source = source_of(tmp_path)
    first, again = ([source.pair(1, np.random.default_rng(seed)).caption for seed in range(20)] for _ in range(2))
    assert first == again


def test_files_are_found_without_their_suffix(tmp_path):
    names = ["b.webm", "clip.12_30.mkv", "trailing.mov", "odd.3gp", "two.avi", "two.mp4"]
    for name in names:
        (tmp_path / name).touch()
    asked = {
        "b": "b.webm",
        "clip.12_30": "clip.12_30.mkv",
        "trailing.": "trailing.mov",
        "odd.3gp": "odd.3gp",
        "two": "two.mp4",  # the first of the usual suffixes
        "gone": "gone",
        "gone.mp4": "gone.mp4",
    }
    folder = MediaFolder(tmp_path)
    assert {path: folder.locate(path, "video").name for path in asked} == asked
    assert MediaFolder("/elsewhere").locate(str(tmp_path / "b"), "video") == tmp_path / "b.webm"
    (tmp_path / "x.png").touch()
    assert folder.locate("x", "image") == tmp_path / "x.png"
    assert folder.locate("b", "image") == tmp_path / "b"


def test_suffixes_in_any_case(tmp_path):
    for name in ("a.MP4", "b.Mov", "c.mp4", "c.MP4", "d.JPG", "e.mp4", "f.M2TS", "._g.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "e").mkdir()
    (tmp_path / "h.mp4").mkdir()
    found = {"a": "a.MP4", "a.mp4": "a.MP4", "a.Mp4": "a.MP4", "b": "b.Mov", "b.mov": "b.Mov", "c": "c.mp4"}
    found |= {"c.MP4": "c.MP4", "c.mP4": "c.mp4", "e": "e.mp4", "f": "f.M2TS", "f.m2ts": "f.M2TS"}
    folder = MediaFolder(tmp_path)
    assert {path: folder.find(path, "video").name for path in found} == found
    assert folder.find("d", "image") == folder.find("d.jpg", "image") == tmp_path / "d.JPG"
    for absent in ("A", "A.mp4", "b.mp4", "d", "g", "h", "h.mp4", "nowhere/a"):
        assert folder.find(absent, "video") is None
    (tmp_path / "late.AVI").touch()  # the folder is listed again
    assert folder.find("late", "video").name == "late.AVI"


def test_a_fifo_is_found_so_that_decoding_names_it(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert MediaFolder(tmp_path).find("a", "video") == tmp_path / "a.mp4"


def test_an_old_folder_is_listed_once(tmp_path, monkeypatch):
    (tmp_path / "a.MP4").touch()
    os.utime(tmp_path, (1e9, 1e9))
    folder = MediaFolder(tmp_path)
    assert folder.find("a", "video") == tmp_path / "a.MP4"
    monkeypatch.setattr(Path, "iterdir", None)
    assert folder.find("a.mp4", "video") == tmp_path / "a.MP4"
    assert folder.find("b", "video") is None


def test_what_cannot_be_trained_on(tmp_path):
    with pytest.raises(AnnotationError, match="mine: its annotations are of videos, not of images"):
        source_of(tmp_path, media="image")
    moment = [{"video": "a.mp4", "caption": "c", "start_s": 1, "end_s": 2}]
    whole = [{"video": "b.mp4", "caption": "c"}]
    for rows in (moment, whole + moment):
        with pytest.raises(AnnotationError, match="mine: its captions are of moments"):
            source_of(tmp_path, rows)
    table = load_table(write_rows(tmp_path / "t.json", ROWS))
    with pytest.raises(VmrError, match="nowhere: no such folder"):
        AnnotatedSource(table, tmp_path / "nowhere", "video", "mine")
    with pytest.raises(AnnotationError, match=r"t\.json: a\.mp4: a blank caption"):
        load_table(write_rows(tmp_path / "t.json", [{"video": "a.mp4", "caption": " "}]))


def test_a_split_is_another_table(tmp_path):
    file = write_rows(tmp_path / "t.json", ROWS)
    only = tmp_path / "train.txt"
    only.write_text("b\n")
    assert len(load_table(file)) == 3
    assert len(load_table(file, only=only)) == 1
    only.write_text("a\n")
    assert len(load_table(file, only=only)) == 2


def test_training_reads_the_right_videos(tmp_path):
    """Frame numbers are in the pictures: each caption comes with its own video, broken ones with none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    still = write_video(folder / "still.mp4")
    for start in (0, 8, 16, 24):
        write_video(folder / f"{start}.mp4", Recipe(num_frames=start + 8, options={"preset": "ultrafast", "bf": "0"}))
    (folder / "broken.mp4").write_bytes(still.read_bytes()[:1000])
    rows = [{"video": f"{start}.mp4", "caption": str(start + 8)} for start in (0, 8, 16, 24)]
    rows += [{"video": "broken.mp4", "caption": "broken"}, {"video": "gone.mp4", "caption": "gone"}]
    source = AnnotatedSource(load_table(write_rows(tmp_path / "t.json", rows)), folder, "video", "mine")
    spec = ClipSpec(2, 96, sampling="middle", crop="stretch", flip=False)
    with TrainLoader(
        [(source, 1.0)], spec, batch_size={"video": 4}, seed=0, decode=DecodeOptions(num_workers=1), max_bad_share=0.9
    ) as loader:
        batches = [batch for batch, _ in zip(loader.batches(), range(4), strict=False)]
    seen = {}
    for batch in batches:
        for caption, clip, id in zip(batch.captions, batch.video, batch.ids.tolist(), strict=True):
            assert seen.setdefault(caption, id) == id
            # of n frames in two parts: the middle of each, (n / 2 - 1) // 2 and (3 n / 2 - 1) // 2
            n = int(caption)
            assert [number_of(frame) for frame in clip] == [(n // 2 - 1) // 2, (3 * n // 2 - 1) // 2]
    assert set(seen) == {"8", "16", "24", "32"}
    assert {skipped.name for batch in batches for skipped in batch.skipped} == {"broken.mp4", "gone.mp4"}


def test_the_real_clips(clips: Path):
    source = AnnotatedSource(load_table(clips / "test.json"), clips / "videos", "video", "clips")
    assert (len(source), source.num_ids) == (109, 109)
    pair = source.pair(0, np.random.default_rng(0))
    assert pair.path is not None
    assert pair.path.is_file()
    assert pair.caption == "a clip showing a computer screen which contains instructions"
