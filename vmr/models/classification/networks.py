"""From sizes to a classifying network of any kind."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from vmr.models.classification.config import Kind, NetworkConfig
from vmr.models.comparators.mamba import CausalVideoMamba, FramesVideoMamba, Vim
from vmr.models.comparators.timesformer import TimeSformer
from vmr.models.comparators.vit import JointVit
from vmr.models.comparators.vivit import Vivit
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier

KINDS: dict[Kind, Callable[[NetworkConfig], nn.Module]] = {
    "videomamba": VideoMambaClassifier,
    "videomamba_frames": FramesVideoMamba,
    "videomamba_causal": CausalVideoMamba,
    "vit": JointVit,
    "timesformer": TimeSformer,
    "vivit": Vivit,
    "vim": Vim,
}


class Network(Protocol):
    """A network that classifies videos; always an `nn.Module` too.

    Attributes:
        config: its sizes.
        head: the last layer, from the width to the classes.
    """

    config: ClassifierConfig
    head: nn.Linear

    def __call__(self, video: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            video: floats (B, T, 3, H, W), normalised; T = 1 for images.

        Returns:
            Logits (B, num_classes).
        """

    def resized(self, *, image_size: int | None = None, num_frames: int | None = None) -> "Network":
        """Copy the network for another input size; positions are interpolated, those of time linearly."""


def build_network(config: NetworkConfig) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        config: its kind and sizes.

    Returns:
        The network, which follows the protocol `Network`.

    Raises:
        ModelError: the kind cannot have these sizes.
        MissingExtraError: the kind is a transformer, and timm is not installed.
    """
    return KINDS[config.kind](config)
