"""The doctor on sets with labels, and `vmr-data check-labels`."""

import json
import shutil

import pytest

from tests.video_matrix import RECIPES, Recipe, cut, write_video
from vmr.cli import data
from vmr.data.decoding.options import DecodeOptions
from vmr.data.doctor.findings import LABEL_PROBLEMS
from vmr.data.doctor.labels import diagnose_labels
from vmr.data.labels.read import read_labels

FEW = {"preset": "ultrafast", "bf": "0"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of 9 frames that differ, one of 5, one that is cut off, one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "one.mp4", Recipe(num_frames=9, options=FEW))
    write_video(folder / "two.mp4", Recipe(num_frames=9, options=FEW, stored=lambda picture: 255 - picture))
    write_video(folder / "short.mp4", Recipe(num_frames=5, options=FEW))
    cut(write_video(folder / "whole.mp4", RECIPES["h264_gop12"]), folder / "cut.mp4", stop=0.5)
    (folder / "text.mp4").write_text("no video" * 100)
    return folder


def tree(videos, folder, **classes):
    """A folder with a subfolder for each class: its files are copies, as `name=source`."""
    for word, names in classes.items():
        (folder / word).mkdir(parents=True)
        for name in names:
            copy, _, source = name.partition("=")
            shutil.copy(videos / f"{source or copy}.mp4", folder / word / f"{copy}.mp4")
    return folder


def found(labels, **more):
    diagnosis = diagnose_labels(labels, decode=DecodeOptions(num_workers=2), **more)
    return diagnosis, {kind: [one.name for one in diagnosis.of(kind)] for kind in LABEL_PROBLEMS if diagnosis.of(kind)}


def test_a_healthy_tree(videos, tmp_path):
    diagnosis, names = found(read_labels(tree(videos, tmp_path / "set", run=["one"], walk=["two"])))
    assert (names, diagnosis.spoiled_by) == ({}, [])
    assert diagnosis.counts == {"clips": 2, "classes": 2, "files": 2}


def test_files_and_classes(videos, tmp_path):
    rows = ["one.mp4,0", "short.mp4,0", "text.mp4,2", "cut.mp4,2", "gone.mp4,4"]
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    diagnosis, names = found(read_labels(tmp_path / "train.csv", video_dir=videos))
    assert names == {
        "missing": ["gone.mp4"],
        "unreadable": ["text.mp4", "cut.mp4"],
        "too_short": ["short.mp4"],
        "no_clip": ["1", "3", "4"],  # the clip of class 4 is missing
    }
    assert diagnosis.counts == {"clips": 4, "classes": 5, "files": 5}
    assert diagnosis.spoiled_by == ["missing or unreadable: 3 of 5 files"]  # more than a quarter
    assert diagnosis.of("too_short")[0].detail == "5 of 8 frames"


def test_copies_with_the_same_and_with_another_label(videos, tmp_path):
    folder = tree(videos, tmp_path / "set", run=["a=one", "b=one"], walk=["c=one", "d=two"])
    diagnosis, names = found(read_labels(folder))
    assert names == {"same_content": ["run/b.mp4"], "other_label": ["walk/c.mp4"]}
    assert diagnosis.of("other_label")[0].detail == "walk, but run/a.mp4 is run"
    assert diagnosis.spoiled_by == []  # published sets hold some


def test_several_labels_and_numbers(videos, tmp_path):
    (tmp_path / "multi.csv").write_text("video,label\na.mp4,dog;cat\nb.mp4,dog\n")
    (tmp_path / "numbers.csv").write_text("a.mp4,0.5\nb.mp4,0.75\n")
    for name in "ab":
        shutil.copy(videos / "one.mp4", tmp_path / f"{name}.mp4")
    diagnosis, names = found(read_labels(tmp_path / "multi.csv"))
    assert diagnosis.counts == {"clips": 2, "classes": 2, "files": 2}
    assert diagnosis.of("other_label")[0].detail == "dog, but a.mp4 is cat;dog"
    diagnosis, names = found(read_labels(tmp_path / "numbers.csv", target="regression"))
    assert names == {"other_label": ["b.mp4"]} and diagnosis.counts == {"clips": 2, "files": 2}
    assert diagnosis.of("other_label")[0].detail == "0.75, but a.mp4 is 0.5"


