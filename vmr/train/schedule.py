"""The learning rate over a run: three schedules, as factors of the full rate."""

import math
from collections.abc import Callable
from typing import Literal

from vmr.errors import VmrError

Schedule = Literal["cosine", "upstream_steps", "upstream_epochs"]


def cosine_with_warmup(
    num_warmup_steps: float, num_training_steps: int, min_ratio: float = 0.0
) -> Callable[[int], float]:
    """Make a schedule for `torch.optim.lr_scheduler.LambdaLR`: a linear warm-up, then half a cosine.

    The factor rises linearly from 0 to 1 at `num_warmup_steps` and falls along half a cosine to 0 at
    `num_training_steps`. As in upstream, `min_ratio` is a lower bound, not an offset: the first step of a warm-up and
    all steps after the last are trained at `min_ratio`.

    Args:
        num_warmup_steps: length of the warm-up, in [0, num_training_steps]; it may be a fraction of a step.
        num_training_steps: where the cosine reaches 0, at least 1.
        min_ratio: the lower bound of the factor, in [0, 1].

    Returns:
        A function from the number of the step, counted from 0, to the factor of the learning rate.

    Raises:
        VmrError: a value is out of range.
    """
    _check(num_warmup_steps, num_training_steps, min_ratio=min_ratio)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return max(min_ratio, step / num_warmup_steps)
        progress = (step - num_warmup_steps) / max(num_training_steps - num_warmup_steps, 1.0)
        return max(min_ratio, 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))

    return factor


def upstream_steps(
    num_warmup_steps: int, num_training_steps: int, *, start_ratio: float = 0.0, min_ratio: float = 0.0
) -> Callable[[int], float]:
    """Make the schedule of upstream's classifiers: a linear warm-up, then half a cosine that ends above 0.

    The warm-up goes from start_ratio to 1, and both are rates of a step. The step after it has the full rate again. The
    cosine falls towards min_ratio, which a step after the last would have.

    Args:
        num_warmup_steps: steps of the warm-up, in [0, num_training_steps].
        num_training_steps: steps of the warm-up and the cosine, at least 1.
        start_ratio: factor of the first step of a warm-up, in [0, 1].
        min_ratio: where the cosine ends, in [0, 1].

    Returns:
        A function from the number of the step, counted from 0, to the factor of the learning rate.

    Raises:
        VmrError: a value is out of range.
    """
    _check(num_warmup_steps, num_training_steps, start_ratio=start_ratio, min_ratio=min_ratio)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return start_ratio + (1 - start_ratio) * step / max(num_warmup_steps - 1, 1)
        return _cosine(step - num_warmup_steps, num_training_steps - num_warmup_steps, min_ratio)

    return factor


def upstream_epochs(
    num_warmup_epochs: int, num_epochs: int, steps_per_epoch: int, *, start_ratio: float = 0.0, min_ratio: float = 0.0
) -> Callable[[int], float]:
    """Make the schedule of upstream's image models, which is timm's: the rate changes between epochs only.

    Epoch e of the warm-up has start_ratio + (1 - start_ratio) * e / num_warmup_epochs. Each later one has the value of
    a cosine that began with the first epoch, so the full rate is never reached after a warm-up.

    Args:
        num_warmup_epochs: epochs of the warm-up, in [0, num_epochs].
        num_epochs: epochs of the warm-up and the cosine, at least 1.
        steps_per_epoch: steps of an epoch, at least 1.
        start_ratio: factor of the first epoch of a warm-up, in [0, 1].
        min_ratio: where the cosine ends, in [0, 1].

    Returns:
        A function from the number of the step, counted from 0, to the factor of the learning rate.

    Raises:
        VmrError: a value is out of range.
    """
    _check(num_warmup_epochs, num_epochs, start_ratio=start_ratio, min_ratio=min_ratio)
    if steps_per_epoch < 1:
        raise VmrError(f"steps_per_epoch is {steps_per_epoch}, but must be at least 1")

    def factor(step: int) -> float:
        epoch = step // steps_per_epoch
        if epoch < num_warmup_epochs:
            return start_ratio + (1 - start_ratio) * epoch / num_warmup_epochs
        return _cosine(epoch, num_epochs, min_ratio)

    return factor


def _cosine(passed: int, length: int, min_ratio: float) -> float:
    """Half a cosine from 1 to min_ratio."""
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(passed / max(length, 1), 1.0)))


def _check(num_warmup: float, num_training: int, **ratios: float) -> None:
    if num_training < 1:
        raise VmrError(f"num_training_steps is {num_training}, but must be at least 1")
    if not 0 <= num_warmup <= num_training:
        raise VmrError(f"num_warmup_steps is {num_warmup}, but must be in [0, {num_training}]")
    for name, ratio in ratios.items():
        if not 0.0 <= ratio <= 1.0:
            raise VmrError(f"{name} is {ratio}, but must be in [0, 1]")
