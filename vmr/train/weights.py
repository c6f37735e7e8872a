"""What a run changes and must keep: a model, its moving average, the state of the optimiser and of the loss scaler."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vmr.models.video_text import VideoTextModel
from vmr.processes import Processes
from vmr.train.checkpoint import load_optimizer, load_weights, model_tensors, optimizer_tensors
from vmr.train.distributed import shard


class Weights:
    """All tensors of a run, on every process the same or its own part of them."""

    def __init__(
        self,
        model: VideoTextModel,
        average: AveragedModel | None,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.model = model
        self.average = average
        self.optimizer = optimizer
        self.scaler = scaler

    def update_average(self) -> None:
        """Take the model as it is now into the average, where there is one."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All of them, whole and on the CPU, by file of a checkpoint; every process must ask."""
        found = {"model": model_tensors(self.model), "optimizer": optimizer_tensors(self.optimizer)}
        if self.average is not None:
            found["ema"] = model_tensors(self.average)
        return found

    def load(self, checkpoint: Path, scaler: dict[str, Any]) -> None:
        """Go on with those of a checkpoint. Raises VmrError where they are another model's."""
        load_weights(self.model, checkpoint / "model.safetensors")
        load_optimizer(self.optimizer, checkpoint / "optimizer.safetensors")
        if self.average is not None:
            load_weights(self.average, checkpoint / "ema.safetensors")
        self.scaler.load_state_dict(scaler)

    def snapshot(self) -> VideoTextModel:
        """A model of its own, on the CPU, as it is to be used: averaged, where there is one; every process must ask."""
        weights = model_tensors(self.model if self.average is None else self.average.module)
        model = VideoTextModel(self.model.config)
        model.load_state_dict(weights)
        return model.eval()


def averaged(model: VideoTextModel, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights, to be updated after every step.

    Over the first n steps the decay is (1 + n) / (10 + n) where that is less, or the average would consist of the
    weights that the run began with.
    """

    def average_of(kept: Tensor, new: Tensor, num_averaged: Tensor | int) -> Tensor:
        return kept.lerp(new, 1 - min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged))))

    return AveragedModel(model, avg_fn=average_of).requires_grad_(False)


def shard_average(average: AveragedModel, processes: Processes) -> None:
    """Have each process keep the part of the average that belongs to its part of the model."""
    model = average.module
    assert isinstance(model, VideoTextModel)
    shard(model, model, processes)
