"""Self-distillation, parameter groups, schedules and mixing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vmr import losses
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.distillation import HEAD, DistilledClassifier, teacher_features
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.ops.backend import Backend
from vmr.train.optimizer import parameter_groups
from vmr.train.schedule import upstream_steps
from vmr.train.tasks.mixing import Mix, cut, mix_by, mix_pixels, mix_targets

StateDict = Mapping[str, Tensor]
UNTRAINED = ("temporal_pos_embedding",)  # images of upstream's have no positions in time


class Distiller:
    """A student beside its teacher."""

    def __init__(self, student: DistilledClassifier, teacher: VideoMambaClassifier) -> None:
        self.student, self.teacher = student, teacher

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, own in self.student.named_parameters():
            if name == "patch_embed.proj.weight":  # upstream's has no time
                flat = nn.Parameter(own.detach().squeeze(2))
                flat.grad = None if own.grad is None else own.grad.squeeze(2)
                yield name, flat
            elif name not in UNTRAINED:
                yield name, own


class Training:
    """Self-distillation, parameter groups, schedules and mixing.

    Attributes:
        backend: implementation of the kernels.
    """

    backend: Backend = "auto"

    def distiller(self, cfg: dict[str, Any], sd: StateDict, teacher_cfg: dict[str, Any], teacher_sd: StateDict) -> Any:
        student = DistilledClassifier(image_config(cfg), teacher_cfg["embed_dim"], backend=self.backend).eval()
        heads = {name: weight for name, weight in sd.items() if name.startswith(HEAD)}
        load_upstream(student, {name: sd[name] for name in sd if name not in heads}, fresh=[HEAD])
        student.load_state_dict(student.state_dict() | heads)
        teacher = VideoMambaClassifier(image_config(teacher_cfg), backend=self.backend).eval().requires_grad_(False)
        load_upstream(teacher, teacher_sd)
        return Distiller(student, teacher)

    def distill_step(self, m: Distiller, images: Tensor, soft_targets: Tensor) -> dict[str, Tensor]:
        video = images[:, None]
        logits, student = m.student.distilled(video)
        teacher = teacher_features(m.teacher, video)
        loss_cls = losses.soft_cross_entropy(logits, soft_targets)
        loss_distill = losses.distillation_loss(student, teacher)
        return {
            "logits": logits, "student": student, "teacher": teacher, "loss_cls": loss_cls,
            "loss_distill": loss_distill, "loss": loss_cls + loss_distill,
        }  # fmt: skip

    def classifier_param_groups(
        self, cfg: dict[str, Any], layer_decay: float, weight_decay: float, scale_layers: bool
    ) -> dict[str, tuple[float, float]]:
        config = NetworkConfig(
            width=cfg["embed_dim"], num_layers=cfg["depth"], image_size=cfg["img_size"],
            num_classes=cfg["num_classes"], num_frames=cfg["num_frames"],
        )  # fmt: skip
        with torch.device("meta"):
            network = VideoMambaClassifier(config)
        groups = parameter_groups(
            network.named_parameters(),
            learning_rate=1.0,
            weight_decay=weight_decay,
            decay="upstream_classifier",
            layer_decay=layer_decay,
            layer_scope="all_but_time" if scale_layers else "input",
        )
        return {name: (group["weight_decay"], group["lr"]) for group in groups for name in group["param_names"]}

    def step_schedule(
        self, base: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: int, start: float
    ) -> list[float]:
        num_steps = epochs * steps_per_epoch
        factor = upstream_steps(
            warmup_epochs * steps_per_epoch, num_steps, start_ratio=start / base, min_ratio=final / base
        )
        return [base * factor(step) for step in range(num_steps)]

    def mix(
        self, x: Tensor, labels: Tensor, kind: str, lam: float, box: Sequence[int] | None, classes: int,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        mix = Mix(lam) if box is None else mix_by(x.shape[-2], x.shape[-1], (box[0], box[1], box[2], box[3]))
        assert (kind == "cutmix") == (box is not None)
        return mix_pixels(x, mix), mix_targets(losses.soft_targets(labels, classes, smoothing), mix)

    def soft_cross_entropy(self, logits: Tensor, soft_targets: Tensor) -> Tensor:
        return losses.soft_cross_entropy(logits, soft_targets)

    def smoothed_cross_entropy(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return losses.soft_cross_entropy(logits, losses.soft_targets(labels, logits.shape[1], smoothing))

    def cutmix_box(
        self, height: int, width: int, lam: float, rng: np.random.RandomState
    ) -> tuple[int, int, int, int, float]:
        mix = cut(height, width, lam, (rng.randint(height), rng.randint(width)))
        assert mix.box is not None
        return (*mix.box, mix.share)


def image_config(cfg: dict[str, Any]) -> NetworkConfig:
    return NetworkConfig(
        width=cfg["embed_dim"], num_layers=cfg["depth"], image_size=cfg.get("img_size", 224), num_frames=1,
        num_classes=cfg["num_classes"],
    )  # fmt: skip
