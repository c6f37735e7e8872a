"""One optimiser step: forward, backward, a check that every number is finite, and the update."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vmr.errors import VmrError
from vmr.processes import Processes
from vmr.train.distributed import Parallelised, clip_gradients, gradient_norm
from vmr.train.run_config import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 1.0  # the lowest scale of losses in fp16: if gradients overflow even at this scale, they are infinite


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step.

    Attributes:
        losses: name -> weighted loss, the mean over the batches of the step.
        grad_norm: the norm of all gradients before clipping.
        bad: the name of the first value that was not finite, so that the step was skipped; None if all were finite.
        overflow: whether the step was skipped because fp16 could not hold the scaled gradients; the loss scale is then
            halved, and nothing is wrong with the run.
    """

    losses: dict[str, float]
    grad_norm: float
    bad: str | None
    overflow: bool = False


class Stepper:
    """Makes optimiser steps. Weights are float32; autocast computes the forward pass's products in `precision`.

    Args:
        parallelised: the task on all processes.
        optimizer: over the parameters of the task's model.
        processes: the processes of the run.
        precision: "fp32", "bf16" or "fp16"; fp16 scales the losses.
        max_grad_norm: gradients with a greater norm are scaled down to it; None for no limit.

    Attributes:
        parallelised: as given.
        optimizer: as given.
        scaler: the loss scaler, switched off unless the precision is fp16.
    """

    def __init__(
        self,
        parallelised: Parallelised,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        *,
        precision: Precision,
        max_grad_norm: float | None,
    ) -> None:
        self.parallelised = parallelised
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=precision == "fp16")
        self._processes = processes
        self._precision = precision
        self._max_grad_norm = max_grad_norm

    def __call__(self, batches: Sequence[Any]) -> StepResult:
        """Make one step on the mean gradients of some batches. A step with a number that is not finite changes nothing.

        Args:
            batches: at least one, from `Task.prepare`.

        Returns:
            The losses and the outcome.

        Raises:
            VmrError: fp16 cannot hold the gradients at any loss scale.
        """
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            with self.parallelised.accumulating(number + 1 < len(batches)):
                with self._autocast():
                    losses = self.parallelised(batch)
                total = torch.stack(list(losses.values())).sum() / len(batches)
                self.scaler.scale(total).backward()
            for name, loss in losses.items():
                summed[name] = summed.get(name, 0.0) + loss.detach() / len(batches)
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = gradient_norm(parameters)
        *values, norm_value = torch.stack([*summed.values(), norm]).tolist()  # waits for the device once
        found = dict(zip(summed, values, strict=True))
        bad_loss = next((f"the {name} loss" for name, value in found.items() if not math.isfinite(value)), None)
        is_bad, is_overflow = self._processes.any(bad_loss is not None, not math.isfinite(norm_value))
        overflow = is_overflow and not is_bad and self.scaler.is_enabled()
        if is_bad or (is_overflow and not overflow):
            bad = bad_loss or self._bad_gradient() or "another process's loss"
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            return StepResult(found, norm_value, bad)
        if self._max_grad_norm is not None and not overflow:
            clip_gradients(parameters, self._max_grad_norm, norm)
        self._update()
        return StepResult(found, norm_value, None, overflow)

    def _update(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < _SMALLEST_SCALE:
            raise VmrError(f"fp16: {self._bad_gradient()} is not finite at any scale: use run.precision bf16 or fp32")

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self._processes.device.type, _DTYPES[self._precision])

    def _bad_gradient(self) -> str | None:
        """The first parameter, in the model's order, whose gradient is not finite."""
        for name, parameter in self.parallelised.task.model.named_parameters():
            gradient = parameter.grad
            if gradient is not None:
                local = getattr(gradient, "to_local", lambda kept=gradient: kept)()
                if not bool(local.isfinite().all()):
                    return f"the gradient of {name}"
        return None
