"""The synthetic benchmark: what the captions say is what the decoded videos show, and the split is honest."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import fields

import av
import numpy as np
import pytest

from vmr.data import shapes
from vmr.data.annotations import load_annotations
from vmr.data.shapes import Clip, ShapeEvent, caption, make_shapes, render_clip
from vmr.errors import VmrError

RED_LEFT = ShapeEvent("red", "circle", "left", "slowly")
RED_UP = ShapeEvent("red", "circle", "up", "quickly")
BLUE_UP = ShapeEvent("blue", "square", "up", "quickly")
ATTRIBUTES = [field.name for field in fields(ShapeEvent)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small data set and its meta.json."""
    folder = tmp_path_factory.mktemp("shapes") / "data"
    make_shapes(folder, num_clips=40, seed=3, test_fraction=0.5)
    return folder, json.loads((folder / "meta.json").read_text())


def clip_of(record):
    return Clip(ShapeEvent(**record["first"]), ShapeEvent(**record["second"]), record["at_once"])


def decode(file):
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])  # (T, H, W, 3)


def centroids(frames, color):
    """Mean (x, y) of the pixels near one palette colour, for each frame of (T, H, W, 3): (T, 2)."""
    near = abs(frames.astype(int) - shapes.COLORS[color]).max(axis=-1) < 50
    assert near.any(axis=(1, 2)).all()
    return np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in near])


def expected_velocity(event):
    """Velocity (x, y) in px per frame, y downwards, written out apart from the tables of the module."""
    direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[event.direction]
    return {"slowly": 1.5, "quickly": 4.0}[event.speed] * np.array(direction)


# Captions


def test_captions():
    assert caption(Clip(RED_LEFT, BLUE_UP, at_once=True)) == (
        "a red circle moves slowly left while a blue square moves quickly up"
    )
    assert caption(Clip(RED_LEFT, BLUE_UP, at_once=False)) == (
        "a red circle moves slowly left before a blue square moves quickly up"
    )
    assert caption(Clip(RED_LEFT, RED_UP, at_once=False)) == "a red circle moves slowly left, then quickly up"


def test_while_has_no_order_and_before_has_one():
    assert Clip(RED_LEFT, BLUE_UP, True).meaning == Clip(BLUE_UP, RED_LEFT, True).meaning
    assert Clip(RED_LEFT, BLUE_UP, False).meaning != Clip(BLUE_UP, RED_LEFT, False).meaning
    assert Clip(RED_LEFT, BLUE_UP, False).meaning != Clip(RED_LEFT, BLUE_UP, True).meaning


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShapeEvent("pink", "circle", "left", "slowly"), "unknown color 'pink': one of red, green"),
        (lambda: ShapeEvent("red", "circle", "left", "fast"), "unknown speed 'fast': one of slowly, quickly"),
        (lambda: Clip(RED_LEFT, RED_UP, at_once=True), "a red circle cannot make two movements at once"),
        (lambda: Clip(RED_LEFT, RED_LEFT, at_once=False), "not move left twice"),
        (lambda: Clip(RED_LEFT, ShapeEvent("red", "cross", "up", "slowly"), True), "must differ in colour"),
    ],
)
def test_impossible_clips_are_refused(make, message):
    with pytest.raises(VmrError, match=message):
        make()


# Pixels


def test_frames_are_decided_by_the_seed():
    clip = Clip(RED_LEFT, BLUE_UP, at_once=True)
    frames = render_clip(clip, seed=5)
    assert frames.shape == (16, 3, 96, 96)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, render_clip(clip, seed=5))
    assert not np.array_equal(frames, render_clip(clip, seed=6))


