"""The tensors that a run changes and saves: model, moving average, state of the optimiser and of the loss scaler."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vmr.train.checkpoint import load_optimizer, load_weights, model_tensors, optimizer_tensors


class Weights:
    """All tensors of a run; under FSDP, each process's own part of them.

    Attributes:
        model: the model that is trained.
        average: the moving average of its weights, or None.
        optimizer: the optimiser over `parameter_groups` of the model.
        scaler: the scaler of fp16 losses; switched off for other precisions.
    """

    def __init__(
        self,
        model: nn.Module,
        average: AveragedModel | None,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.model = model
        self.average = average
        self.optimizer = optimizer
        self.scaler = scaler

    def update_average(self) -> None:
        """Update the moving average, if there is one, with the current weights."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Gather all tensors in full on the CPU, for a checkpoint. Every process must call it.

        Returns:
            File name without suffix ("model", "optimizer", "ema") -> tensor name -> tensor.
        """
        found = {"model": model_tensors(self.model), "optimizer": optimizer_tensors(self.optimizer)}
        if self.average is not None:
            found["ema"] = model_tensors(self.average)
        return found

    def load(self, checkpoint: Path, scaler: dict[str, Any]) -> None:
        """Replace all tensors with those of a checkpoint.

        Args:
            checkpoint: the folder of the checkpoint.
            scaler: the state of the loss scaler, from `TrainState.scaler`.

        Raises:
            VmrError: the checkpoint is of another model.
        """
        load_weights(self.model, checkpoint / "model.safetensors")
        load_optimizer(self.optimizer, checkpoint / "optimizer.safetensors")
        if self.average is not None:
            load_weights(self.average, checkpoint / "ema.safetensors")
        self.scaler.load_state_dict(scaler)

    def snapshot(self, new_model: Callable[[], nn.Module]) -> nn.Module:
        """Copy the model (the moving average, if there is one) to the CPU, for use. Every process must call it.

        Args:
            new_model: makes a model of the same sizes, on the CPU.

        Returns:
            A new model in evaluation mode.
        """
        weights = model_tensors(self.model if self.average is None else self.average.module)
        model = new_model()
        model.load_state_dict(weights)
        return model.eval()


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Make the exponential moving average of a model's weights, to be updated after every step.

    After n steps the decay is the smaller of `decay` and (1 + n) / (10 + n). With the full decay from the start, the
    initial weights would dominate the average for a long time.

    Args:
        model: the model; its weights are copied.
        decay: the decay of the average, in (0, 1).

    Returns:
        The average, without gradients.
    """

    def average_of(kept: Tensor, new: Tensor, num_averaged: Tensor | int) -> Tensor:
        return kept.lerp(new, 1 - min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged))))

    return AveragedModel(model, avg_fn=average_of).requires_grad_(False)
