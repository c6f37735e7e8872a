"""Save a classifier as a folder and load it again: `config.json` and the weights that it names, no pickles.

`vmr.models.saved_folder` says what holds if a write fails or another process reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.family import VideoClassifier, check_fit, config_of
from vmr.models.classification.networks import Network, build_network
from vmr.models.classifier import ClipInput
from vmr.models.saved_folder import (
    CLASSIFIER,
    Schema,
    fitted_weights,
    packed_weights,
    read_saved,
    read_weights,
    recorded,
    write_saved,
)
from vmr.models.weights import match_weights
from vmr.targets import Target

ABOUT = "a classifier trained with vmr: it knows the classes and the kind of videos that it was trained on"


@dataclass(frozen=True)
class SavedClassifier:
    """The content of `config.json`, without its schema.

    Attributes:
        network: kind and sizes of the network.
        labels: names of the classes.
        target: what the network predicts.
        clip: the clips that it expects.
        weights_file: name of the file of weights, in the same folder.
        weights_sha256: its checksum, in hex.
        vmr_version: the version that saved the classifier.
        training: a record of the training; anything.
    """

    network: NetworkConfig
    labels: tuple[str, ...]
    target: Target
    clip: ClipInput
    weights_file: str
    weights_sha256: str
    vmr_version: str
    training: dict[str, Any] | None


SCHEMA = Schema(f"{CLASSIFIER}/1", SavedClassifier, ("weights",), "classifier")


def save_classifier(
    folder: str | Path,
    network: nn.Module,
    labels: Sequence[str],
    target: Target,
    clip: ClipInput,
    *,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a classifier for `load_model(folder)`, replacing a classifier that is in the folder.

    Args:
        folder: created if needed; may hold other files.
        network: follows `vmr.models.classification.networks.Network`; its weights are stored, but no state of its
            training.
        labels: names of the classes.
        target: what the network predicts.
        clip: the clips that it expects.
        training: a record of how the classifier was made; anything that can be written as JSON.
        dtype: of the stored weights, which are loaded as float32 again; bfloat16 or float16 halve the file.

    Raises:
        ModelError: the labels or the clips do not fit the network, a weight is not finite in `dtype`, `training` is not
            JSON, another process is writing, or the folder holds a config.json that is not a saved classifier's.
        VmrError: a file cannot be written. A classifier that was in the folder is still there.
    """
    network_config = config_of(network)
    check_fit(str(folder), network_config, labels, target, clip)
    weights = packed_weights(network, dtype)
    config = SavedClassifier(
        network=network_config,
        labels=tuple(labels),
        target=target,
        clip=clip,
        **recorded(weights, training),
    )
    write_saved(folder, SCHEMA, config, {"weights": weights})


def load_saved_classifier(
    folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    name: str | None = None,
    about: str = ABOUT,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoClassifier:
    """Load the classifier in a folder that `save_classifier` wrote.

    Args:
        folder: the folder.
        device: where the classifier runs.
        name: of the classifier; default, the folder's absolute path.
        about: one line on what it can and cannot do.
        num_frames: frames of a clip; default, as saved. Temporal positions are interpolated.
        image_size: side of the frames in pixels; default, as saved. Positions are interpolated.

    Returns:
        The classifier, in float32.

    Raises:
        ModelError: a file is absent, damaged, of another schema, or does not fit; the message names it.
    """
    folder = Path(folder).absolute()

    def read(config: SavedClassifier) -> dict[str, Tensor]:
        return read_weights(folder / config.weights_file, config.weights_sha256)

    config, weights = read_saved(folder, SCHEMA, read)
    check_fit(str(folder), config.network, config.labels, config.target, config.clip)
    network = build_network(config.network)
    weights, report = match_weights(str(folder / config.weights_file), weights, network.state_dict())
    network.load_state_dict(weights)
    network, fitted = resize_network(network, num_frames, image_size)
    clip = config.clip
    return VideoClassifier(
        network,
        config.labels,
        config.target,
        replace(clip, num_frames=num_frames or clip.num_frames, size=image_size or clip.size),
        name=name or str(folder),
        about=about,
        device=device,
        report=report.refitted(fitted),
    )


def resize_network(
    network: nn.Module, num_frames: int | None, image_size: int | None
) -> tuple[nn.Module, dict[str, str]]:
    """Fit the positions of a network to another input.

    Args:
        network: follows the protocol `Network`.
        num_frames: frames of a clip; None, as before.
        image_size: side of the frames in pixels; None, as before.

    Returns:
        The network, or a copy for the other input; and changed weights -> description of the change.

    Raises:
        ModelError: the network cannot take this input.
    """
    if num_frames is None and image_size is None:
        return network, {}
    resized = cast("Network", network).resized(num_frames=num_frames, image_size=image_size)
    assert isinstance(resized, nn.Module)
    return resized, fitted_weights(network.state_dict(), resized.state_dict())