@pytest.mark.parametrize("at_once", [True, False])
def test_objects_stay_whole_inside_and_apart(at_once):
    ways = list(itertools.product(shapes.DIRECTIONS, shapes.SPEEDS))
    for number, (way, other_way) in enumerate(itertools.product(ways, ways)):
        clip = Clip(ShapeEvent("red", "square", *way), ShapeEvent("white", "square", *other_way), at_once)
        frames = render_clip(clip, seed=number).transpose(0, 2, 3, 1)
        for color in ("red", "white"):
            shown = (frames == shapes.COLORS[color]).all(axis=-1)  # (T, H, W)
            areas = shown.sum(axis=(1, 2))
            # A square of half side 8 to 11 px has 16 to 23 pixels a side. Cut off by the edge of the picture or
            # covered by the other object, it would not fill its box or would lose a row; half a pixel of motion may
            # add or drop one row and one column.
            for mask, area in zip(shown, areas, strict=True):
                ys, xs = np.nonzero(mask)
                assert area == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
            assert np.sqrt(areas).max() - np.sqrt(areas).min() <= 1
            assert 16 <= np.sqrt(areas).min() <= np.sqrt(areas).max() <= 23


def test_shapes_differ_at_64_px():
    masks = {}
    for shape in shapes.SHAPES:
        event, turn = ShapeEvent("red", shape, "left", "slowly"), ShapeEvent("red", shape, "up", "slowly")
        frame = render_clip(Clip(event, turn, at_once=False), seed=1)[0].transpose(1, 2, 0)
        small = frame[(np.arange(64) * 1.5).astype(int)][:, (np.arange(64) * 1.5).astype(int)]
        masks[shape] = (small == shapes.COLORS["red"]).all(axis=-1)
    for one, other in itertools.combinations(masks.values(), 2):
        assert (one & other).sum() / (one | other).sum() < 0.85


# The written files


def test_decoded_motion_is_what_the_caption_says(written):
    folder, meta = written
    turn, last = shapes.TURN, shapes.NUM_FRAMES - 1
    seen = set()
    for record in meta["train"] + meta["test"]:
        clip = clip_of(record)
        frames = decode(folder / record["video"])
        assert frames.shape == (16, 96, 96, 3)
        first, second = centroids(frames, clip.first.color), centroids(frames, clip.second.color)
        if clip.at_once:
            kind, spans = "at once", [(first, clip.first, 0, last), (second, clip.second, 0, last)]
        else:
            kind, spans = "in turn", [(first, clip.first, 0, turn), (second, clip.second, turn, last)]
        for path, event, start, stop in spans:
            velocity = (path[stop] - path[start]) / (stop - start)  # px per frame
            assert velocity == pytest.approx(expected_velocity(event), abs=0.3), record["caption"]
        if not clip.at_once and not clip.one_object:  # each object waits while the other moves
            assert first[last] == pytest.approx(first[turn], abs=0.5), record["caption"]
            assert second[turn] == pytest.approx(second[0], abs=0.5), record["caption"]
        seen.add((kind, clip.one_object))
    assert seen == {("at once", False), ("in turn", False), ("in turn", True)}


def test_captions_agree_with_the_attributes(written):
    folder, meta = written
    for split in ("train", "test"):
        rows = json.loads((folder / f"{split}.json").read_text())
        assert rows == [{"video": r["video"], "caption": caption(clip_of(r))} for r in meta[split]]
        loaded = load_annotations(folder / f"{split}.json", folder)
        assert len(loaded.videos) == len(rows) == meta[f"num_{split}"] == 20
        assert all(item.path for item in loaded.videos)
    assert len(list((folder / "videos").iterdir())) == 40


