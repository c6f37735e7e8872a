"""A re-ranked evaluation that is killed, and the same command again."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.integration.commands import BIN, run_here
from tests.models import PREPROCESS, tiny_model
from vmr.data.shapes.files import make_shapes
from vmr.models.saved_model import save_model
from vmr.models.text.tokenizer import CaptionTokenizer

NUM_VIDEOS = 60
TIMES = ("command", "date")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("eval")
    make_shapes(folder / "shapes", ("pairs",), NUM_VIDEOS, 0, "test")
    save_model(folder / "model", tiny_model(), PREPROCESS, CaptionTokenizer())
    dataset = ["--dataset", str(folder / "shapes" / "test.json"), "--encoder", str(folder / "model")]
    return ["vmr-eval", *dataset, "--rerank", "40", "--num-workers", "1"]


def num_matched(cache: Path) -> int:
    for log in cache.glob("rerank/*/rerank.sqlite"):
        try:
            with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as database:
                return int(database.execute("SELECT count(*) FROM logits").fetchone()[0])
        except sqlite3.OperationalError:  # it is being made
            return 0
    return 0


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in new processes: sums of several threads are rounded in another way."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finish(command: list[str], *options: object) -> dict:
    result = run_here(*command, *options)
    assert result.returncode == 0, result.stderr
    report = json.loads(Path(options[options.index("--out") + 1]).read_text())
    return {name: value for name, value in report.items() if name not in TIMES}


def test_a_killed_evaluation_goes_on_to_the_same_report(command, tmp_path):
    straight = finish(command, "--cache", tmp_path / "one", "--out", tmp_path / "one.json")
    cache, out = tmp_path / "two", tmp_path / "two.json"
    process = subprocess.Popen(
        [BIN / command[0], *command[1:], "--cache", cache, "--out", out], stderr=subprocess.DEVNULL
    )
    while num_matched(cache) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= num_matched(cache) < NUM_VIDEOS and not out.exists()
    assert finish(command, "--cache", cache, "--out", out) == straight
    assert finish(command, "--no-cache", "--out", tmp_path / "three.json") == straight


def test_estimate_says_what_it_takes_and_stops(command, tmp_path):
    options = ["--estimate", "--memory", "8GiB", "--out", tmp_path / "report.json"]
    result = run_here(*command, *options)
    assert result.returncode == 0, result.stderr
    # 60 texts and 60 videos of 40 candidates each: 4800 asked for, of 3600 that there are
    assert "3,600" in result.stdout and not (tmp_path / "report.json").exists()
    # 60 videos of 8 tokens of 32 float32, rounded up; fewer where some repeat
    assert "1 MiB for the videos' tokens" in result.stdout and "at most 1 MiB" not in result.stdout
    assert "at most 1 MiB for the videos' tokens" in run_here(*command, *options, "--skip", "0.1").stdout
    too_little = run_here(*command, "--estimate", "--memory", "1MiB")
    assert too_little.returncode == 2 and "does not fit into 1 MiB" in too_little.stderr
