"""From sizes to a classifying network of any kind."""

from typing import Protocol

from torch import Tensor, nn
from typing_extensions import Self

from vmr.errors import ModelError
from vmr.models.classification.config import NetworkConfig
from vmr.models.videomamba.classifier import VideoMambaClassifier


class Network(Protocol):
    """A network that classifies videos; always an `nn.Module` too.

    Attributes:
        config: its sizes.
        head: the last layer, from the width to the classes.
    """

    config: NetworkConfig
    head: nn.Linear

    def resized(self, *, num_frames: int | None = None, image_size: int | None = None) -> Self:
        """Copy the network for another input size; positions are interpolated.

        Args:
            num_frames: frames of a clip; default, as before.
            image_size: side of the frames in pixels; default, as before.

        Returns:
            A copy that does not share weights with this network.

        Raises:
            ModelError: the network cannot take this input.
        """

    def __call__(self, video: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            video: floats (B, T, 3, H, W), normalised; T = 1 for images.

        Returns:
            Logits (B, num_classes).
        """


def build_network(config: NetworkConfig) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        config: its kind and sizes.

    Returns:
        The network, which follows the protocol `Network`.

    Raises:
        ModelError: the kind is not known, or cannot have these sizes.
    """
    if config.kind == "videomamba":
        return VideoMambaClassifier(config)
    raise ModelError(f"kind is {config.kind!r}, which cannot be made")
