"""Published classifiers of VideoMamba by name, and files in their format: completely, or not at all.

Files of images hold the weights under `model`, those of videos hold nothing else; both are read, each key of a file is
accounted for, and the number of frames and the size of the images are read from the weights themselves.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.classification.class_names import known_names, numbered_names, why_numbered
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.family import VideoClassifier
from vmr.models.classifier import ClipInput
from vmr.models.upstream.published_vision import PUBLISHED_VISION, PublishedVision, local_file
from vmr.models.upstream.vision import checked_shape, infer_config, load_upstream, select_vision_keys
from vmr.models.videomamba.backbone import SIZES
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.weights import error_prefix

ABOUT_FILE = "a VideoMamba classifier in upstream's format, from a file"

_NO_HEAD = (
    "has no head, so that it names no classes: it is an encoder of masked pre-training. Start a training from it with "
    "model.video_init"
)

logger = logging.getLogger(__name__)


def load_released_classifier(
    name: str,
    device: str | torch.device = "cpu",
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoClassifier:
    """Load a published classifier; what is known to be wrong with its weights is logged.

    Args:
        name: a key of `PUBLISHED_VISION`.
        device: where the classifier runs.
        num_frames: frames of a clip; default, as published. Temporal positions are interpolated.
        image_size: side of the frames in pixels; default, as published. Positions are interpolated.

    Returns:
        The classifier.

    Raises:
        ModelError: the file cannot be downloaded, does not fit, or is an encoder of masked pre-training.
    """
    published = PUBLISHED_VISION[name]
    if not published.has_head:
        raise ModelError(f"{name} {_NO_HEAD}")
    return load_classifier_file(
        local_file(name),
        device,
        name=name,
        published=published,
        num_frames=num_frames,
        image_size=image_size,
    )


def load_classifier_file(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    name: str | None = None,
    published: PublishedVision | None = None,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoClassifier:
    """Load a classifier from a file in upstream's format.

    Args:
        path: the file.
        device: where the classifier runs.
        name: of the classifier; default, the file's absolute path.
        published: what was published in this file; default, found by the name of the file. Without it the classes are
            numbered, and clips take frames by the rule of the data.
        num_frames: frames of a clip; default, as published, or those of the weights. Temporal positions are
            interpolated; an image classifier is inflated to a video classifier.
        image_size: side of the frames in pixels; default, as published, or that of the weights. Positions are
            interpolated.

    Returns:
        The classifier.

    Raises:
        ModelError: the file cannot be read safely, anything in it is missing, left over or of another shape, or it is
            not what was published.
    """
    path = Path(path).absolute()
    published = published or next((one for one in PUBLISHED_VISION.values() if one.file == path.name), None)
    weights = find_state_dict(read_checkpoint(path), str(path))
    stored = infer_network_config(weights, str(path))
    known = stored if published is None else _checked(published, stored, path)
    sizes = replace(stored, num_frames=num_frames or known.num_frames, image_size=image_size or known.image_size)
    network = VideoMambaClassifier(sizes)
    report = load_upstream(network, path)
    frames = published.frames if published is not None and published.num_frames > 1 else None
    classifier = VideoClassifier(
        network,
        _labels(published, sizes.num_classes),
        "single",
        ClipInput(sizes.num_frames, sizes.image_size, frames),
        name=name or str(path),
        about=ABOUT_FILE if published is None else published.about,
        device=device,
        report=report,
    )
    if published is not None and published.defect is not None:
        logger.warning("%s: %s", classifier.name, published.defect)
    return classifier


def is_classifier_file(path: str | Path) -> bool:
    """Tell whether a file holds a classifier, rather than a video-text model.

    Args:
        path: a checkpoint file.

    Raises:
        ModelError: the file cannot be read safely, is an encoder without a head, or holds no VideoMamba.
    """
    weights = find_state_dict(read_checkpoint(path), str(path))
    if any(key.startswith("text_encoder.") for key in weights):
        return False
    with error_prefix(str(path)):
        keys, _ = select_vision_keys(weights)
    if "patch_embed.proj.weight" in keys and "head.weight" not in keys:
        raise ModelError(f"{path} {_NO_HEAD}")
    if "head.weight" not in keys:
        raise ModelError(f"{path}: no weights of VideoMamba: it has {min(weights)}, but no patch_embed.proj.weight")
    return True


def infer_network_config(state_dict: dict[str, Tensor], source: str) -> NetworkConfig:
    """Infer the sizes of a classifier from the shapes of its weights.

    Args:
        state_dict: the weights of a file.
        source: name of the file in error messages.

    Returns:
        The sizes. Weights of images have clips of one frame.

    Raises:
        ModelError: a weight that shows a size is missing or has another number of dimensions.
    """
    with error_prefix(source):
        weights, _ = select_vision_keys(state_dict)
    if "head.weight" not in weights:
        raise ModelError(f"{source} {_NO_HEAD}")
    sizes = infer_config(weights, source=source)
    num_classes, _ = checked_shape(source, weights, "head.weight", None, sizes.width)
    return NetworkConfig(
        width=sizes.width,
        num_layers=sizes.num_layers,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        num_frames=sizes.num_frames,
        tubelet_size=sizes.tubelet_size,
        num_classes=num_classes,
    )


def published_config(published: PublishedVision) -> NetworkConfig:
    """Return the sizes of a published classifier."""
    width, num_layers = next(sizes for size, sizes in SIZES.items() if size == published.size)
    return NetworkConfig(
        width=width,
        num_layers=num_layers,
        image_size=published.image_size,
        num_frames=published.num_frames,
        num_classes=published.num_classes,
    )


def _checked(published: PublishedVision, stored: NetworkConfig, path: Path) -> NetworkConfig:
    """Return the sizes of what was published, if a file holds it; it may hold other frames and pixels."""
    wanted = published_config(published)
    for name in ("width", "num_layers", "patch_size", "tubelet_size", "num_classes"):
        if getattr(stored, name) != getattr(wanted, name):
            raise ModelError(
                f"{path}: {name} is {getattr(stored, name)}, but {getattr(wanted, name)} in what was published as "
                f"{published.name}: delete the file and load it again, or give it another name to load it as it is"
            )
    return wanted


def _labels(published: PublishedVision | None, num_classes: int) -> Sequence[str]:
    names = None if published is None else known_names(published.data)
    if published is not None and names is None:
        logger.warning("%s: %s", published.name, why_numbered(published.data))
    return numbered_names(num_classes) if names is None else names
