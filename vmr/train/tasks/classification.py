"""Classification of videos or images: one class, several classes or a number, with mixing and self-distillation.

Shapes: B clips, T frames, S pixels a side, C outputs of the head, N patch tokens, D width of the teacher.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vmr.data.sources.source import LabelledData, TrainData
from vmr.data.training.loader import TrainBatch
from vmr.errors import ModelError, VmrError
from vmr.losses import distillation_loss, soft_targets, target_loss
from vmr.models.classification.config import OPTIONS_OF_KINDS, NetworkConfig
from vmr.models.classification.distillation import DistilledClassifier, teacher_features, without_head
from vmr.models.classification.family import VideoClassifier
from vmr.models.classification.networks import build_network
from vmr.models.classification.saved import save_classifier
from vmr.models.classifier import ClipInput
from vmr.models.videomamba.backbone import VideoMambaBackbone
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.targets import FrameRule, Target
from vmr.train.config import ModelConfig, StageConfig, TrainConfig
from vmr.train.tasks.erasing import erase_randomly
from vmr.train.tasks.initial import check_same_classes, load_classifier_weights, load_encoder_weights, load_teacher
from vmr.train.tasks.mixing import draw_mix, mix_pixels, mix_targets
from vmr.train.tasks.task import Task

METRICS: dict[Target, str] = {"single": "top-1", "multi": "mAP", "regression": "-MSE"}
"""What is predicted -> the metric of a validation by which the best network is chosen; higher is better."""


class Labelled(NamedTuple):
    """The clips and targets of one batch.

    Attributes:
        video: floats (B, T, 3, S, S), normalised and mixed; T = 1 for images.
        targets: float32 (B, C), mixed; see `target_loss`.
    """

    video: Tensor
    targets: Tensor


class Classification(Task):
    """Learns labels, and, with a teacher, the features of a smaller network that was trained before.

    Args:
        config: the config of the run; `model.network` is given.
        network: a `DistilledClassifier` if there is a teacher, else any `Network`.
        teacher: the trained network; None without distillation.
        notes: as for `Task`.

    Attributes:
        network: as given.
        target: what the labels say; known after `check_sources`.
        labels: the names of the classes; known after `check_sources`.
        initial_labels: the names of the classes of the head that `model.init` has filled; None for a fresh head.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: nn.Module,
        teacher: VideoMambaClassifier | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(config, frozen=teacher, notes=notes)
        self.network = network
        self.target: Target = "single"
        self.labels: tuple[str, ...] = ()
        self._mixes = True
        self.initial_labels: tuple[str, ...] | None = None

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def sizes(self) -> NetworkConfig:
        """Kind and sizes of the network."""
        sizes = self.config.model.network
        assert sizes is not None  # TrainConfig has checked it
        return sizes

    def check_sources(self, sources: Sequence[TrainData]) -> None:
        """Take the meaning of the labels from the sources.

        Args:
            sources: the sources of the run.

        Raises:
            VmrError: a source has no labels, or other ones than the first source, or more or fewer classes than the
                network, or other ones than the head that the network starts with.
        """
        named: LabelledData | None = None
        for source in sources:
            if not isinstance(source, LabelledData):
                raise VmrError(f"data.sources: {source.name} has captions, but classification learns from labels")
            first = named or source
            if (source.target, source.num_outputs) != (first.target, first.num_outputs):
                raise VmrError(
                    f"data.sources: {source.name} has {_labels_text(source)}, but {first.name} {_labels_text(first)}"
                )
            if first.classes is not None and source.classes is not None and source.classes != first.classes:
                raise VmrError(f"data.sources: {source.name} names its classes otherwise than {first.name}")
            if (source.target, source.num_outputs) == ("single", 1):
                raise VmrError(
                    f"data.sources: {source.name} has one class only, which leaves nothing to learn: name all classes "
                    "by classes, or use target multi if a clip may also be of no class"
                )
            if source.num_outputs != self.sizes.num_classes:
                raise VmrError(
                    f"data.sources: {source.name} has {_labels_text(source)}: set model.network.num_classes to "
                    f"{source.num_outputs}, not {self.sizes.num_classes}"
                )
            named = source if first.classes is None else first
        if named is None:
            raise VmrError("data.sources: name one at least")
        self.target = named.target
        names = tuple(str(number) for number in range(named.num_outputs))
        self.labels = named.classes or (("value",) if named.target == "regression" else names)
        if self.initial_labels is not None:
            check_same_classes(self.config.model.init or "", self.initial_labels, self.labels)
        smoothing = self.config.classification.smoothing
        if smoothing and self.target != "single":
            what = "several classes a clip" if self.target == "multi" else "numbers"
            self.notes += (f"classification.smoothing {smoothing:g} is not used: the labels are {what}",)

    def set_stage(self, stage: StageConfig) -> None:
        """Mix clips or not; see `Task`."""
        if stage.weights or stage.video_mask or stage.image_mask:
            raise VmrError(f"stages: {stage.name!r}: leave out weights and masks: classification has none")
        self._mixes = stage.mixing

    def prepare(self, batch: TrainBatch, shared: np.random.Generator, own: np.random.Generator) -> Labelled:
        """Normalise, erase and mix; how a batch is mixed is the same in all processes. See `Task`."""
        settings = self.config.classification
        video = self.config.model.preprocess(self.pixels(batch, own))
        video = erase_randomly(video, settings.erasing, own)
        targets = self._targets(batch)
        height, width = video.shape[-2:]
        alphas = (settings.mixup, settings.cutmix) if self._mixes else (0.0, 0.0)
        mix = draw_mix(shared, height, width, mixup=alphas[0], cutmix=alphas[1], switch=settings.switch)
        if mix is not None:
            video, targets = mix_pixels(video, mix), mix_targets(targets, mix)
        return Labelled(video, targets)

    def _targets(self, batch: TrainBatch) -> Tensor:
        """What the outputs should be, float32 (B, C)."""
        if batch.labels is None:
            raise VmrError("classification: a batch has no labels")
        labels = torch.from_numpy(batch.labels).to(self.device)
        if self.target == "single":
            return soft_targets(labels, self.sizes.num_classes, self.config.classification.smoothing)
        return labels.float().reshape(len(labels), -1)

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        """Compute the loss of the labels, and that of distillation; see `Task`."""
        distillation = self.config.classification.distillation
        if distillation is None or not self._distills():
            return {"labels": target_loss(self.network(batch.video), batch.targets, self.target)}
        assert isinstance(self.network, DistilledClassifier)
        assert isinstance(self.frozen, VideoMambaClassifier)
        with torch.no_grad():
            wanted = teacher_features(self.frozen, batch.video)
        outputs, found = self.network.distilled(batch.video)
        return {
            "labels": target_loss(outputs, batch.targets, self.target),
            "distillation": distillation.weight * distillation_loss(found, wanted),
        }

    def _distills(self) -> bool:
        distillation = self.config.classification.distillation
        return distillation is not None and (distillation.stop_after is None or self.step < distillation.stop_after)

    def new_model(self) -> nn.Module:
        """Make a network of the same sizes; see `Task`."""
        if isinstance(self.network, DistilledClassifier):
            return DistilledClassifier(self.sizes, self.network.teacher_width)
        return build_network(self.sizes)

    def compiled_modules(self) -> list[nn.Module]:
        """List the network; see `Task`.

        Raises:
            VmrError: there is a teacher; its loss does not call `forward`, which is what torch.compile compiles.
        """
        if self.frozen is not None:
            raise VmrError(
                "run.compile leaves out classification.distillation, most of the work: leave out one of them"
            )
        return [self.network]

    def backbone(self) -> VideoMambaBackbone | None:
        """Return the network, if it is a VideoMamba; see `Task`."""
        return self.network if isinstance(self.network, VideoMambaBackbone) else None

    def layers_of(self, model: nn.Module) -> list[nn.Module]:
        """List the layers; every kind of network keeps them in lists of modules."""
        return [layer for part in model.children() if isinstance(part, nn.ModuleList) for layer in part]

    @property
    def metric(self) -> str:
        """Accuracy, or what stands for it; see `Task`."""
        return METRICS[self.target]

    def as_validated(self, model: nn.Module) -> VideoClassifier:
        """Return the network as a classifier; see `Task`."""
        return VideoClassifier(
            self._plain(model),
            self.labels,
            self.target,
            self._clip(),
            name=self.config.run.out,
            about="a classifier in training",
            device=self.device,
        )

    def save_model(self, folder: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """Write the network without the head of distillation; see `Task`."""
        save_classifier(folder, self._plain(model), self.labels, self.target, self._clip(), training=training)

    def _plain(self, model: nn.Module) -> nn.Module:
        """The network without the head of distillation."""
        if not isinstance(model, DistilledClassifier):
            return model
        plain = build_network(self.sizes)
        plain.load_state_dict(without_head(model.state_dict()))
        return plain.eval()

    def _clip(self) -> ClipInput:
        """The clips of the classifier in use, whose frames lie at fixed places.

        Sampling by `segments` is followed by the rule of Something-Something, and every other one by that of Kinetics:
        the middles of T equal parts of the whole video, also where training saw only its beginning (`trimmedN`).
        """
        model = self.config.model
        frames: FrameRule = "sthsth" if self.config.data.sampling == "segments" else "sparse"
        return ClipInput(self.sizes.num_frames, self.sizes.image_size, frames, model.mean, model.std)


def build_classification(config: TrainConfig, *, start: bool) -> Classification:
    """Build the network with its teacher.

    Args:
        config: the config of the run.
        start: whether to fill the network with the weights that the config names; a resumed run does not need them.

    Returns:
        The task; its notes are a report on loaded weights.

    Raises:
        ModelError: sizes, files and teacher do not fit each other.
        MissingExtraError: a package is not installed.
    """
    sizes, distillation = config.model.network, config.classification.distillation
    assert sizes is not None
    _refuse_unused(config.model, sizes)
    teacher = None if distillation is None else load_teacher(distillation.teacher, sizes)
    torch.manual_seed(config.run.seed)
    network = build_network(sizes) if teacher is None else DistilledClassifier(sizes, teacher.config.width)
    reports, initial_labels = [], None
    if start and config.model.init is not None:
        report, initial_labels = load_classifier_weights(network, config.model.init, fresh_head=config.model.fresh_head)
        reports.append(report)
    if start and config.model.video_init is not None:
        reports.append(load_encoder_weights(network, config.model.video_init, fresh_norm=config.model.fresh_norm))
    task = Classification(config, network, teacher, [str(report) for report in reports])
    task.initial_labels = initial_labels
    return task


def _refuse_unused(model: ModelConfig, sizes: NetworkConfig) -> None:
    """Raise ModelError for a setting of the model that a classifier of this kind does not have."""
    if model.teacher is not None:
        raise ModelError(
            "model.teacher: a classifier does not learn from it: leave it out, or name a smaller classifier as "
            "classification.distillation.teacher"
        )
    for option in ("text", "text_init"):
        if getattr(model, option) is not None:
            raise ModelError(f"model.{option}: a classifier has no text encoder: leave it out")
    fresh = NetworkConfig()
    for option, kinds in OPTIONS_OF_KINDS.items():
        if sizes.kind not in kinds and getattr(sizes, option) != getattr(fresh, option):
            raise ModelError(f"model.network.{option} is for kind {' or '.join(kinds)}, not {sizes.kind}: leave it out")


def _labels_text(source: LabelledData) -> str:
    if source.target == "regression":
        return "numbers to predict"
    return f"{source.num_outputs} classes ({source.target})"
