"""Re-ranking in new processes: one that is killed at any moment, and two that share the work."""

import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.integration.processes import finish, launch
from tests.patience import PATIENCE_S
from vmr.retrieval.reranking.log import LOG_FILE

NUM_VIDEOS, NUM_TEXTS = 12, 40

# argv: the folder of the log, the file of the result, seconds that a video takes
PROGRAM = f"""
import sys, time
from pathlib import Path
import numpy as np
import torch
from datetime import timedelta
from tests.models import make_encoder, make_video, tiny_model
from vmr.processes import joined
from vmr.retrieval.reranking.engine import rerank_videos

work, result, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
matcher = make_encoder(tiny_model())
videos = matcher.video_tokens(make_video({NUM_VIDEOS}))
texts = [f"caption {{'very ' * (index % 5)}}number {{index}}" for index in range({NUM_TEXTS})]
scores = np.random.default_rng(0).normal(size=({NUM_TEXTS}, {NUM_VIDEOS})).astype(np.float32)

with joined(torch.device("cpu"), timedelta(minutes=4)) as among:
    def tokens(video):
        print(video, file=Path(f"{{result}}.{{among.rank}}").open("a"))
        time.sleep(seconds)
        return videos[video : video + 1]

    out = rerank_videos(matcher, tokens, texts, scores, 3, work=work, processes=among)
    np.savez(f"{{result}}.{{among.rank}}.npz", *out)
"""


def start(*arguments: object, world: int | None = None) -> subprocess.Popen:
    script = Path(f"{arguments[1]}.py")
    script.write_text(PROGRAM)
    return launch(script, *arguments, world=world)


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
    finish(start(folder / "work", folder / "result", 0))
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
    finish(start(work, result, 0))
    assert asked_of(result)[before:] == list(range(num_done, NUM_VIDEOS))
    assert_same(result_of(result), result_of(straight))


def test_two_processes_have_the_result_of_one(straight, tmp_path):
    work, result = tmp_path / "work", tmp_path / "result"
    finish(start(work, result, 0, world=2))
    assert asked_of(result, 0) == list(range(0, NUM_VIDEOS, 2))
    assert asked_of(result, 1) == list(range(1, NUM_VIDEOS, 2))
    for rank in (0, 1):
        assert_same(result_of(result, rank), result_of(straight))
    finish(start(work, result, 0))  # one process finds in the log all the work that two have done
    assert len(asked_of(result, 0)) == NUM_VIDEOS // 2
    assert_same(result_of(result), result_of(straight))
