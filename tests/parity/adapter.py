"""vmr as the golden-value checker calls it: upstream's argument order and key names, over vmr's public code."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vmr.models.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.student import StudentConfig
from vmr.models.upstream import inflate_image_weights, load_upstream
from vmr.models.video_encoder import VideoMamba, VideoMambaConfig
from vmr.ops.backend import Backend

StateDict = Mapping[str, Tensor]


class Adapter:
    """Builds models from upstream-named state dicts. Upstream's videos are (B, 3, T, H, W)."""

    def __init__(self, backend: Backend = "auto") -> None:
        self.backend = backend

    def encoder(self, cfg: dict[str, Any], sd: StateDict) -> Callable[..., tuple[Tensor, Tensor, Tensor | None]]:
        model = VideoMamba(encoder_config(cfg), backend=self.backend).eval()
        load_upstream(model, sd)

        @torch.no_grad()
        def encode(
            x: Tensor, mask: Tensor | None = None, use_image: bool = False, keep_temporal: bool = False
        ) -> tuple[Tensor, Tensor, Tensor | None]:
            assert use_image == (x.shape[2] == 1)
            return model(x.transpose(1, 2), mask, keep_temporal=keep_temporal)

        return encode

    def classifier(self, cfg: dict[str, Any], sd: StateDict) -> Callable[[Tensor], Tensor]:
        is_image = cfg["kind"] == "image"
        config = ClassifierConfig(
            width=cfg["embed_dim"],
            num_layers=cfg["depth"],
            num_frames=1 if is_image else cfg["num_frames"],
            num_classes=cfg["num_classes"],
        )
        model = VideoMambaClassifier(config, backend=self.backend).eval()
        load_upstream(model, sd)

        @torch.no_grad()
        def classify(x: Tensor) -> Tensor:
            return model(x.unsqueeze(1) if is_image else x.transpose(1, 2))

        return classify

    def interpolated(self, sd: StateDict, cfg: dict[str, Any], ckpt_num_frame: int) -> dict[str, Tensor]:
        model = VideoMamba(encoder_config(cfg), backend=self.backend)
        load_upstream(model, sd)  # how many frames the weights are for is read off them
        return model.state_dict()

    def inflate(self, sd_image: StateDict, num_frames: int, cfg: dict[str, Any]) -> dict[str, Tensor]:
        return inflate_image_weights(sd_image)


def encoder_config(cfg: dict[str, Any]) -> VideoMambaConfig:
    student = StudentConfig(
        teacher_dim=cfg.get("clip_output_dim", 512),
        num_taps=cfg.get("clip_return_layer", 1),
        interval=cfg.get("clip_student_return_interval", 1),
        last_tap="before_last_layer" if cfg.get("fused_add_norm", True) else "after_last_layer",
    )
    return VideoMambaConfig(
        width=cfg["embed_dim"],
        num_layers=cfg["depth"],
        image_size=cfg.get("img_size", 224),
        num_frames=cfg.get("num_frames", 8),
        pool=cfg.get("pool_type", "cls+avg"),
        student=student,
    )