def test_the_test_set(videos, tmp_path):
    train = read_labels(tree(videos, tmp_path / "train", run=["a=one", "b=two"], walk=["c=short"]))
    # a name that both have says nothing; a copy under another name is the same video; jump is not learnt
    test = read_labels(tree(videos, tmp_path / "test", run=["a=short"], jump=["x=two"]))
    diagnosis, names = found(train, num_frames=5, test=test)
    assert names == {"test_content": ["run/b.mp4", "walk/c.mp4"], "test_class": ["jump"]}
    assert diagnosis.of("test_content")[1].detail == "in the test set as run/a.mp4"
    assert diagnosis.spoiled_by == ["a video of the test set, by its bytes: 2"]
    _, names = found(train, num_frames=5, test=train)
    assert names == {"test_id": ["run/a.mp4", "run/b.mp4", "walk/c.mp4"]}  # one file, said once


def test_test_classes_by_number(videos, tmp_path):
    (tmp_path / "train.csv").write_text("one.mp4,0\ntwo.mp4,1\n")
    (tmp_path / "test.csv").write_text("short.mp4,2\ngone.mp4,1\n")
    train, test = (read_labels(tmp_path / name, video_dir=videos) for name in ("train.csv", "test.csv"))
    _, names = found(train, test=test)
    assert names == {"test_missing": ["gone.mp4"], "test_class": ["2"]}


def test_folders_of_frames(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow to make pictures")
    from PIL import Image

    for word, num_frames, gap in (("run", 9, None), ("walk", 5, None), ("jump", 9, 3)):
        folder = tmp_path / word / "clip"
        folder.mkdir(parents=True)
        for number in range(1, num_frames + 1):
            if number != gap:
                Image.new("RGB", (32, 32), (0, 0, 9)).save(folder / f"img_{number:05}.jpg")
    diagnosis, names = found(read_labels(tmp_path))
    assert names == {"unreadable": ["jump/clip"], "too_short": ["walk/clip"]}
    assert diagnosis.of("too_short")[0].detail == "5 of 8 frames"


# The command


def check(*arguments):
    data.main(["check-labels", *map(str, arguments)])


def test_the_command(videos, tmp_path, capsys):
    folder = tree(videos, tmp_path / "set/train", run=["one", "b=one"], walk=["two", "d=short"])
    report = tmp_path / "report.json"
    check(tmp_path / "set", "--split", "train", "--report", report)
    out = capsys.readouterr().out
    assert f"{tmp_path / 'set'}: 4 clips, 2 classes, 4 files" in out
    assert "fewer frames than training takes" in out and "the same bytes as another file" in out
    content = json.loads(report.read_text())
    assert (content["num_clips"], content["num_classes"], content["spoiled_by"]) == (4, 2, [])
    assert set(content["problems"]) == set(LABEL_PROBLEMS)
    assert content["problems"]["same_content"]["found"] == [
        {"name": "run/one.mp4", "detail": "the same bytes as run/b.mp4"}
    ]
    check(folder, "--num-frames", 5, "--test", tree(videos, tmp_path / "new", run=["x=whole"]))
    assert "fewer frames" not in capsys.readouterr().out


def test_the_command_refuses_a_spoilt_set(videos, tmp_path, capsys):
    tree(videos, tmp_path / "set/train", run=["one"], walk=["two"])
    tree(videos, tmp_path / "set/val", run=["leaked=two"])
    with pytest.raises(SystemExit) as ended:
        check(tmp_path / "set", "--split", "train", "--test", tmp_path / "set", "--test-split", "val")
    assert ended.value.code == 2
    why = "a video of the test set, by its bytes: 1"
    assert capsys.readouterr().err == f"error: {tmp_path / 'set'} is not fit to train on: {why}\n"


def test_the_command_says_what_is_wrong_first(videos, tmp_path, capsys):
    folder = tree(videos, tmp_path / "set", run=["one"])
    (tmp_path / "train.csv").write_text("set/run/one.mp4;0\n")
    for arguments, message in {
        (tmp_path / "nowhere",): "nowhere: no such file or folder",
        (folder, "--format", "jsn"): "no format of labels 'jsn'",
        (folder, "--test-split", "val"): "--test-split needs --test: give both, or leave it out",
        (folder, "--report", folder): "is a folder: name a file",
        (folder, "--target", "several"): "--target",
        (tmp_path / "train.csv",): "train.csv: line 1",
    }.items():
        with pytest.raises(SystemExit) as ended:
            check(*arguments)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
