"""What the lines of a run's log say."""

import pytest

from vmr.train.log import Window, train_line


def test_a_window_is_the_mean_over_the_steps_that_have_a_loss():
    window = Window()
    window.add({"alignment": 1.0, "matching": 2.0, "grad_norm": 3.0}, seconds=1.0, waited_s=0.5)
    window.add({"matching": 4.0, "grad_norm": 5.0}, seconds=3.0, waited_s=0.5)
    window.add({}, seconds=2.0, waited_s=0.5)  # left out
    record = window.take()
    assert record["losses"] == {"alignment": 1.0, "matching": 3.0}  # 1 / 1, (2 + 4) / 2
    assert record["loss"] == 4.0
    assert record["grad_norm"] == 4.0  # (3 + 5) / 2
    assert record["step_s"] == 2.0  # (1 + 3 + 2) / 3
    assert record["waiting"] == pytest.approx(0.25)  # 1.5 / 6
    assert not window


def test_a_window_of_steps_that_were_all_left_out_says_nothing():
    window = Window()
    window.add({}, seconds=1.0, waited_s=0.0)
    assert not window


def test_a_line_says_where_the_time_goes():
    record = {
        "step": 7, "stage": "masked", "loss": 1.5, "losses": {"matching": 1.5}, "learning_rate": 1e-3,
        "temperature": 0.07, "grad_norm": 2.0, "step_s": 0.5, "waiting": 0.1,
    }  # fmt: skip
    line = train_line(record)
    assert line == "step 7 masked: loss 1.500 (matching 1.500) lr 1.00e-03 temperature 0.0700 grad 2.00 0.50 s/step"
    assert train_line({**record, "waiting": 0.4}) == f"{line}, 40% of it waiting for data"
