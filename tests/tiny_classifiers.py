"""Tiny classifiers of random weights, and their weights as upstream names them."""

import torch
from torch import Tensor

from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.family import VideoClassifier
from vmr.models.classification.networks import build_network
from vmr.models.classifier import ClipInput
from vmr.models.videomamba.classifier import VideoMambaClassifier

SIZES = NetworkConfig(width=32, num_layers=2, image_size=32, num_frames=4, num_classes=3)
CLIP = ClipInput(4, 32, "sthsth")
LABELS = ("walk", "run", "fall")


def tiny_network(seed: int = 0, sizes: NetworkConfig = SIZES) -> VideoMambaClassifier:
    """Make a network; every weight is random, so that each has an effect."""
    torch.manual_seed(seed)
    network = build_network(sizes).eval()
    assert isinstance(network, VideoMambaClassifier)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def tiny_classifier(seed: int = 0) -> VideoClassifier:
    return VideoClassifier(tiny_network(seed), LABELS, "single", CLIP, name="tiny", about="random weights")


def as_image_file(network: VideoMambaClassifier) -> dict[str, dict[str, Tensor]]:
    """The layout of upstream's files of images: under `model`, with a patch filter and positions without time."""
    weights = network.state_dict()
    del weights["temporal_pos_embedding"]
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].squeeze(2)
    return {"model": weights}
