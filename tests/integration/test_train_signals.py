"""Ctrl-C and SIGTERM in training: a checkpoint, one line that names it, and a run that goes on exactly from there."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.integration.processes import finish, launch
from tests.integration.tiny_run import start, write_config
from tests.patience import PATIENCE_S
from vmr.train.checkpoint import list_checkpoints, step_of

NUM_STEPS = 24


@pytest.fixture(scope="module")
def config_file(footage, annotations, tmp_path_factory) -> Path:
    """24 steps in two stages; a worker of each process decodes. No checkpoint comes by itself before the end."""
    run = {"checkpoint_every": 1000, "log_every": 1}
    return write_config(tmp_path_factory.mktemp("config"), footage, num_steps=(12, 12), num_workers=1, run=run)


@pytest.fixture(autouse=True)
def ctrl_c_is_taken():
    """Also where the tests run in the background of a shell, whose programs ignore Ctrl-C and pass that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_for_step(process: subprocess.Popen, out: Path, step: int) -> None:
    """Wait until a run has logged a step."""
    deadline, log = time.monotonic() + PATIENCE_S, out / "log.jsonl"
    while not (log.exists() and any(f'"step": {step},' in line for line in log.read_text().splitlines())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said_to_stop(printed: str, out: Path, by: str) -> int:
    """The step after which a run stopped, from the one line that says so."""
    (line,) = re.findall(r"^step \d+: stopped.*$", printed, re.MULTILINE)
    found = re.fullmatch(rf"step (\d+): stopped by {by} after \1 of {NUM_STEPS} steps; .* goes on from (.*)", line)
    assert found is not None, line
    assert Path(found[2]) == out / "checkpoints" / f"step-{int(found[1]):08}"
    assert [step_of(path) for path in list_checkpoints(out / "checkpoints")] == [int(found[1])]
    return int(found[1])


def assert_same_end(out: Path, straight: Path) -> None:
    for name in ("model", "optimizer", "ema"):
        one, other = (
            load_file(folder / "checkpoints" / f"step-{NUM_STEPS:08}" / f"{name}.safetensors")
            for folder in (out, straight)
        )
        assert one.keys() == other.keys()
        assert not [key for key in one if not torch.equal(one[key], other[key])]


@pytest.fixture(scope="module")
def straight(config_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(start(config_file, "--run.out", out))
    return out


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_loses_nothing(straight, config_file, tmp_path, number, status):
    """As a terminal and a scheduler send it: the decoding workers get it too."""
    out = tmp_path / "run"
    process = start(config_file, "--run.out", out)
    wait_for_step(process, out, 4)
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, printed
    step = said_to_stop(printed, out, number.name)
    assert 4 <= step < NUM_STEPS and not (out / "model").exists()
    assert "interrupted" not in printed and "Traceback" not in printed
    assert f"resumes from {out}" in finish(start(config_file, "--run.out", out))
    assert_same_end(out, straight)
    assert (out / "skipped.jsonl").read_text() == ""


# -- on two processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight_on_two(config_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight_on_two") / "run"
    finish(start(config_file, "--run.out", out, world=2))
    return out


@pytest.mark.parametrize("rank", [0, 1, None])
def test_all_processes_stop_at_one_step(straight_on_two, config_file, tmp_path, rank):
    """The signal reaches one process alone, or torchrun, which passes it on to one after the other."""
    out = tmp_path / "run"
    process = start(config_file, "--run.out", out, world=2)
    wait_for_step(process, out, 4)
    if rank is None:
        os.kill(process.pid, signal.SIGINT)
    else:
        ranks = {one.environ().get("RANK"): one for one in psutil.Process(process.pid).children()}
        ranks[str(rank)].terminate()
    printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    step = said_to_stop(printed, out, "SIGINT" if rank is None else "SIGTERM")
    (checkpoint,) = list_checkpoints(out / "checkpoints")
    positions = json.loads((checkpoint / "state.json").read_text())["positions"]
    assert [position["batch"] for position in positions] == [step, step]
    assert f"resumes from {checkpoint}" in finish(start(config_file, "--run.out", out, world=2))
    assert_same_end(out, straight_on_two)


# -- the signals alone ---------------------------------------------------------------------------------------------

WAITING = """
import signal, sys, time
from vmr.signals import StopSignals
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with StopSignals() as signals:
    print("ready", flush=True)
    while signals.received is None or sys.argv[1] == "busy":
        time.sleep(0.01)
print(signals.received.name, signals.flags(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""


def waiting(kind: str) -> subprocess.Popen:
    process = launch("-c", WAITING, kind)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_at_once(first):
    process = waiting("busy")
    process.send_signal(first)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)  # a scheduler may say so again: the checkpoint is being written
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT


def test_what_was_ignored_stays_ignored():
    """As nohup, or a shell that starts a command in the background, does."""
    process = waiting("ignored")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process) == "SIGTERM [False, True] True\n"
