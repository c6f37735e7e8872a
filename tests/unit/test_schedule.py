import math

import pytest
import torch

from vmr.errors import VmrError
from vmr.train.schedule import cosine_with_warmup, upstream_epochs, upstream_steps


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.01),  # the floor, not 0
        (1, 0.1),
        (5, 0.5),
        (10, 1.0),
        (40, 0.75),  # a third of the way down: (1 + cos 60 degrees) / 2
        (55, 0.5),
        (70, 0.25),
        (97, 0.01),  # the cosine alone is at 0.0027
        (100, 0.01),
        (190, 0.01),  # the cosine would be back at 1
    ],
)
def test_factors_by_hand(step: int, expected: float):
    assert cosine_with_warmup(10, 100, 0.01)(step) == pytest.approx(expected, rel=1e-12)


def test_fractional_warmup_by_hand():
    factor = cosine_with_warmup(2.4, 24, 0.01)
    # 1/2.4 and 2/2.4; step 3 is 0.6 of 21.6 steps down: (1 + cos 5 degrees) / 2
    assert [factor(step) for step in range(4)] == pytest.approx([0.01, 0.41666667, 0.83333333, 0.99809735], rel=1e-8)
    assert cosine_with_warmup(0.5, 24, 0.0)(0) == 0.0


def test_no_warmup_by_hand():
    factor = cosine_with_warmup(0, 20, 0.0)
    # (1 + cos) / 2 of 0, 45, 90 and 180 degrees
    assert [factor(step) for step in (0, 5, 10, 20)] == pytest.approx([1.0, 0.85355339, 0.5, 0.0], rel=1e-8)


def test_warmup_alone():
    assert [cosine_with_warmup(4, 4)(step) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_it_drives_an_optimizer():
    optimizer = torch.optim.AdamW([{"params": [torch.zeros(1)], "lr": 0.4}, {"params": [torch.zeros(1)], "lr": 4.0}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_with_warmup(2, 4, 0.1))
    rates = []
    for _ in range(5):
        rates += [[group["lr"] for group in optimizer.param_groups]]
        optimizer.step()
        schedule.step()
    assert rates == [pytest.approx([0.4 * factor, 4.0 * factor]) for factor in (0.1, 0.5, 1.0, 0.5, 0.1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 0, 0.0), "num_training_steps is 0"),
        ((-1, 10, 0.0), "num_warmup_steps is -1"),
        ((11, 10, 0.0), r"num_warmup_steps is 11, but must be in \[0, 10\]"),
        ((0, 10, 1.5), "min_ratio is 1.5"),
    ],
)
def test_bad_options_are_refused(options: tuple[float, int, float], message: str):
    with pytest.raises(VmrError, match=message):
        cosine_with_warmup(*options)


# -- the schedules of upstream's classifiers ---------------------------------------------------------------------------


def test_steps_begin_and_end_as_upstreams_do():
    """Both ends of the warm-up are steps, so the full rate comes twice; the last step is still above the end."""
    factor = upstream_steps(3, 7, start_ratio=0.2, min_ratio=0.1)
    expected = [0.2, 0.6, 1.0, *(0.1 + 0.45 * (1 + math.cos(math.pi * step / 4)) for step in range(4))]
    assert [factor(step) for step in range(7)] == pytest.approx(expected)
    assert factor(7) == pytest.approx(0.1)
    assert upstream_steps(0, 4)(0) == upstream_steps(1, 4, start_ratio=1.0)(0) == 1.0


def test_epochs_are_timms():
    from timm.scheduler import CosineLRScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    theirs = CosineLRScheduler(optimizer, t_initial=6, lr_min=0.02, warmup_t=2, warmup_lr_init=0.1)
    own = upstream_epochs(2, 6, 10, start_ratio=0.05, min_ratio=0.01)
    for epoch in range(6):
        theirs.step(epoch)
        (rate,) = (group["lr"] for group in optimizer.param_groups)
        assert [2 * own(step) for step in (10 * epoch, 10 * epoch + 9)] == pytest.approx([rate, rate])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: upstream_steps(5, 4), "num_warmup_steps is 5"),
        (lambda: upstream_steps(1, 4, start_ratio=2.0), "start_ratio is 2.0"),
        (lambda: upstream_epochs(1, 4, 0), "steps_per_epoch is 0"),
    ],
)
def test_wrong_values_of_upstreams_schedules(make, message):
    with pytest.raises(VmrError, match=message):
        make()
