"""The scripts in `examples/`, each as a user starts it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLES = REPOSITORY / "examples"


def run(name: str, *arguments: object, cwd: Path) -> str:
    """Run a script outside of the repository; returns what it prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_search(tmp_path):
    said = run("search.py", cwd=tmp_path)
    assert "40 windows of 40 videos, 0 left out" in said
    assert "pairs-0000.mp4" in said.splitlines()[1]  # the sentence is the caption of that clip


def test_search_of_your_own_videos(footage, tmp_path):
    said = run("search.py", footage, "a man in a suit and a bow tie in a car", cwd=tmp_path)
    assert "carphone_pristine.mp4" in said.splitlines()[1]


def test_evaluate_your_model(tmp_path):
    said = run("evaluate_your_model.py", cwd=tmp_path)
    one, both = map(float, re.search(r"text_to_video/R@1: ([\d.]+) by one frame, ([\d.]+) by all", said).groups())
    assert both > 80 > 60 > one  # motion decides most of these clips


def test_custom_encoder(tmp_path):
    said = run("custom_encoder.py", cwd=tmp_path)
    recall = float(re.search(r"text_to_video/R@10 ([\d.]+)", said)[1])
    assert recall > 60  # chance is 10 of 60 clips: 16.7


def test_finetune(tmp_path):
    said = run("finetune.py", tmp_path / "run", cwd=tmp_path)
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps if "loss" in step] == [1, 2, 3, 4]
    assert said.splitlines()[-1].endswith("run/model (1, 128)")
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda script: script.name)
def test_examples_are_short_and_tested(script):
    assert len(script.read_text().splitlines()) < 50
    assert f'"{script.name}"' in Path(__file__).read_text()
