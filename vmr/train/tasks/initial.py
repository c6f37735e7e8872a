"""The weights that a classifier starts from, and the teacher of a classifier."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from vmr.errors import ModelError
from vmr.models.catalogue import load_classifier
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.distillation import HEAD, check_teacher
from vmr.models.classification.family import config_of
from vmr.models.classification.networks import build_network
from vmr.models.classifier import are_numbers, plain_name
from vmr.models.upstream.vision import K710_TO_K400, load_upstream
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.weights import LoadReport, error_prefix, match_weights


def load_classifier_weights(
    network: nn.Module, name: str, *, fresh_head: bool
) -> tuple[LoadReport, tuple[str, ...] | None]:
    """Fill a network with the weights of a trained classifier.

    Positions are interpolated to the number of frames and the image size of the network, and the patch filters of an
    image classifier are inflated.

    Args:
        network: the network.
        name: of a classifier, as `load_classifier` takes it.
        fresh_head: whether the network keeps its own head.

    Returns:
        A report on the weights, and the names of the classes of the head; None if the network keeps its own.

    Raises:
        ModelError: the classifier is of another kind or size, or has another number of classes and `fresh_head` is
            false.
    """
    sizes, fresh = config_of(network), (("head.", HEAD) if fresh_head else (HEAD,))
    with error_prefix(f"model.init: {name}"):
        is_mamba = isinstance(network, VideoMambaClassifier)  # whose positions are interpolated below
        input_size = {} if is_mamba else {"num_frames": sizes.num_frames, "image_size": sizes.image_size}
        classifier = load_classifier(name, "cpu", **input_size)
        found, labels = classifier.network, None if fresh_head else classifier.labels[: sizes.num_classes]
        theirs, weights = config_of(found), found.state_dict()
        if theirs.kind != sizes.kind:
            raise ModelError(f"is a {theirs.kind}, but model.network.kind is {sizes.kind}")
        heads = (theirs.num_classes, sizes.num_classes)
        if not fresh_head and heads[0] != heads[1] and heads != K710_TO_K400:
            raise ModelError(
                f"has {heads[0]} classes, but model.network.num_classes is {heads[1]}: set model.fresh_head to learn "
                "other classes"
            )
        if isinstance(network, VideoMambaClassifier):
            return replace(load_upstream(network, weights, fresh=fresh), source=name), labels
        kept = {key: tensor for key, tensor in weights.items() if not key.startswith(fresh)}
        own = network.state_dict()
        matched, report = match_weights(name, kept, own, may_lack=[key for key in own if key.startswith(fresh)])
        network.load_state_dict(own | matched)
        return report, labels


def check_same_classes(name: str, theirs: Sequence[str], own: Sequence[str]) -> None:
    """Refuse a head that knows other classes, or the same ones in another order; numbers are no names.

    Args:
        name: of the classifier that the head is from.
        theirs: the names of its classes.
        own: the names of the classes to learn, as many.

    Raises:
        ModelError: both have names, and a name differs.
    """
    if are_numbers(theirs) or are_numbers(own):
        return
    for number, (one, other) in enumerate(zip(theirs, own, strict=True)):
        if plain_name(one) != plain_name(other):
            what = "the classes in another order" if set(theirs) == set(own) else "other classes"
            raise ModelError(
                f"model.init: {name} has {what}: its class {number} is {one!r:.60}, but {other!r:.60} in data.sources: "
                "set model.fresh_head to learn a new head"
            )


def load_encoder_weights(network: nn.Module, path: str, *, fresh_norm: bool = False) -> LoadReport:
    """Fill a network, except for its head, with the weights of a video encoder from masked pre-training.

    Args:
        network: the network.
        path: a folder saved by vmr, a checkpoint file of upstream's, or the name of a published one.
        fresh_norm: whether the last norm restarts at 1, as in upstream, which loses it.

    Returns:
        A report on the weights.

    Raises:
        ModelError: the network is no VideoMamba, or the encoder does not fit it.
    """
    if not isinstance(network, VideoMambaClassifier):
        raise ModelError(f"model.video_init: an encoder fits kind videomamba, not {config_of(network).kind}")
    with error_prefix("model.video_init"):
        return load_upstream(network, path, fresh=("head.", HEAD, *(["norm_f."] if fresh_norm else [])))


def load_teacher(name: str, student: NetworkConfig) -> VideoMambaClassifier:
    """Load the teacher of a network.

    Args:
        name: of a classifier, as `load_classifier` takes it.
        student: sizes of the network that learns from it; the teacher takes the same clips.

    Returns:
        The teacher, on the CPU in evaluation mode.

    Raises:
        ModelError: there is no such classifier, or it does not fit the student.
    """
    with error_prefix("classification.distillation.teacher"):
        found = load_classifier(name, "cpu", num_frames=student.num_frames, image_size=student.image_size).network
        check_teacher(name, config_of(found), student)
        teacher = build_network(config_of(found))  # `found` has been laid out for inference on the CPU
        teacher.load_state_dict(found.state_dict())
    assert isinstance(teacher, VideoMambaClassifier)  # check_teacher has seen its kind
    return teacher.eval()
