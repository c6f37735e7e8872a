"""A classifying network as a `Classifier`: from frames to the names of classes.

Shapes: B videos, T frames, S pixels a side, C classes.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from vmr.checks import whole_number
from vmr.errors import ModelError
from vmr.models.classification.config import NetworkConfig
from vmr.models.classifier import ClipInput, Prediction
from vmr.models.encoder import fingerprint
from vmr.models.videomamba.backbone import VideoMambaBackbone
from vmr.models.videomamba.cuda_graphs import CudaGraphs
from vmr.models.weights import LoadReport
from vmr.targets import Target


class VideoClassifier:
    """A network of any kind as a `Classifier`; float32, deterministic.

    Attributes:
        network: the network.
        labels: names of the classes, C of them.
        target: what it predicts.
        clip: the clips that it expects.
        report: which keys of the network's file were loaded, fitted or ignored; None for one made in memory.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        labels: Sequence[str],
        target: Target,
        clip: ClipInput,
        *,
        name: str,
        about: str,
        device: str | torch.device = "cpu",
        report: LoadReport | None = None,
    ) -> None:
        """Move a network to the device and set it to evaluation mode; on a CPU, also pack VideoMamba's weights.

        Args:
            network: follows `vmr.models.classification.networks.Network`; do not train it further.
            labels: names of the classes, C of them.
            target: what it predicts.
            clip: with the network's number of frames and image size.
            name: of the classifier.
            about: one line on what it can and cannot do.
            device: where the network runs.
            report: which keys of the network's file were loaded, fitted or ignored.

        Raises:
            ModelError: the labels or the clips do not fit the network.
        """
        config = config_of(network)
        check_fit(name, config, labels, target, clip)
        self.name, self.about, self.report = name, about, report
        self.labels, self.target, self.clip = tuple(labels), target, clip
        self.num_frames, self.size, self.frames = clip.num_frames, clip.size, clip.frames
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        if self.device.type == "cpu" and isinstance(network, VideoMambaBackbone):
            network.pack_products()
        self._run: CudaGraphs[Tensor] = CudaGraphs(self.network, self.network)
        self.fingerprint = fingerprint(
            self.network.state_dict(), clip, {"family": "classifier", "config": _computed(config), "target": target}
        )

    def with_labels(self, labels: Sequence[str]) -> "VideoClassifier":
        """Make a classifier with the same network and other names for its classes.

        Args:
            labels: names of the classes, C of them.

        Returns:
            The other classifier, which shares the network with this one.

        Raises:
            ModelError: there are more or fewer names than classes.
        """
        check_fit(self.name, config_of(self.network), labels, self.target, self.clip)
        named = copy(self)
        named.labels = tuple(labels)
        return named

    @torch.inference_mode()
    def logits(self, video: Tensor) -> Tensor:
        """Classify a batch of clips.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 (B, C), on the classifier's device.

        Raises:
            VmrError: the video has another dtype or shape.
        """
        return self._run(self.clip(video.to(self.device))).float()

    def classify(self, video: Tensor, k: int = 5) -> list[Prediction]:
        """Name the k likeliest classes of each clip.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).
            k: how many classes, at least 1; more than there are gives all.

        Returns:
            B predictions.

        Raises:
            ModelError: the classifier predicts a number: use `logits`.
            VmrError: the video has another dtype or shape.
        """
        return predictions(self.name, self.logits(video), self.labels, self.target, k)


def _computed(config: NetworkConfig) -> dict[str, Any]:
    """The sizes that say what is computed: the weights are given, however fresh ones would be drawn."""
    return {name: value for name, value in asdict(config).items() if name != "init"}


def config_of(network: nn.Module) -> NetworkConfig:
    """Return the sizes of a network, with their type."""
    config = network.config
    assert isinstance(config, NetworkConfig)
    return config


def predictions(name: str, logits: Tensor, labels: Sequence[str], target: Target, k: int) -> list[Prediction]:
    """Name the k likeliest classes of each row of logits.

    Args:
        name: of the classifier, for error messages.
        logits: (B, C).
        labels: names of the classes, C of them.
        target: `single` (probabilities by softmax) or `multi` (by the sigmoid of each class).
        k: how many classes, at least 1; more than there are gives all.

    Returns:
        B predictions.

    Raises:
        ModelError: `target` is `regression`.
        VmrError: k is not a whole number of at least 1.
    """
    whole_number("k", k)
    if target == "regression":
        raise ModelError(f"{name} predicts a number, not classes: use `logits`")
    scores = logits.float().softmax(dim=-1) if target == "single" else logits.float().sigmoid()
    top = scores.topk(min(k, scores.shape[1]), dim=-1)
    return [
        Prediction(tuple(labels[i] for i in numbers), tuple(probabilities))
        for numbers, probabilities in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def check_fit(name: str, config: NetworkConfig, labels: Sequence[str], target: Target, clip: ClipInput) -> None:
    """Check that labels and clips fit a network.

    Args:
        name: of the classifier, for error messages.
        config: sizes of the network.
        labels: names of the classes.
        target: what the network predicts.
        clip: the clips that it will be given.

    Raises:
        ModelError: there are more or fewer labels than outputs, a regression has more than one output, or the network
            takes another number of frames or another image size.
    """
    if len(labels) != config.num_classes:
        raise ModelError(f"{name}: {len(labels)} labels for a network of {config.num_classes} classes")
    if target == "regression" and len(labels) != 1:
        raise ModelError(f"{name}: a regression has one output, but the network has {len(labels)}")
    if (clip.num_frames, clip.size) != (config.num_frames, config.image_size):
        raise ModelError(
            f"{name}: clips of {clip.num_frames} frames of {clip.size} pixels, but the network takes "
            f"{config.num_frames} of {config.image_size}"
        )
