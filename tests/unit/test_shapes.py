"""The synthetic benchmark as files: no pixel is lost, no incomplete data set is left, and test parts load by name."""

import json
import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from vmr.cli.data import Part
from vmr.data.annotations.retrieval_set import SHAPES, load_annotations, load_retrieval_set
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.data.shapes import files as shapes
from vmr.data.shapes.drawing import render
from vmr.data.shapes.files import ShapesSummary, make_shapes
from vmr.data.shapes.split import PARTS, held_out_scenes, held_out_seed
from vmr.data.sources.shapes import ShapesSource
from vmr.errors import AnnotationError, VmrError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Six clips to train on and six of each part to test on."""
    folder = tmp_path_factory.mktemp("shapes") / "data"
    assert make_shapes(folder, PARTS, num_clips=6, seed=3) == ShapesSummary(folder, 6, 30)
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The written files


def test_no_pixel_is_lost(written):
    source = ShapesSource(("pairs", "order", "passage", "collision"), num_clips=6, seed=3)
    drawn = {f"train/{index:05}.mp4": source.pair(index, np.random.default_rng(0)).make(8, 64) for index in range(6)}
    for part in PARTS:
        for number, scene in enumerate(held_out_scenes(part)[:6]):
            drawn[f"test/{part}-{number:04}.mp4"] = render(scene, held_out_seed(part, number))
    assert {str(path.relative_to(written)) for path in written.rglob("*.mp4")} == set(drawn)
    for name, frames in drawn.items():
        with VideoReader(written / name) as video:
            assert (video.num_frames, video.fps) == (8, 8.0)
            assert np.array_equal(video.frames_at(range(8)), frames)
        (segment,) = read_segments(written / name, FrameSpec(num_frames=8, size=64))
        assert np.array_equal(segment.video, frames)


def test_annotations_name_every_clip(written):
    for split, num_clips in (("train", 6), ("test", 30)):
        loaded = load_annotations(written / f"{split}.json", written)
        assert len(loaded.texts) == len(loaded.videos) == num_clips
        assert all(item.path for item in loaded.videos)
    rows = json.loads((written / "test.json").read_text())
    assert [row["part"] for row in rows] == [part for part in PARTS for _ in range(6)]
    assert [row["caption"] for row in rows[6:12]] == [scene.captions[0] for scene in held_out_scenes("order")[:6]]
    source = ShapesSource(("pairs", "order", "passage", "collision"), num_clips=6, seed=3)
    for index, row in enumerate(json.loads((written / "train.json").read_text())):
        assert row["video"] == f"train/{index:05}.mp4" and row["part"] == source.part(index)
        assert row["caption"] in source.scene(index).captions
    meta = json.loads((written / "meta.json").read_text())
    assert (meta["version"], meta["seed"], meta["num_train"], meta["num_test"]) == (2, 3, 6, 30)


def test_one_split_alone(tmp_path):
    assert make_shapes(tmp_path / "a", num_clips=2, split="train") == ShapesSummary(tmp_path / "a", 2, 0)
    assert make_shapes(tmp_path / "b", ("twins",), num_clips=2, split="test") == ShapesSummary(tmp_path / "b", 0, 2)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"train", "train.json", "meta.json"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"test", "test.json", "meta.json"}


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_shapes(tmp_path / name, num_clips=4, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert len(first) == 4 + 4 + 3
    assert first == again
    # Another seed makes other training clips; the test clips are always the same.
    assert {str(path.parent) for path in first if first[path] != other[path]} == {"train", "."}
    assert first.keys() == other.keys()


def test_bytes_do_not_depend_on_what_memory_held_before(tmp_path):
    # glibc fills fresh memory with a pattern made from MALLOC_PERTURB_, so an encoder that reads memory it never set
    # shows itself in every run; other C libraries ignore the variable.
    program = "import sys; from vmr.data.shapes.files import make_shapes; make_shapes(sys.argv[1], num_clips=8)"
    for pattern in ("1", "165"):
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / pattern],
            env={**os.environ, "MALLOC_PERTURB_": pattern, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
    assert contents(tmp_path / "1") == contents(tmp_path / "165")


# Writing safely


def test_a_folder_with_files_is_refused_untouched(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(VmrError, match="not empty; name a new folder"):
        make_shapes(tmp_path, num_clips=8)
    with pytest.raises(VmrError, match=r"keep\.txt: is a file"):
        make_shapes(tmp_path / "keep.txt", num_clips=8)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "new").mkdir()
    make_shapes(tmp_path / "new", num_clips=2)
    assert (tmp_path / "new/test.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_run_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    clips = iter([b"1", b"2", b"3"])

    def stop_at_the_fourth(frames):
        try:
            return next(clips)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(shapes, "_encode", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "s", num_clips=8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("pairs", "colour")}, "shapes has no part 'colour': one of pairs, order, passage, collision, twins"),
        ({"parts": ()}, "needs different training parts, got none"),
        ({"num_clips": 0}, "num_clips of 1 or more"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_what_cannot_be_made(tmp_path, options, message):
    with pytest.raises(VmrError, match=message):
        make_shapes(tmp_path / "s", **options)
    assert list(tmp_path.iterdir()) == []


# Test parts by name


def test_a_test_part_is_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path))
    loaded = load_retrieval_set("shapes:order")
    assert loaded.name == "shapes:order"
    assert loaded.texts == tuple(scene.captions[0] for scene in held_out_scenes("order"))
    assert loaded.video_of_text == tuple(range(300))
    assert loaded.videos[299].path == tmp_path / "shapes-v2/order/test/order-0299.mp4"
    before = loaded.videos[0].path.stat().st_mtime_ns
    assert load_retrieval_set("shapes:order") == loaded
    assert loaded.videos[0].path.stat().st_mtime_ns == before

    loaded.videos[7].path.write_bytes(b"")  # as after a full disk
    assert load_retrieval_set("shapes:order") == loaded
    with VideoReader(loaded.videos[7].path) as video:
        assert np.array_equal(video.frames_at(range(8)), render(held_out_scenes("order")[7], held_out_seed("order", 7)))


def test_a_cache_that_another_process_filled_meanwhile_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path))
    real = shapes.make_shapes

    def other_was_faster(folder, *arguments, **options):
        real(folder, *arguments, **options)
        return real(folder, *arguments, **options)  # refused: the folder is not empty

    monkeypatch.setattr(shapes, "make_shapes", other_was_faster)
    monkeypatch.setattr(shapes, "_encode", lambda frames: b"x")
    assert shapes.shapes_test_folder("collision") == tmp_path / "shapes-v2/collision"


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "file"))
    message = r"file/shapes-v2/pairs: cannot be written: .*; set VMR_CACHE to a folder that can be written"
    with pytest.raises(VmrError, match=message) as caught:
        load_retrieval_set("shapes")
    assert "\n" not in str(caught.value)


def test_names_of_test_parts():
    assert dict(zip(SHAPES, PARTS, strict=True)) == SHAPES
    assert list(SHAPES) == ["shapes", "shapes:order", "shapes:passage", "shapes:collision", "shapes:twins"]
    assert get_args(Part) == (*PARTS, "all")
    with pytest.raises(AnnotationError, match="unknown data set 'shapes:ordre': did you mean 'shapes:order'"):
        load_retrieval_set("shapes:ordre")
    for option in ("video_dir", "data_dir"):
        with pytest.raises(AnnotationError, match="'shapes' renders its own videos: give neither"):
            load_retrieval_set("shapes", **{option: "videos"})
