"""Masked pre-training: a video encoder alone learns a frozen teacher's features of the patches that it sees.

Li et al. 2023, "Unmasked Teacher", and Li et al. 2024, "VideoMamba", section 3.3. There is no text, so that clips need
neither captions nor labels; those that a source has are not used.

Shapes: B clips in a batch of one process, T frames, S pixels a side.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vmr.data.training.loader import TrainBatch
from vmr.errors import ModelError
from vmr.losses import alignment_loss
from vmr.models.masks import check_student_mask
from vmr.models.teachers import Teacher, check_teacher
from vmr.models.videomamba.encoder import VideoMamba
from vmr.models.videomamba.saved import save_encoder
from vmr.train.config import StageConfig, TrainConfig
from vmr.train.tasks.config import MaskedConfig
from vmr.train.tasks.student import draw_visible, named_teacher, start_encoder
from vmr.train.tasks.task import Task


class Clips(NamedTuple):
    """The clips of a batch.

    Attributes:
        video: (B, T, 3, S, S), normalised for the student; T = 1 for images.
        teacher_video: (B, T, 3, S', S'), normalised for the teacher.
    """

    video: Tensor
    teacher_video: Tensor


class Masked(Task):
    """Learns to predict a teacher's features.

    Args:
        config: the config of the run.
        encoder: the student.
        teacher: its teacher.
        notes: as for `Task`.

    Attributes:
        encoder: as given.
        teacher: as given.
        masked: the masks and the loss of the current stage.

    Raises:
        ModelError: the student outputs of the encoder cannot be compared with the teacher's features.
    """

    def __init__(self, config: TrainConfig, encoder: VideoMamba, teacher: Teacher, notes: tuple[str, ...] = ()) -> None:
        super().__init__(config, frozen=teacher, notes=notes)
        check_teacher(teacher, encoder.config)
        self.encoder = encoder
        self.masked = config.masked

    @property
    def model(self) -> VideoMamba:
        """The encoder."""
        return self.encoder

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher."""
        assert isinstance(self.frozen, Teacher)
        return self.frozen

    def set_stage(self, stage: StageConfig) -> None:
        """Change the masks; see `Task`."""
        self.masked = masked_of(self.config, stage)
        for mask in (self.masked.video_mask, self.masked.image_mask):
            check_student_mask(mask.kind, self.encoder.config)

    def prepare(self, batch: TrainBatch, shared: np.random.Generator, own: np.random.Generator) -> Clips:
        """Normalise the clips for student and teacher; see `Task`."""
        video = self.pixels(batch, own)
        return Clips(self.config.model.preprocess(video), self.teacher.normalize(video))

    def forward(self, batch: Clips, order: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: from `prepare`.
            order: as in `vmr.models.masks.draw_mask`, for tests that repeat a step; drawn if None.

        Returns:
            The loss, called `alignment`.
        """
        masked = self.masked
        masking = masked.image_mask if batch.video.shape[1] == 1 else masked.video_mask
        mask, target = draw_visible(masking, self.encoder.config, batch.video, self.teacher, batch.teacher_video, order)
        assert target is not None  # MaskedConfig refuses the kind none
        student = self.encoder(batch.video, mask).student
        return {"alignment": alignment_loss(student, target, masked.alignment_norm, masked.alignment_kind)}

    def new_model(self) -> VideoMamba:
        """Make an encoder of the same sizes; see `Task`."""
        return VideoMamba(self.encoder.config)

    def compiled_modules(self) -> list[nn.Module]:
        """List the encoder; see `Task`."""
        return [self.encoder]

    def backbone(self) -> VideoMamba:
        """Return the encoder; see `Task`."""
        return self.encoder

    def layers_of(self, model: nn.Module) -> list[nn.Module]:
        """List the layers of the encoder; see `Task`."""
        assert isinstance(model, VideoMamba)
        return [*model.layers]

    def as_validated(self, model: nn.Module) -> VideoMamba:
        """Return the encoder itself; see `Task`."""
        assert isinstance(model, VideoMamba)
        return model.to(self.device)

    def save_model(self, folder: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """Write the encoder, from which fine-tuning starts; see `Task`."""
        assert isinstance(model, VideoMamba)
        save_encoder(folder, model, self.config.model.preprocess, training=training)


def masked_of(config: TrainConfig, stage: StageConfig) -> MaskedConfig:
    """Merge the masks of a stage into those of the config.

    Args:
        config: the config of the run.
        stage: one of its stages.

    Returns:
        The masks and the loss of the stage.

    Raises:
        ModelError: they do not fit each other, or the stage weights losses of another task.
    """
    if stage.weights:
        raise ModelError(f"stages: weights of {stage.name!r}: masked pre-training has one loss: leave them out")
    masked = config.masked
    return replace(
        masked,
        video_mask=stage.video_mask or masked.video_mask,
        image_mask=stage.image_mask or masked.image_mask,
    )


def build_masked(config: TrainConfig, *, start: bool) -> Masked:
    """Build the encoder with its teacher.

    Args:
        config: the config of the run.
        start: whether to fill the encoder with the weights that the config names; a resumed run does not need them.

    Returns:
        The task; its notes are a report on the file of weights.

    Raises:
        ModelError: sizes, file and teacher do not fit each other, or the config names what only other tasks have.
        MissingExtraError: a package is not installed.
    """
    named = config.model
    for option in ("init", "text", "text_init"):
        if getattr(named, option) is not None:
            raise ModelError(f"model.{option}: masked pre-training has a video encoder only: use model.video_init")
    teacher = named_teacher(named)
    if teacher is None:
        raise ModelError("model.teacher: masked pre-training needs one, such as open_clip:ViT-B-16/openai")
    torch.manual_seed(config.run.seed)
    encoder = VideoMamba(named.video)
    reports = [start_encoder(encoder, named.video_init)] if start and named.video_init is not None else []
    return Masked(config, encoder, teacher, tuple(str(report) for report in reports))
