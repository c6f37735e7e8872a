"""The lines of a run's log, and the other places where they are written."""

from pathlib import Path

import pytest

from vmr.errors import VmrError
from vmr.train.log import RunLog, RunningMeans, train_line
from vmr.train.run_config import RunConfig


def test_a_window_is_the_mean_over_the_steps_that_have_a_loss():
    window = RunningMeans()
    window.add({"alignment": 1.0, "matching": 2.0, "grad_norm": 3.0}, seconds=1.0, waited_s=0.5)
    window.add({"matching": 4.0, "grad_norm": 5.0}, seconds=3.0, waited_s=0.5)
    window.add({}, seconds=2.0, waited_s=0.5)  # left out
    record = window.pop_means()
    assert record["losses"] == {"alignment": 1.0, "matching": 3.0}  # 1 / 1, (2 + 4) / 2
    assert record["loss"] == 4.0
    assert record["grad_norm"] == 4.0  # (3 + 5) / 2
    assert record["step_s"] == 2.0  # (1 + 3 + 2) / 3
    assert record["waiting"] == pytest.approx(0.25)  # 1.5 / 6
    assert not window


def test_a_window_of_steps_that_were_all_left_out_says_nothing():
    window = RunningMeans()
    window.add({}, seconds=1.0, waited_s=0.0)
    assert not window


def test_a_line_says_where_the_time_goes():
    record = {
        "step": 7, "stage": "masked", "loss": 1.5, "losses": {"matching": 1.5}, "learning_rate": 1e-3,
        "temperature": 0.07, "grad_norm": 2.0, "step_s": 0.5, "waiting": 0.1, "num_skipped": 0,
    }  # fmt: skip
    line = train_line(record)
    assert line == "step 7 masked: loss 1.500 (matching 1.500) lr 1.00e-03 temperature 0.0700 grad 2.00 0.50 s/step"
    assert train_line({**record, "waiting": 0.4}) == f"{line}, 40% of it waiting for data"
    assert train_line({**record, "num_skipped": 3}) == f"{line}; 3 clips skipped so far, see skipped.jsonl"


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The real package, with nobody logged in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    package = pytest.importorskip("wandb", reason="needs wandb, which is in no extra")
    package.teardown()  # it reads its settings once
    return package


def log_a_step(out: Path, step: int) -> None:
    with RunLog(RunConfig(out=str(out), wandb="vmr"), 9, step - 1, {"seed": 0}, active=True) as log:
        log.validation(step, {"text_to_video/R@1": 50.0}, best=True)


def test_a_resumed_run_is_one_run_on_wandb(wandb, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run").mkdir()
    for step in (3, 4):
        log_a_step(tmp_path / "run", step)
    name = (tmp_path / "run" / "wandb_id").read_text()
    kept = list((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert kept
    assert len(kept) == len(list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")))


def test_who_is_not_logged_in_is_told_in_one_line(wandb, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(VmrError, match=r"run\.wandb: .*Or set WANDB_MODE=offline") as caught:
        log_a_step(tmp_path / "run", 1)
    assert "\n" not in str(caught.value)
