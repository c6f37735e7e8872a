"""`vmr-data list` and `vmr-data check NAME`: their output for incomplete data sets."""

import json
import subprocess
import sys

import pytest
from jsonargparse import Namespace

from vmr.cli.common import call_command
from vmr.cli.data_protocols import check_protocol, list_protocols
from vmr.eval.protocols.catalogue import PROTOCOLS


def check(capsys, name, data_dir, report=None):
    """(exit status, standard output, standard error)"""
    status = 0
    try:
        call_command(check_protocol, Namespace(name=name, data_dir=str(data_dir), report=report))
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def test_the_list_names_every_protocol(capsys):
    list_protocols()
    out = capsys.readouterr().out
    for name, known in PROTOCOLS.items():
        (line,) = [line for line in out.splitlines() if f" {name} " in line]
        assert known.title in line
        assert f"v{known.version} {known.hash}" in line
    assert "shapes:twins" in out


def test_exactly_what_is_missing_is_said(clips, tmp_path, capsys):
    (tmp_path / "anything").symlink_to(clips / "annotations/msrvtt")
    ids = {f"video{n}" for n in range(7010, 10000)}
    there = ["video9770", "video9771", "video7020"]  # the first three of the test split
    for name in there:
        (tmp_path / f"{name}.mp4").touch()
    status, out, err = check(capsys, "msrvtt", tmp_path, str(tmp_path / "report.json"))
    missing = [line.removeprefix("missing: ") for line in out.splitlines() if line.startswith("missing: ")]
    assert status == 2
    assert len(missing) == len(set(missing)) == 997
    assert not set(missing) & set(there)
    assert set(missing) < ids
    assert "3 of 1000" in out
    assert "(as published)" in out
    assert err.startswith(f"error: {tmp_path}: 997 of 1000 videos of MSRVTT 1k-A are missing, first: video9773; ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["missing"] == missing
    assert report["present"] == there
    assert (report["num_videos"], report["num_texts"], report["complete"]) == (1000, 1000, False)
    assert report["hash"] == PROTOCOLS["msrvtt"].hash


def test_a_complete_data_set_is_said_to_be(clips, tmp_path, capsys):
    (tmp_path / "annotations").symlink_to(clips / "annotations/msvd")
    (tmp_path / "YouTubeClips").mkdir()
    for name in (clips / "annotations/msvd/test_list.txt").read_text().split():
        (tmp_path / "YouTubeClips" / f"{name}.avi").touch()
    status, out, err = check(capsys, "msvd", tmp_path)
    assert (status, err) == (0, "")
    assert "missing: " not in out
    assert "670 of 670" in out


def test_captions_that_are_not_the_published_ones(clips, tmp_path, capsys):
    real = (clips / "annotations/msrvtt/MSRVTT_JSFUSION_test.csv").read_text()
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(real.replace("a little girl does gymnastics", "a girl"))
    status, out, err = check(capsys, "msrvtt", tmp_path)
    assert status == 2
    assert "(not as published)" in out
    assert f"{tmp_path}/MSRVTT_JSFUSION_test.csv: as many captions as MSRVTT 1k-A has, but not the same ones" in err
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(real[: real.index("ret999,")])
    status, out, err = check(capsys, "msrvtt", tmp_path)
    assert status == 2
    assert "999 captions of 999 videos, but MSRVTT 1k-A has 1000 captions of 1000 videos" in err


def test_nothing_there(tmp_path, capsys):
    status, out, err = check(capsys, "lsmdc", tmp_path)
    assert status == 2
    assert "not found" in out
    assert "none of LSMDC16_challenge_1000_publictect.csv, lsmdc_ret_test_1000.json within 3 folder levels" in err
    assert "by request" in err
    (tmp_path / "LSMDC16_challenge_1000_publictect.csv").write_text("a clip\n")
    status, out, err = check(capsys, "lsmdc", tmp_path)
    assert status == 2
    assert "line 1 is not LSMDC's" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [("msrvt", "did you mean 'msrvtt'?"), ("shapes", "rendered on first use: there is nothing to check")],
)
def test_names_that_cannot_be_checked(tmp_path, capsys, name, message):
    status, _, err = check(capsys, name, tmp_path)
    assert status == 2
    assert message in err


def test_protocols_need_no_torch():
    modules = "vmr.eval.protocols.load, vmr.eval.protocols.check, vmr.cli.data_protocols"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"], check=True)


def test_a_data_set_with_classes_is_checked_too(tmp_path, capsys):
    (tmp_path / "val.csv").write_text("a.mp4,0\nb.mp4,399\n")
    (tmp_path / "a.mp4").touch()
    status, out, err = check(capsys, "k400", tmp_path, str(tmp_path / "report.json"))
    assert status == 2 and "missing: b.mp4" in out and "1 of 2" in out and "400 (400 published)" in out
    assert err.startswith(f"error: {tmp_path}: 1 of 2 videos are missing, first: b.mp4; lists and videos: ")
    assert json.loads((tmp_path / "report.json").read_text())["missing"] == ["b.mp4"]
    (tmp_path / "b.mp4").touch()
    assert check(capsys, "k400", tmp_path)[0] == 0
    (tmp_path / "val.csv").write_text("a.mp4 0\nb.mp4,399\n")
    status, _, err = check(capsys, "k400", tmp_path)
    assert status == 2 and "is parted by a space, but line 2 by a comma" in err
