"""Damaged videos in the commands: read as far as they can be, named, counted, and left out on request."""

import json

import pytest

from tests.integration.commands import refused, run_here
from tests.video_matrix import X264, Recipe, cut, write_video
from vmr.data.annotations.records import Record
from vmr.data.decoding.options import DecodeOptions
from vmr.data.doctor.captions import diagnose

MODEL = ("--encoder", "videomamba-nano-shapes")
DAMAGE = "read with damage: 1.4 of 2.4 s"  # 36 of 60 pictures: those in the first 6 of 10 parts of the bytes


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A whole video and one that was cut off, with a caption each."""
    folder = tmp_path_factory.mktemp("videos")
    whole = write_video(folder / "whole.mkv", Recipe(options=X264, gop=1, suffix=".mkv"))
    cut(whole, folder / "cut.mkv", stop=0.6)
    rows = [{"video": "whole.mkv", "caption": "a wave"}, {"video": "cut.mkv", "caption": "half a wave"}]
    (folder / "test.json").write_text(json.dumps(rows))
    return folder


def test_an_index_names_and_counts_them(videos, tmp_path):
    built = run_here("vmr-index", "build", videos, "--out", tmp_path / "index", *MODEL)
    assert built.returncode == 0, built.stderr
    assert f"noticed: {videos}/cut.mkv: {DAMAGE}\n" in built.stderr
    counts = "2 rows of 2 videos, 1 read with damage, 0 left out, 1 other file skipped: .json 1"
    assert built.stdout.splitlines()[-1] == f"{tmp_path}/index: {counts}"
    info = run_here("vmr-index", "info", tmp_path / "index")
    assert "read with damage │ 1" in info.stdout and DAMAGE in info.stderr


def test_an_index_leaves_them_out_on_request(videos, tmp_path):
    built = run_here("vmr-index", "build", videos, "--out", tmp_path / "index", *MODEL, "--strict", "--fail-on-skip")
    assert built.returncode == 3
    assert f"left out: {videos}/cut.mkv: {DAMAGE}\n" in built.stderr and "noticed" not in built.stderr
    assert "1 rows of 1 videos, 1 left out" in built.stdout


def test_a_report_names_and_counts_them(videos, tmp_path):
    score = ("vmr-eval", "--dataset", videos / "test.json", *MODEL, "--cache", tmp_path / "cache")
    for number in range(2):  # the second evaluation takes what it says from the cache
        report = tmp_path / f"{number}.json"
        scored = run_here(*score, "--out", report, "--markdown", tmp_path / "report.md")
        assert scored.returncode == 0, scored.stderr
        assert f"noticed: cut.mkv: {DAMAGE}\n" in scored.stderr
        assert json.loads(report.read_text())["remarks"] == [{"video": "cut.mkv", "kind": "damage", "text": DAMAGE}]
        assert "2 of 2 videos, 1 of them read with damage, 2 of 2 texts" in (tmp_path / "report.md").read_text()
    strict = run_here(*score, "--strict")
    assert "the score is over 1 of 2 videos (1 missing or unreadable), 1 of 2 texts" in refused(strict)
    assert f"left out: cut.mkv: {DAMAGE}" in strict.stderr


def test_a_report_over_an_index_names_and_counts_them(videos, tmp_path):
    build = ("vmr-index", "build", videos, "--out", tmp_path / "index", *MODEL, "--window", "null")
    assert run_here(*build).returncode == 0
    score = ("vmr-eval", "--dataset", videos / "test.json", *MODEL, "--index", tmp_path / "index", "--no-cache")
    scored = run_here(*score)
    assert scored.returncode == 0 and f"noticed: cut.mkv: {DAMAGE}\n" in scored.stderr
    assert "1 of 2 videos" in refused(run_here(*score, "--strict"))


def test_the_doctor_names_them(videos):
    records = [Record(name, name, ("a wave",)) for name in ("whole.mkv", "cut.mkv")]
    for strict, kind in ((False, "damaged"), (True, "unreadable")):
        decode = DecodeOptions(num_workers=1, strict=strict)
        found = diagnose(
            records, videos, lambda captions: [len(each) for each in captions], max_tokens=9, decode=decode
        )
        assert [(finding.kind, finding.name, finding.detail) for finding in found.findings] == [
            (kind, "cut.mkv", DAMAGE)
        ]
