"""The transformer baseline of the paper."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vmr.models.classification.config import NetworkConfig
from vmr.models.comparators.vit import JointVit


class Transformers:
    """The transformer baseline of the paper."""

    def joint_vit(self, cfg: dict[str, Any], sd: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`cfg` names upstream's sizes, `sd` its weights; the result maps videos (B, 3, T, H, W) to logits."""
        config = NetworkConfig(
            kind="vit",
            width=cfg["embed_dim"],
            num_layers=cfg["depth"],
            num_heads=cfg["num_heads"],
            image_size=cfg.get("img_size", 224),
            num_frames=cfg["num_frames"],
            tubelet_size=cfg.get("kernel_size", 1),
            num_classes=cfg["num_classes"],
        )
        network = JointVit(config).eval()
        network.load_state_dict({key.replace("blocks.", "layers."): weight for key, weight in sd.items()})

        @torch.no_grad()
        def logits(video: Tensor) -> Tensor:
            out: Tensor = network(video.transpose(1, 2))
            return out

        return logits
