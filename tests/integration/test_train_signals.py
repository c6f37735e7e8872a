"""Ctrl-C and SIGTERM in training: a checkpoint, one line that names it, and a run that goes on exactly from there."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.processes import finish, launch
from tests.integration.tiny_run import (
    assert_same_state,
    finish_here,
    start,
    step_where_it_stopped,
    steps_of,
    wait_for_step,
    write_config,
)
from tests.patience import PATIENCE_S

NUM_STEPS = 24


@pytest.fixture(scope="module")
def config_file(footage, annotations, tmp_path_factory) -> Path:
    """24 steps in two stages; a worker decodes. No checkpoint comes by itself before the end."""
    run = {"checkpoint_every": 1000, "log_every": 1}
    return write_config(tmp_path_factory.mktemp("config"), footage, num_steps=(12, 12), num_workers=1, run=run)


@pytest.fixture(scope="module")
def straight(config_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    finish_here(config_file, "--run.out", out)
    return out


def test_signals_to_all_processes_lose_nothing(straight, config_file, tmp_path):
    """As a terminal and a scheduler send them: the decoding workers get them too. One run is stopped by each."""
    out, checkpoints = tmp_path / "run", []
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(config_file, "--run.out", out)
        wait_for_step(process, out, sum(checkpoints[-1:]) + 4)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, printed
        assert ("resumes from" in printed) == bool(checkpoints)
        checkpoints.append(step_where_it_stopped(printed, out, number.name, NUM_STEPS))
        assert steps_of(out) == checkpoints and not (out / "model").exists()
        assert "interrupted" not in printed and "Traceback" not in printed
    assert checkpoints[0] >= 4 and checkpoints[0] + 4 <= checkpoints[1] < NUM_STEPS
    assert f"resumes from {out}" in finish_here(config_file, "--run.out", out)
    assert_same_state(out, straight, NUM_STEPS)
    assert (out / "skipped.jsonl").read_text() == ""


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
