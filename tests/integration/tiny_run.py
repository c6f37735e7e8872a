"""A training run of a few seconds on sources of every reading order, and the command that starts it."""

import contextlib
import io
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
import yaml
from safetensors.torch import load_file

from tests.integration.processes import launch
from tests.patience import PATIENCE_S
from vmr.cli.train import main
from vmr.train.checkpoint import list_checkpoints, step_of

VOCABULARY = Path(__file__).parent.parent.parent / "configs" / "model" / "shapes_vocab.txt"
NONE = {"kind": "none", "ratio": 0.0}


def write_config(folder: Path, footage: Path, *, num_steps: tuple[int, int], num_workers: int, run: dict) -> Path:
    """Write a config with two stages, on drawn shapes, on files that workers decode, and on a stream of rows."""
    content = {
        "model": {
            "video": {
                "width": 16, "num_layers": 2, "image_size": 32, "patch_size": 8, "num_frames": 2, "drop_path": 0.2,
                "student": {"teacher_dim": 112},
            },
            "text": {
                "vocab_size": 40, "width": 16, "num_layers": 3, "num_text_layers": 2, "num_heads": 2,
                "feed_forward": 32, "max_positions": 24,
            },
            "embed_dim": 8,
            "tokenizer": str(VOCABULARY),
            "teacher": "efficientnet",
        },
        "data": {
            "root": str(footage),
            "sources": [
                {"kind": "shapes", "num_clips": 50},
                {"path": "test.json", "weight": 0.5},
                {"kind": "hub", "path": str(write_rows(folder / "rows", footage)), "stream": True,
                 "shuffle_buffer": 3, "weight": 0.5},
            ],
            "batch_size": {"video": 4},
            "max_text_tokens": 24,
            "num_workers": num_workers,
        },
        "stages": [
            {"name": "masked", "num_steps": num_steps[0], "video_mask": {"kind": "attention", "ratio": 0.5}},
            {
                "name": "plain", "num_steps": num_steps[1], "weights": {"alignment": 0.0},
                "video_mask": {"kind": "changed", "keep_all": 0.5}, "image_mask": NONE,
            },
        ],
        "run": {"ema": 0.9, "keep": 9, **run},
    }  # fmt: skip
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def write_rows(folder: Path, footage: Path) -> Path:
    """A data set of two parquet files with four rows each: the bytes of one clip, each time with another caption."""
    import datasets

    folder.mkdir()
    clip = {"bytes": (footage / "bikes.mp4").read_bytes(), "path": "bikes.mp4"}
    for number in range(2):
        content = {"video": [clip] * 4, "caption": [f"clip {4 * number + row}" for row in range(4)]}
        datasets.Dataset.from_dict(content).to_parquet(folder / f"train-{number:05}.parquet")
    return folder


def start(config: Path, *arguments: object, world: int | None = None) -> subprocess.Popen:
    """Start the command, in `world` processes under torchrun if given."""
    return launch("-m", "vmr.cli.train", config, *arguments, world=world)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as in the commands that `start` starts: sums of several are rounded in another way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def finish_here(config: Path, *arguments: object) -> str:
    """Run the command in this process to its end, and return all its output: a new one imports torch for seconds."""
    printed = io.StringIO()
    with one_thread(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main([str(config), *map(str, arguments)])
    return printed.getvalue()


def kill_after(process: subprocess.Popen, out: Path, step: int) -> None:
    """Kill a process and all its children by SIGKILL, as soon as there is a checkpoint of `step` or later."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(step_of(path) >= step for path in list_checkpoints(out / "checkpoints")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        member.kill()
    process.communicate()


def assert_same_state(one: Path, other: Path, step: int) -> None:
    """Compare weights, optimizer and moving average of two runs at a step, bit for bit."""
    for name in ("model", "optimizer", "ema"):
        first, second = (load_file(run / f"checkpoints/step-{step:08}/{name}.safetensors") for run in (one, other))
        assert first.keys() == second.keys()
        assert not [key for key in first if not torch.equal(first[key], second[key])]


def wait_for_step(process: subprocess.Popen, out: Path, step: int) -> None:
    """Wait until a run has logged a step."""
    deadline, log = time.monotonic() + PATIENCE_S, out / "log.jsonl"
    while not (log.exists() and any(f'"step": {step},' in line for line in log.read_text().splitlines())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def steps_of(out: Path) -> list[int]:
    """The steps of a run's checkpoints."""
    return sorted(step_of(path) for path in list_checkpoints(out / "checkpoints"))


def step_where_it_stopped(printed: str, out: Path, by: str, num_steps: int) -> int:
    """The step after which a run was stopped, from the one line that says so."""
    (line,) = re.findall(r"^step \d+: stopped.*$", printed, re.MULTILINE)
    found = re.fullmatch(rf"step (\d+): stopped by {by} after \1 of {num_steps} steps; .* goes on from (.*)", line)
    assert found is not None, line
    assert Path(found[2]) == out / "checkpoints" / f"step-{int(found[1]):08}"
    return int(found[1])