@pytest.mark.parametrize(("num_clips", "seed"), [(8, 0), (8, 1), (40, 0), (41, 7), (400, 2)])
def test_test_events_are_new_but_their_words_are_known(monkeypatch, tmp_path, num_clips, seed):
    monkeypatch.setattr(shapes, "_write_video", lambda file, frames: None)
    monkeypatch.setattr(shapes, "render_clip", lambda clip, seed: None)
    summary = make_shapes(tmp_path / "s", num_clips, seed)
    meta = json.loads((tmp_path / "s/meta.json").read_text())
    assert (summary.num_train, summary.num_test) == (len(meta["train"]), len(meta["test"]))
    assert summary.num_train + summary.num_test == num_clips
    train, test = ([clip_of(record) for record in meta[split]] for split in ("train", "test"))
    train_events, test_events = ({event for clip in s for event in (clip.first, clip.second)} for s in (train, test))
    assert not train_events & test_events
    for attribute, words in shapes.WORDS.items():
        assert {getattr(event, attribute) for event in train_events} == set(words)
    assert len({clip.meaning for clip in test}) == len(test)
    assert len({caption(clip) for clip in test}) == len(test)


def test_twins_differ_in_one_aspect(written):
    _, meta = written
    by_video = {record["video"]: record for record in meta["test"]}
    assert {record["twin_differs_in"] for record in meta["test"]} == set(shapes.ASPECTS)
    for record in meta["test"]:
        twin_record = by_video[record["twin"]]
        assert twin_record["twin"] == record["video"]
        clip, twin, aspect = clip_of(record), clip_of(twin_record), record["twin_differs_in"]
        assert (clip.at_once, clip.one_object) == (twin.at_once, twin.one_object)
        if aspect == "order":
            assert (clip.first, clip.second, clip.at_once) == (twin.second, twin.first, False)
        else:
            pairs = [(clip.first, twin.first), (clip.second, twin.second)]
            changed = {name for a, b in pairs for name in ATTRIBUTES if getattr(a, name) != getattr(b, name)}
            assert changed == {aspect}


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_shapes(tmp_path / name, num_clips=8, seed=seed)
    contents = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in "abc"
    }
    assert len(contents["a"]) == 8 + 3
    assert contents["a"] == contents["b"]
    assert contents["a"] != contents["c"]


def test_bytes_do_not_depend_on_what_memory_held_before(tmp_path):
    # glibc fills fresh memory with a pattern made from MALLOC_PERTURB_, so an encoder that reads memory it never set
    # shows itself in every run; other C libraries ignore the variable.
    program = "import sys; from vmr.data.shapes import make_shapes; make_shapes(sys.argv[1], num_clips=8)"
    for pattern in ("1", "165"):
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / pattern],
            env={**os.environ, "MALLOC_PERTURB_": pattern, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
    for video in (tmp_path / "1/videos").iterdir():
        assert video.read_bytes() == (tmp_path / "165/videos" / video.name).read_bytes()


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
    summary = make_shapes(tmp_path / "new", num_clips=8)
    assert summary == shapes.ShapesSummary(
        tmp_path / "new", tmp_path / "new/train.json", tmp_path / "new/test.json", num_train=6, num_test=2
    )
    assert summary.train_file.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_a_failed_run_leaves_nothing(tmp_path, monkeypatch, error):
    def fail_at_the_fourth(file, frames):
        if file.name == "00003.mp4":
            raise error
        file.write_bytes(b"x")

    monkeypatch.setattr(shapes, "_write_video", fail_at_the_fourth)
    with pytest.raises((KeyboardInterrupt, VmrError)):
        make_shapes(tmp_path / "s", num_clips=8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clips": 7}, "num_clips must be at least 8"),
        ({"test_fraction": 0.0}, "test_fraction must be between 0 and 1, got 0.0"),
        ({"num_clips": 10, "test_fraction": 0.9}, "leaves 2 training clips; 6 are needed"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        (
            {"num_clips": 5_000, "test_fraction": 0.99},
            r"cannot draw more than \d+ different test clips; lower num_clips",
        ),
    ],
)
def test_numbers_that_cannot_be_served(tmp_path, options, message):
    with pytest.raises(VmrError, match=message):
        make_shapes(tmp_path / "s", **options)
    assert list(tmp_path.iterdir()) == []
