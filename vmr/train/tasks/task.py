"""What the training loop needs of a task: a module that holds a model, turns batches into tensors and computes losses.

Shapes: B clips in a batch of one process, T frames, S pixels a side.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vmr.data.sources.source import TrainData
from vmr.data.training.augment import rand_augment
from vmr.data.training.loader import TrainBatch
from vmr.models.classifier import Classifier
from vmr.models.encoder import Encoder
from vmr.models.videomamba.backbone import VideoMambaBackbone
from vmr.models.videomamba.encoder import VideoMamba
from vmr.train.config import StageConfig, TrainConfig

Validated: TypeAlias = Encoder | Classifier | VideoMamba
"""What a validation gets: a model in use; of masked pre-training the video encoder itself, in evaluation mode."""


class Task(nn.Module, ABC):
    """What a run learns. `vmr.train.build.build_task` makes the task that the config names.

    The loop trains the parameters of `model` only, and saves them under their names in `model`. A frozen module, such
    as a teacher, is neither trained nor saved. A subclass draws random numbers in three ways, all of which are repeated
    exactly when a run is resumed: from the two generators that `prepare` gets, and, in `forward`, from torch's global
    generator, which the loop seeds before each step.

    Args:
        config: the config of the run.
        frozen: a module that only helps to train; it is used in evaluation mode.
        notes: what the log should say first, such as reports on loaded weights; one line each.

    Attributes:
        config: as given.
        notes: as given.
        step: the number of the step, counted from 0 over the whole run; the loop sets it before each step.
    """

    def __init__(self, config: TrainConfig, *, frozen: nn.Module | None = None, notes: Sequence[str] = ()) -> None:
        super().__init__()
        self.config = config
        self.notes = tuple(notes)
        self.step = 0
        self._frozen = (frozen,)  # in a tuple, where torch does not look for submodules

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The model that is trained; a submodule of the task."""

    @property
    def frozen(self) -> nn.Module | None:
        """The module that only helps to train, or None."""
        return self._frozen[0]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def place(self, device: torch.device) -> None:
        """Move all modules, and set the model to training and the frozen module to evaluation.

        Args:
            device: where the run is computed.
        """
        self.to(device).train()
        if self.frozen is not None:
            self.frozen.to(device).eval().requires_grad_(False)

    def check_sources(self, sources: Sequence[TrainData]) -> None:  # most tasks take any source
        """Raise an error, before training starts, if the task cannot learn from one of the sources.

        Args:
            sources: the sources of the run.

        Raises:
            VmrError: a source does not have what the task learns; the message names it.
        """

    def set_stage(self, stage: StageConfig) -> None:  # most tasks are the same in all stages
        """Change what a stage changes. Called for all stages before training starts, and at the start of each.

        Args:
            stage: the stage that begins.

        Raises:
            VmrError: the stage needs something that the task does not have.
        """

    @abstractmethod
    def prepare(self, batch: TrainBatch, shared: np.random.Generator, own: np.random.Generator) -> Any:
        """Turn the loader's arrays into tensors on the device.

        Args:
            batch: B clips of this process.
            shared: draws the same numbers in all processes.
            own: draws other numbers in each process.

        Returns:
            What `forward` takes: an object of tensors.
        """

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            batch: from `prepare`.

        Returns:
            Name -> weighted loss, a scalar; training minimises their sum.
        """

    def facts(self) -> dict[str, float]:
        """Return numbers for the lines of the log, besides losses and learning rate."""
        return {}

    @abstractmethod
    def new_model(self) -> nn.Module:
        """Make a model of the same sizes with any weights, on the CPU."""

    @abstractmethod
    def compiled_modules(self) -> list[nn.Module]:
        """List the parts of the model that `run.compile` compiles."""

    def backbone(self) -> VideoMambaBackbone | None:
        """Return the part of the model whose layers can be run as CUDA graphs; None if there is none."""
        return None

    @abstractmethod
    def layers_of(self, model: nn.Module) -> list[nn.Module]:
        """List the parts that FSDP shards one by one; the rest is sharded as a whole.

        Args:
            model: `model`, or the copy of it that holds the moving average.

        Returns:
            Its layers.
        """

    def scalars_of(self, model: nn.Module) -> list[nn.Parameter]:
        """List the parameters of no dimension, which FSDP cannot shard; each process keeps them whole.

        Args:
            model: `model`, or the copy of it that holds the moving average.
        """
        return [parameter for parameter in model.parameters() if parameter.dim() == 0]

    @property
    def metric(self) -> str | None:
        """The metric by which the best model is chosen, if the config names none; None if it must name one."""
        return None

    @abstractmethod
    def as_validated(self, model: nn.Module) -> Validated:
        """Return a model in use, for validation.

        Args:
            model: from `new_model`, with the current weights or their moving average, in evaluation mode on the CPU.

        Returns:
            What the function of the validation gets.
        """

    @abstractmethod
    def save_model(self, folder: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """Write a model that `vmr.load_model` or a later training run can load.

        Args:
            folder: the folder of the model.
            model: as for `as_validated`.
            training: the record of the training, as JSON values.

        Raises:
            VmrError: a file cannot be written. A model that was in the folder is still there.
        """

    def pixels(self, batch: TrainBatch, own: np.random.Generator) -> Tensor:
        """Augment the clips of a batch, if the config says so, and move them to the device.

        Args:
            batch: B clips.
            own: draws the augmentation.

        Returns:
            uint8 (B, T, 3, S, S) in [0, 255].
        """
        pixels = batch.video
        if self.config.data.rand_augment is True:
            pixels = np.stack([rand_augment(clip, own) for clip in pixels])
        return torch.from_numpy(pixels).to(self.device, non_blocking=True)
