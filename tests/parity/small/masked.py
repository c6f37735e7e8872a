"""Masks, and masked pre-training with a CLIP teacher."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parity.adapter import encoder_config, upstream_teacher
from vmr.losses import AlignmentKind, alignment_loss
from vmr.models.masks import MaskKind, draw_mask, drawn_from, select_visible
from vmr.models.teachers import check_teacher
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.backbone import BackboneConfig
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba
from vmr.ops.backend import Backend

KINDS: dict[str, MaskKind] = {  # upstream's masks, by the checker's names -> ours
    "tube": "tube",
    "random": "clip_random",
    "frame_row": "frame_row",
    "clip_row": "clip_row",
}


class Masked:
    """Masks, and masked pre-training with a CLIP teacher.

    Attributes:
        backend: implementation of the kernels.
    """

    backend: Backend = "auto"

    def mask(
        self, kind: str, shape: tuple[int, int, int], ratio: float, rng: np.random.RandomState
    ) -> NDArray[np.int64]:
        """Draw the very mask that upstream draws: it shuffles a list of zeros and ones for each group of units."""
        groups, units, dropped = drawn_from(KINDS[kind], ratio, (1, *shape))
        shuffled = np.repeat([0, 1], [units - dropped, dropped]) + np.zeros((groups, 1), np.int64)
        for row in shuffled:
            rng.shuffle(row)
        order = torch.from_numpy(np.argsort(shuffled, axis=1, kind="stable"))  # those to keep first
        mask = draw_mask(KINDS[kind], ratio, (1, *shape), order=order)
        assert mask is not None
        return mask[0, 1:].numpy().astype(np.int64)

    def attention_mask(self, importance: Tensor, batch: int, ratio: float) -> Tensor:
        frames, patches = importance.shape
        mask = draw_mask("attention", ratio, (batch, frames // batch, 1, patches), order=importance)
        assert mask is not None
        return mask

    def masked_student(
        self,
        cfg: dict[str, Any],
        sd: Mapping[str, Tensor],
        teacher_cfg: dict[str, Any],
        teacher_sd: Mapping[str, Tensor],
    ) -> "MaskedStudent":
        return MaskedStudent(cfg, sd, teacher_cfg, teacher_sd, self.backend)

    def masked_step(self, m: "MaskedStudent", video: Tensor, mask: Tensor, kind: AlignmentKind) -> dict[str, Tensor]:
        frames = video.transpose(1, 2)
        tubelet = m.encoder.config.tubelet_size
        seen = m.teacher(frames[:, tubelet // 2 :: tubelet])
        student, target = m.encoder(frames, mask).student, select_visible(seen.features, mask)
        unit = nn.functional.normalize
        return {
            "student": unit(student, dim=-1),
            "target": unit(target, dim=-1),
            "loss": alignment_loss(student, target, "l2", kind),
        }

    def masked_checkpoint_keys(self) -> dict[str, list[str]]:
        sizes = BackboneConfig(width=32, num_layers=3, image_size=32, num_frames=2)
        saved = {name for name, _ in _named_parameters(VideoMamba(encoder_config(_cfg(sizes))))}
        classifier = VideoMambaClassifier(ClassifierConfig(**vars(sizes), num_classes=2))
        wanted = {name for name, _ in classifier.named_parameters()}
        return {"missing": sorted(wanted - saved), "unexpected": sorted(saved - wanted)}


class MaskedStudent:
    """The encoder that is trained, and its teacher."""

    def __init__(
        self,
        cfg: dict[str, Any],
        sd: Mapping[str, Tensor],
        teacher_cfg: dict[str, Any],
        teacher_sd: Mapping[str, Tensor],
        backend: Backend,
    ) -> None:
        assert teacher_cfg["clip_return_interval"] == 1  # as in every recipe
        self.encoder = VideoMamba(encoder_config(cfg), backend=backend).eval()
        load_upstream(self.encoder, sd, fresh=("pool_norm.",))
        self.teacher = upstream_teacher(teacher_cfg, dict(teacher_sd))
        check_teacher(self.teacher, self.encoder.config)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return _named_parameters(self.encoder)


def _named_parameters(encoder: VideoMamba) -> Iterator[tuple[str, nn.Parameter]]:
    """All but the norm of pooled vectors, which upstream's masked pre-training does not have."""
    return ((name, kept) for name, kept in encoder.named_parameters() if not name.startswith("pool_norm."))


def _cfg(sizes: BackboneConfig) -> dict[str, Any]:
    return {
        "embed_dim": sizes.width,
        "depth": sizes.num_layers,
        "img_size": sizes.image_size,
        "num_frames": sizes.num_frames,
    }
