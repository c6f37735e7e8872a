"""The real commands on real files, most of them in a process of their own, as a user starts them."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.commands import COMMANDS, refused, run, run_here
from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def index(footage, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    result = run("vmr-index", "build", footage, "--out", folder, "--window", 4, "--stride", 2)
    assert result.returncode == 0, result.stderr
    assert "3 videos, 0 left out" in result.stdout
    return folder


def test_search_prints_a_table(index):
    result = run("vmr-search", index, "a cyclist with a helmet", "--k", 2)
    assert result.returncode == 0, result.stderr
    assert "bikes.mp4" in result.stdout
    assert re.search(r"^1  0:00:\d\d(\.\d)? - 0:00:\d\d", result.stdout, re.MULTILINE)


def test_search_prints_json(index):
    result = run("vmr-search", index, "a cyclist with a helmet", "--json", "--k", 3)
    found = json.loads(result.stdout)
    assert found["query"] == "a cyclist with a helmet" and found["nothing_close"] is False and found["took_ms"] > 0
    assert len(found["hits"]) == 3 and found["hits"][0]["video"].endswith("bikes.mp4")


def test_names_are_printed_as_they_are(footage, tmp_path):
    for name in (b"bad\xff.mp4", b":dog: [red] \x1b[31m.mp4"):
        (tmp_path / os.fsdecode(name)).write_bytes((footage / "carphone_pristine.mp4").read_bytes())
    (tmp_path / "line\nbreak.mp4").write_bytes(b"")
    built = run("vmr-index", "build", tmp_path, "--out", tmp_path / "index", "--window", "null")
    assert built.returncode == 0, built.stderr
    assert f"left out: {tmp_path}/line\\nbreak.mp4: is empty (0 bytes)" in built.stderr
    found = run("vmr-search", tmp_path / "index", "a man :dog: [red]", "--keep-duplicates")
    assert "a man :dog: [red]" in found.stdout
    assert "bad\\udcff.mp4" in found.stdout and ":dog: [red] \\x1b[31m.mp4" in found.stdout


def test_info(index, footage):
    result = run_here("vmr-index", "info", index)
    assert result.returncode == 0, result.stderr
    for fact in ("offline", "384", "4 s every 2 s, 8 frames, read by pyav", footage.name):
        assert fact in result.stdout


def test_info_on_the_machine():
    for disabled, said in (("0", "backend cpu"), ("1", "switched off by VMR_DISABLE_CPU_KERNEL=1")):
        result = run("vmr-info", VMR_DISABLE_CPU_KERNEL=disabled)
        assert result.returncode == 0, result.stderr
        assert said in result.stdout and "backend reference" in result.stdout


def test_eval_of_an_annotation_file(annotations, footage, tmp_path):
    out = tmp_path / "report.json"
    result = run("vmr-eval", "--dataset", annotations, "--video-dir", footage, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "over 3 of 3 videos, 4 of 4 texts" in result.stdout
    assert "a baseline" in result.stdout
    report = json.loads(out.read_text())
    assert report["scores"]["embedding"]["text_to_video/R@1"] == 100.0
    assert report["command"].startswith("vmr-eval --dataset")


def test_eval_with_missing_videos(footage, tmp_path):
    rows = [{"video": "bikes.mp4", "caption": "a cyclist"}, {"video": "gone.mp4", "caption": "nothing"}]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    command = ["vmr-eval", "--dataset", tmp_path / "test.json", "--video-dir", footage]
    strict = run(*command)
    assert "left out: gone.mp4: no such file" in strict.stderr
    assert "1 of 2 videos (1 missing or unreadable), 1 of 2 texts" in refused(strict)
    lenient = run_here(*command, "--allow-missing")
    assert lenient.returncode == 0
    assert "over 1 of 2 videos" in lenient.stdout


def test_shapes_are_made_and_scored(tmp_path):
    made = run("vmr-data", "make", "shapes", tmp_path / "shapes", "--part", "order", "--n", 12)
    assert made.returncode == 0, made.stderr
    assert "12 clips to train on" in made.stdout and "12 clips to test on" in made.stdout
    scored = run_here("vmr-eval", "--dataset", tmp_path / "shapes" / "test.json", "--video-dir", tmp_path / "shapes")
    assert scored.returncode == 0, scored.stderr
    assert "rsum" in scored.stdout


def test_demo(footage, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.mp4").write_bytes((footage / "bikes.mp4").read_bytes())
    (own / "broken.mp4").write_bytes(b"nothing")
    result = run("vmr-demo", "--videos", own, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "+1 copy" in result.stdout and "broken.mp4" in result.stderr
    assert (tmp_path / "demo" / "search.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "demo" / "report.json").read_text())["num_videos"] == 3
    motion = json.loads((tmp_path / "demo" / "motion.json").read_text())
    recalls = {kind: scores["text_to_video/R@1"] for kind, scores in motion["scores"].items()}
    assert motion["num_videos"] == 100
    assert min(recalls["embedding"], recalls["vtm"]) > 80 > 2 * recalls["static"]
    assert run_here("vmr-search", tmp_path / "demo" / "index", "a rabbit").returncode == 0
    program, folder = result.stdout.splitlines()[-1].partition(": ")[2].split()
    assert Path(program).name == "vmr-serve" and shutil.which(program) is not None
    assert (tmp_path / folder / "index.db").exists()


def test_real_clips(clips, tmp_path):
    """The baseline on real captioned clips; chance is R@1 0.9, R@10 9.2."""
    out = tmp_path / "report.json"
    result = run("vmr-eval", "--dataset", clips / "test.json", "--video-dir", clips / "videos", "--out", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert report["num_videos"] == 109
    assert report["scores"]["embedding"]["text_to_video/R@1"] >= 33
    assert report["scores"]["embedding"]["text_to_video/R@10"] >= 77


def test_wrong_inputs_get_one_line(index, annotations, footage, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / "vectors-1.faiss").write_bytes(b"IxFI")
    (tmp_path / "lacking.json").write_text(json.dumps([{"video": "bikes.mp4"}]))
    cases = [
        (["vmr-index", "build", tmp_path / "nowhere", "--out", tmp_path / "x"], "nowhere: no such folder"),
        (["vmr-index", "build", empty, "--out", tmp_path / "x"], "no video"),
        (["vmr-index", "build", footage, "--out", index], "--overwrite"),
        (["vmr-index", "build", footage, "--out", tmp_path / "x", "--windows", 4], "--windows"),
        (["vmr-index", "build", footage, "--out", tmp_path / "x", "--window", 0], "window"),
        (["vmr-index", "build", footage, "--out", tmp_path / "x", "--reader", "vlc"], "vlc"),
        (["vmr-index", "info", half], "not a finished index"),
        (["vmr-search", half, "a dog"], "not a finished index"),
        (["vmr-search", tmp_path / "nowhere", "a dog"], "no such index"),
        (["vmr-search", index, " "], "query is empty"),
        (["vmr-search", index, "a dog", "--encoder", "ofline"], "did you mean 'offline'"),
        (["vmr-eval", "--dataset", tmp_path / "lacking.json", "--video-dir", footage], "caption"),
        (["vmr-eval", "--dataset", tmp_path / "gone.json", "--video-dir", footage], "gone.json"),
        (["vmr-eval", "--dataset", annotations, "--video-dir", tmp_path / "nowhere"], "nowhere"),
        (["vmr-eval", "--dataset", "msrvt", "--data-dir", tmp_path], "did you mean 'msrvtt'"),
        (["vmr-eval", "--dataset", "MSRVT", "--data-dir", tmp_path], "did you mean 'msrvtt'"),
        (["vmr-eval", "--dataset", "msrvtt", "--data-dir", empty], str(empty)),
        (["vmr-eval", "--dataset", "msrvtt", "--video-dir", empty], "needs --data-dir alone"),
        (["vmr-eval", "--dataset", annotations, "--data-dir", footage], "by --video-dir, not --data-dir"),
        (["vmr-eval", "--dataset", annotations, "--out", empty], "is a folder"),
        (
            ["vmr-index", "build", footage, "--out", tmp_path / "x", "--window", "inf"],
            "--window must be positive and finite",
        ),
        (["vmr-index", "build", footage, "--out", "/proc/x"], "/proc/x"),
        (["vmr-eval", "--dataset", "shapes:order", "--data-dir", empty], "'shapes:order' renders its own videos"),
        (["vmr-data", "make", "shapes", footage], str(footage)),
        (["vmr-data", "make", "shapes", tmp_path / "x", "--part", "colours"], "colours"),
    ]
    for arguments, said in cases:
        assert said in refused(run_here(*arguments)), arguments


def test_an_index_of_another_encoder_is_refused(index, tmp_path):
    copy = shutil.copytree(index, tmp_path / "index")
    with contextlib.closing(sqlite3.connect(copy / "index.db")) as database, database:
        database.execute("UPDATE spaces SET fingerprint = '0123456789abcdef'")  # as if the weights had changed
    assert "made by offline (0123456789abcdef), not by offline" in refused(run_here("vmr-search", copy, "a dog"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command):
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"example: {command}" in result.stdout.strip().splitlines()[-1]


def test_a_script_without_a_main_guard_runs_once(footage, tmp_path):
    """Ten lines at module level, beside a file named like a library: decoding must not start the script again."""
    (tmp_path / "eval.py").write_text("raise SystemExit('the wrong eval was imported')")
    (tmp_path / "search.py").write_text(
        "import vmr\n"
        "print('started')\n"
        f"index = vmr.build_index({str(footage)!r}, 'index')\n"
        "for hit in index.search('a cyclist', k=1):\n"
        "    print(hit.video)\n"
    )
    result = subprocess.run(
        [sys.executable, "search.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert result.returncode == 0, result.stderr
    started, video = result.stdout.split()
    assert started == "started" and video.endswith("bikes.mp4")
