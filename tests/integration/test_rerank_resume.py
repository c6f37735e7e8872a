"""Re-ranking in a process that is killed at any moment, and in two that share the work."""

import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.integration.processes import finish, launch
from tests.integration.rerank_run import NUM_TEXTS, NUM_VIDEOS, rerank
from tests.patience import PATIENCE_S
from vmr.retrieval.reranking.log import LOG_FILE


def start(*arguments: object, world: int | None = None) -> subprocess.Popen:
    return launch("-m", "tests.integration.rerank_run", *arguments, world=world)


def finish_here(work: Path, result: Path) -> None:
    """Run the program in this process: a new one imports torch for seconds. It has one thread, as those have."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rerank(work, result)
    finally:
        torch.set_num_threads(num_threads)


def result_of(path: Path, rank: int = 0) -> list[np.ndarray]:
    with np.load(f"{path}.{rank}.npz") as content:
        return [content["arr_0"], content["arr_1"]]


def asked_of(path: Path, rank: int = 0) -> list[int]:
    return [int(line) for line in Path(f"{path}.{rank}").read_text().split()]


def num_logged(work: Path) -> int:
    if not (work / LOG_FILE).exists():
        return 0
    with sqlite3.connect(work / LOG_FILE, timeout=60) as connection:
        try:
            return connection.execute("SELECT count(*) FROM logits").fetchone()[0]
        except sqlite3.OperationalError:  # the tables come next
            return 0


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    finish_here(folder / "work", folder / "result")
    assert asked_of(folder / "result") == list(range(NUM_VIDEOS))
    return folder / "result"


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert one[0].shape == (NUM_TEXTS, NUM_VIDEOS) and one[1].shape == (NUM_VIDEOS, NUM_TEXTS)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_killed_run_goes_on_to_the_same_matrices(straight, tmp_path):
    work, result = tmp_path / "work", tmp_path / "result"
    for num_wanted in (2, 5):  # killed twice
        process = start(work, result, 0.3)
        deadline = time.monotonic() + PATIENCE_S
        while num_logged(work) < num_wanted:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not Path(f"{result}.0.npz").exists()
    assert all(path.name.startswith(LOG_FILE) for path in work.iterdir())  # the texts' features are gone
    num_done = num_logged(work)
    assert 5 <= num_done < NUM_VIDEOS
    before = len(asked_of(result))
    assert before <= num_done + 2  # each kill lost one video at most
    finish_here(work, result)
    assert asked_of(result)[before:] == list(range(num_done, NUM_VIDEOS))
    assert_same(result_of(result), result_of(straight))


def test_two_processes_have_the_result_of_one(straight, tmp_path):
    work, result = tmp_path / "work", tmp_path / "result"
    finish(start(work, result, 0, world=2))
    assert asked_of(result, 0) == list(range(0, NUM_VIDEOS, 2))
    assert asked_of(result, 1) == list(range(1, NUM_VIDEOS, 2))
    for rank in (0, 1):
        assert_same(result_of(result, rank), result_of(straight))
    finish_here(work, result)  # one process finds in the log all the work that two have done
    assert len(asked_of(result, 0)) == NUM_VIDEOS // 2
    assert_same(result_of(result), result_of(straight))
