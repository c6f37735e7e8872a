"""Which packages the commands import: wrong input is reported before torch, and a search loads the text side alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

HEAVY = ("torch", "torch._dynamo", "transformers", "timm", "av", "faiss", "fastapi", "uvicorn")

SCRIPT = """
import json, sys
from importlib import import_module
status = 0
try:
    import_module(f"vmr.cli.{sys.argv[1]}").main(sys.argv[3:])
except SystemExit as error:
    status = error.code
print(json.dumps([status, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]))
"""


def run(module: str, *arguments: object) -> tuple[int, set[str], str]:
    """Exit status, the heavy packages that were imported, and what was said on standard error."""
    command = [sys.executable, "-c", SCRIPT, module, json.dumps(HEAVY), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    status, imported = json.loads(result.stdout.splitlines()[-1])
    return status, set(imported), result.stderr


@pytest.fixture(scope="module")
def index(offline, footage, tmp_path_factory):
    from vmr.retrieval.build import build_index

    folder = tmp_path_factory.mktemp("indexes") / "index"
    build_index([footage / "bikes.mp4"], folder, offline, window_s=None)
    return folder


def test_wrong_input_is_reported_before_torch_is_imported(index, footage, annotations, tmp_path):
    out = tmp_path / "out"
    for said, *line in (
        ("no such index", "search", "nowhere", "x"),
        ("the query is empty", "search", index, " "),
        ("did you mean", "search", index, "x", "--encoder", "ofline"),
        ("no such file or folder", "search", index, "x", "--encoder", "no/model.pth"),
        ("no such folder", "index", "build", "nowhere", "--out", out),
        ("did you mean", "index", "build", footage, "--out", out, "--encoder", "ofline"),
        ("was built with --window null", "index", "build", footage, "--out", index),
        ("no such index", "index", "info", "nowhere"),
        ("no such index", "serve", "nowhere", "--port", 0),
        ("add --token", "serve", index, "--host", "0.0.0.0"),
        ("no such folder", "eval", "--dataset", annotations, "--video-dir", "nowhere"),
        ("did you mean", "info", "ofline"),
    ):
        status, imported, stderr = run(*line)
        assert status == 2 and said in stderr, (line, stderr)
        assert "torch" not in imported, line


def test_help_imports_nothing_that_is_heavy():
    for command in ("search", "serve"):
        assert run(command, "--help")[:2] == (0, set())


def test_commands_that_need_no_model_do_without_torch(index, annotations, footage, tmp_path):
    from vmr.eval.runner import evaluate

    report = tmp_path / "report.json"
    evaluate(annotations, "offline", video_dir=footage).save(report)
    for line in (("index", "info", index), ("eval", "compare", report, report), ("data", "list")):
        status, imported, stderr = run(*line)
        assert status == 0, stderr
        assert not imported & {"torch", "transformers", "timm"}, line


def test_a_search_imports_no_torch(index, offline):
    offline.text_vectors(["a cyclist"])  # exports the network, unless another test has done so
    status, imported, stderr = run("search", index, "a cyclist")
    assert status == 0 and stderr == ""
    assert imported == set()  # an index so small has no FAISS file


def test_a_build_imports_no_torch(offline, footage, tmp_path):
    offline.encode_frames(np.zeros((1, 3, 224, 224), np.uint8))
    offline.text_vectors(["a cyclist"])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bikes.mp4").symlink_to(footage / "bikes.mp4")
    status, imported, stderr = run("index", "build", tmp_path / "videos", "--out", tmp_path / "index")
    assert status == 0, stderr
    assert not imported & {"torch", "timm", "transformers"}
