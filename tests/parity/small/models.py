"""Classifiers, and checkpoints that are loaded for another size."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vmr.models.classification.config import NetworkConfig
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.ops.backend import Backend


class Models:
    """Classifiers, and checkpoints that are loaded for another size.

    Attributes:
        backend: implementation of the kernels.
    """

    backend: Backend = "auto"

    def classifier(self, cfg: dict[str, Any], sd: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        network = self._filled(cfg, sd)

        @torch.no_grad()
        def classify(x: Tensor) -> Tensor:
            return network(x.unsqueeze(1) if cfg["kind"] == "image" else x.transpose(1, 2))

        return classify

    def finetuned(
        self, sd: Mapping[str, Tensor], cfg: dict[str, Any], orig_num_frames: int | None
    ) -> dict[str, Tensor]:
        """`orig_num_frames` is upstream's flag: here the number of frames is read from the weights."""
        weights = self._filled(cfg, sd).state_dict()
        if cfg["kind"] == "image":
            del weights["temporal_pos_embedding"]
            weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].squeeze(2)
        return weights

    def _filled(self, cfg: dict[str, Any], sd: Mapping[str, Tensor]) -> VideoMambaClassifier:
        network = VideoMambaClassifier(network_config(cfg), backend=self.backend).eval()
        load_upstream(network, sd)
        return network


def network_config(cfg: dict[str, Any]) -> NetworkConfig:
    return NetworkConfig(
        width=cfg["embed_dim"],
        num_layers=cfg["depth"],
        image_size=cfg.get("img_size", 224),
        num_frames=cfg.get("num_frames", 1),
        tubelet_size=cfg.get("kernel_size", 1),
        num_classes=cfg["num_classes"],
    )
