"""Which packages the commands import: wrong input is reported before torch, and a search loads the text side alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.integration.commands import COMMANDS

HEAVY = ("torch", "torch._dynamo", "transformers", "timm", "av", "faiss", "fastapi", "uvicorn")

SCRIPT = """
import contextlib, io, json, sys
from importlib import import_module
for module, *arguments in json.loads(sys.argv[1]):
    status, said = 0, io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            import_module(f"vmr.cli.{module}").main(arguments)
    except SystemExit as error:
        status = error.code
    print(json.dumps([status, [name for name in json.loads(sys.argv[2]) if name in sys.modules], said.getvalue()]))
"""


def run_all(*lines: tuple[object, ...]) -> list[tuple[int, set[str], str]]:
    """Run commands one after the other in a new process.

    Returns:
        Of each: exit status, the heavy packages that are imported by then, and what was said on standard error.
    """
    arguments = (json.dumps([[str(word) for word in line] for line in lines]), json.dumps(HEAVY))
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[0, [", "[2, ["))]
    return [(status, set(imported), said + done.stderr) for status, imported, said in results]


def run(*line: object) -> tuple[int, set[str], str]:
    (result,) = run_all(line)
    return result


@pytest.fixture(scope="module")
def index(offline, footage, tmp_path_factory):
    from vmr.retrieval.build import build_index

    folder = tmp_path_factory.mktemp("indexes") / "index"
    build_index([footage / "bikes.mp4"], folder, offline, window_s=None)
    return folder


def test_wrong_input_is_reported_before_torch_is_imported(index, footage, annotations, tmp_path):
    out = tmp_path / "out"
    cases = (
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
    )
    results = run_all(*(line for _, *line in cases))
    for (said, *line), (status, imported, stderr) in zip(cases, results, strict=True):
        assert status == 2 and said in stderr, (line, stderr)
        assert "torch" not in imported, line


def test_help_imports_nothing_that_is_heavy():
    for command in ("search", "serve"):
        assert run(command, "--help")[:2] == (0, set())


def test_no_help_imports_torch():
    commands = [command.removeprefix("vmr-") for command in COMMANDS]
    for command, (status, imported, _) in zip(commands, run_all(*((c, "--help") for c in commands)), strict=True):
        assert status == 0 and "torch" not in imported, command


def test_commands_that_need_no_model_do_without_torch(index, annotations, footage, tmp_path):
    from vmr.eval.runner import evaluate

    report = tmp_path / "report.json"
    evaluate(annotations, "offline", video_dir=footage).save(report)
    lines = (("index", "info", index), ("eval", "compare", report, report), ("data", "list"))
    for line, (status, imported, stderr) in zip(lines, run_all(*lines), strict=True):
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
