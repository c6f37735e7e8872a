"""The weights that a classifier starts from, and the teacher of a classifier."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from vmr.errors import ModelError
from vmr.models.catalogue import load_model
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.distillation import HEAD, check_teacher
from vmr.models.classification.family import VideoClassifier, config_of
from vmr.models.classification.networks import build_network
from vmr.models.classification.saved import load_saved_classifier
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.weights import LoadReport, error_prefix, match_weights

_K710_TO_K400 = (710, 400)  # load_upstream cuts this head


def load_classifier_weights(network: nn.Module, name: str, *, fresh_head: bool) -> LoadReport:
    """Fill a network with the weights of a trained classifier.

    Positions are interpolated to the number of frames and the image size of the network, and the patch filters of an
    image classifier are inflated.

    Args:
        network: the network.
        name: a folder saved by vmr, a checkpoint file of upstream's, or the name of a released classifier.
        fresh_head: whether the network keeps its own head.

    Returns:
        A report on the weights.

    Raises:
        ModelError: the classifier is of another kind or size, or has other classes and `fresh_head` is false.
    """
    sizes, fresh = config_of(network), (("head.", HEAD) if fresh_head else (HEAD,))
    if Path(name).is_file():
        weights = find_state_dict(read_checkpoint(name), name)
    else:
        found = _load(name, None if isinstance(network, VideoMambaClassifier) else sizes)
        kind = config_of(found.network).kind
        if kind != sizes.kind:
            raise ModelError(f"model.init: {name} is a {kind}, but model.network.kind is {sizes.kind}")
        weights = found.network.state_dict()
    head = next((len(tensor) for key, tensor in weights.items() if key.endswith("head.weight")), None)
    if not fresh_head and head is not None and (head, sizes.num_classes) != _K710_TO_K400 and head != sizes.num_classes:
        raise ModelError(
            f"model.init: {name} has {head} classes, but model.network.num_classes is {sizes.num_classes}: "
            "set model.fresh_head to learn other classes"
        )
    with error_prefix(f"model.init: {name}"):
        if isinstance(network, VideoMambaClassifier):
            return replace(load_upstream(network, weights, fresh=fresh), source=name)
        kept = {key: tensor for key, tensor in weights.items() if not key.startswith(fresh)}
        own = network.state_dict()
        matched, report = match_weights(name, kept, own, may_lack=[key for key in own if key.startswith(fresh)])
        network.load_state_dict(own | matched)
        return report


def load_encoder_weights(network: nn.Module, path: str) -> LoadReport:
    """Fill a network, except for its head, with the weights of a video encoder from masked pre-training.

    Args:
        network: the network.
        path: a folder saved by vmr, or a checkpoint file of upstream's.

    Returns:
        A report on the weights.

    Raises:
        ModelError: the network is no VideoMamba, or the encoder does not fit it.
    """
    if not isinstance(network, VideoMambaClassifier):
        raise ModelError(f"model.video_init: an encoder fits kind videomamba, not {config_of(network).kind}")
    with error_prefix("model.video_init"):
        return load_upstream(network, path, fresh=("head.", HEAD))


def load_teacher(name: str, student: NetworkConfig) -> VideoMambaClassifier:
    """Load the teacher of a network.

    Args:
        name: a folder saved by vmr, or the name of a released classifier.
        student: sizes of the network that learns from it; the teacher takes the same clips.

    Returns:
        The teacher, on the CPU in evaluation mode.

    Raises:
        ModelError: there is no such classifier, or it does not fit the student.
    """
    with error_prefix("classification.distillation.teacher"):
        found = _load(name, student).network
        check_teacher(name, config_of(found), student)
        teacher = build_network(config_of(found))  # `found` has been laid out for inference on the CPU
        teacher.load_state_dict(found.state_dict())
    assert isinstance(teacher, VideoMambaClassifier)  # check_teacher has seen its kind
    return teacher.eval()


def _load(name: str, sizes: NetworkConfig | None) -> VideoClassifier:
    """Load a classifier, for clips of these sizes if given."""
    frames, pixels = (None, None) if sizes is None else (sizes.num_frames, sizes.image_size)
    if Path(name).is_dir():
        return load_saved_classifier(name, num_frames=frames, image_size=pixels)
    loaded: object = load_model(name, "cpu", num_frames=frames, image_size=pixels)
    if not isinstance(loaded, VideoClassifier):
        raise ModelError(f"{name}: is an encoder, not a classifier")
    return loaded
