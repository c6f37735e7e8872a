"""The learning rate over a run."""

import math
from collections.abc import Callable

from vmr.errors import VmrError


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
    if num_training_steps < 1:
        raise VmrError(f"num_training_steps is {num_training_steps}, but must be at least 1")
    if not 0 <= num_warmup_steps <= num_training_steps:
        raise VmrError(f"num_warmup_steps is {num_warmup_steps}, but must be in [0, {num_training_steps}]")
    if not 0.0 <= min_ratio <= 1.0:
        raise VmrError(f"min_ratio is {min_ratio}, but must be in [0, 1]")

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return max(min_ratio, step / num_warmup_steps)
        progress = (step - num_warmup_steps) / max(num_training_steps - num_warmup_steps, 1.0)
        return max(min_ratio, 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))

    return factor
