"""Load the released VideoMamba vision weights, and report on every key.

Upstream always loads with `strict=False`, so that a misspelt name loads nothing without a message. Here each key of the
file is loaded as it is, fitted (interpolated or inflated), or ignored by a rule below; each weight of the model comes
from the file, or the caller allows it to keep its initial value. Anything else is a ModelError.

Vision files are bare state dicts or hold one under `model` or `module`; fine-tuned ones prefix their keys by
`backbone.` or `encoder.`; full video-text checkpoints hold the encoder under `vision_encoder.`. Encoders call their
final norm `norm`, classifiers `norm_f`.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.saved_folder import read_any_weights
from vmr.models.upstream.published_vision import local_file
from vmr.models.videomamba.backbone import SIZES, VideoMambaBackbone
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.interpolation import inflate_patch_filter, interpolate_positions, interpolate_time
from vmr.models.videomamba.student import StudentConfig
from vmr.models.weights import LoadReport, error_prefix, match_weights, shape_text

K710_TO_K400 = (710, 400)  # Kinetics-710 lists the classes of Kinetics-400 first, in the same order

_PREFIXES = ("backbone.", "encoder.")
_ENCODER_IN_FULL_MODEL = "vision_encoder."
_PARTS = ("head.", "distill_head.", "clip_decoder.", "pool_norm.")
"""Parts that not every kind of network has: of classifiers, of self-distillation, and of encoders for retrieval."""
_NOT_VISION = ("text_encoder.", "clip_teacher.", "vision_proj.", "text_proj.", "itm_head.", "temp")


def load_upstream(
    model: VideoMambaBackbone, weights: str | Path | Mapping[str, Tensor], *, fresh: Collection[str] = ()
) -> LoadReport:
    """Fill a video encoder or classifier with upstream weights.

    Positions are interpolated to the model's size and number of frames, image patch filters are inflated to video ones,
    and a Kinetics-710 head is cut to Kinetics-400. The model does not change unless everything fits.

    Args:
        model: a `VideoMamba` or `VideoMambaClassifier`, in any dtype.
        weights: a checkpoint file, a folder saved by vmr (see `read_vision`), or the content of a file.
        fresh: prefixes of weights that the model keeps as they are, such as "head." before fine-tuning. They may be
            absent from the file; keys of the file under these prefixes are ignored. "norm_f." lets the
            final norm restart at 1 after masked pre-training, as upstream does by accident: it looks for another name.

    Returns:
        A report on every key.

    Raises:
        ModelError: the file cannot be read safely, or keys are missing, left over, or of a shape that no rule can fit.
    """
    source = str(weights) if isinstance(weights, str | Path) else "state dict"
    state_dict = read_vision(weights) if isinstance(weights, str | Path) else find_state_dict(weights, source)
    with error_prefix(source):
        available, ignored = select_vision_keys(state_dict)
    wanted = model.state_dict()
    ignored.update(_take_unused(available, model, tuple(fresh)))
    may_lack = [key for key in wanted if key.startswith(tuple(fresh)) or _is_image_without_time(key, available)]
    matched, report = match_weights(source, available, wanted, may_lack=may_lack, fit=fit_tensor)
    model.load_state_dict(wanted | matched)
    return replace(report, ignored=ignored)


def read_vision(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a video encoder or classifier.

    Args:
        path: a checkpoint file, a folder saved by vmr, or the name of a published file, see
            `vmr.models.upstream.published_vision`; of a video-text model, its video encoder is read.

    Returns:
        Key -> weight, by the names in the file.

    Raises:
        ModelError: the file cannot be read safely, or holds no weights; or the folder holds no saved model.
    """
    if not Path(path).is_dir():
        return find_state_dict(read_checkpoint(local_file(path)), str(path))
    weights, part = read_any_weights(path), "video_encoder."
    encoder = {key.removeprefix(part): tensor for key, tensor in weights.items() if key.startswith(part)}
    return encoder or weights


def select_vision_keys(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Rename the keys of any vision file to the names of the model.

    Args:
        state_dict: the weights of a file.

    Returns:
        The weights by the names of the model, and the keys that are not part of the vision encoder -> the reason.

    Raises:
        ModelError: two keys are renamed to the same name.
    """
    is_full_model = any(key.startswith(_ENCODER_IN_FULL_MODEL) for key in state_dict)
    vision: dict[str, Tensor] = {}
    ignored: dict[str, str] = {}
    for key, tensor in state_dict.items():
        if is_full_model and key.startswith(_NOT_VISION):
            ignored[key] = "not part of the vision encoder"
            continue
        name = key
        for prefix in (_ENCODER_IN_FULL_MODEL, *_PREFIXES):
            name = name.removeprefix(prefix)
        if name in vision:
            raise ModelError(f"two keys stand for {name}: {key} is one of them")
        vision[name] = tensor
    return vision, ignored


def infer_config(
    state_dict: Mapping[str, Tensor],
    *,
    source: str = "state dict",
    stated_layers: Collection[int] = (),
) -> VideoMambaConfig:
    """Infer the sizes of a video encoder from the shapes of its weights.

    Args:
        state_dict: weights of any layout that `load_upstream` reads; other parts of a full model are ignored.
        source: name of the file in error messages.
        stated_layers: the number of layers in the config of the run that wrote the file; empty if there is no config.

    Returns:
        The sizes. Image weights, whose patch filter has no time, give a tubelet size and a number of frames of 1.

    Raises:
        ModelError: a key that shows a size is missing or has another number of dimensions, or all keys of a layer are
            missing.
    """
    prefix = _prefix_of(state_dict)
    patch_key, position_key, time_key = (
        f"{prefix}{name}" for name in ("patch_embed.proj.weight", "pos_embed", "temporal_pos_embedding")
    )
    is_image = patch_key in state_dict and state_dict[patch_key].dim() == 4
    tubelet = () if is_image else (None,)
    width, _, *in_time, _, patch_size = checked_shape(source, state_dict, patch_key, None, 3, *tubelet, None, None)
    num_patches = checked_shape(source, state_dict, position_key, 1, None, width)[1] - 1
    grid_size = math.isqrt(num_patches)
    if grid_size == 0 or grid_size**2 != num_patches:
        raise ModelError(f"{source}: {position_key} has CLS and {num_patches} patches, which is no square grid")
    num_steps = checked_shape(source, state_dict, time_key, 1, None, width)[1] if time_key in state_dict else 1
    num_layers = count_numbered(source, state_dict, f"{prefix}layers.")
    published = dict(SIZES.values()).get(width) if patch_size == 16 else None
    check_depth(source, "the video encoder", width, num_layers, stated_layers, published)
    tubelet_size = in_time[0] if in_time else 1  # the patch filter of image weights has no time
    student = _infer_student(source, state_dict, f"{prefix}clip_decoder.", width)
    with error_prefix(source):
        return VideoMambaConfig(
            width=width,
            num_layers=num_layers,
            image_size=grid_size * patch_size,
            patch_size=patch_size,
            num_frames=num_steps * tubelet_size,
            tubelet_size=tubelet_size,
            student=student,
        )


def fit_tensor(key: str, tensor: Tensor, wanted: Tensor) -> tuple[Tensor, str]:
    """Change a weight of another shape so that it fits the model, if a rule says how.

    Args:
        key: name of the weight, with or without `vision_encoder.` before it.
        tensor: the weight of the file.
        wanted: the weight of the model.

    Returns:
        The weight to load, and a description of the change; "" if nothing was changed, because the shape is right or no
        rule applies.
    """
    key = key.removeprefix(_ENCODER_IN_FULL_MODEL)
    if tensor.dim() == 0 or tensor.shape == wanted.shape:
        return tensor, ""
    change = f"from {shape_text(tensor.shape)} to {shape_text(wanted.shape)}"
    if key == "pos_embed" and _same_but(tensor, wanted, dim=1) and tensor.shape[1] > 1:
        return interpolate_positions(tensor, math.isqrt(wanted.shape[1] - 1)), f"interpolated {change}"
    if key == "temporal_pos_embedding" and _same_but(tensor, wanted, dim=1) and tensor.shape[1] > 0:
        return interpolate_time(tensor, wanted.shape[1]), f"interpolated {change}"
    if key == "patch_embed.proj.weight" and tensor.dim() == 4:
        return inflate_patch_filter(tensor, wanted.shape[2]), f"inflated {change}"
    if key in ("head.weight", "head.bias") and (len(tensor), len(wanted)) == K710_TO_K400:
        return tensor[: len(wanted)], "cut from 710 to its first 400 classes"
    return tensor, ""


def _take_unused(available: dict[str, Tensor], model: VideoMambaBackbone, fresh: tuple[str, ...]) -> dict[str, str]:
    """Remove from `available` what this kind of model does not use, and return the reasons; rename the final norm."""
    own, other = "norm.weight", "norm_f.weight"
    if not isinstance(model, VideoMamba):
        own, other = other, own
    if own not in available and other in available:
        available[own] = available.pop(other)
    has = tuple(model.state_dict())
    unused = tuple(part for part in _PARTS if not any(key.startswith(part) for key in has))
    reasons = {key: "this model has no such part" for key in available if key.startswith(unused)}
    reasons |= {key: "asked to start fresh" for key in available if key.startswith(fresh)}
    for key in reasons:
        del available[key]
    return reasons


def _is_image_without_time(key: str, available: Mapping[str, Tensor]) -> bool:
    """Whether `key` is the temporal positions, which start at 0 (upstream) if the file holds image weights."""
    patch_filter = available.get("patch_embed.proj.weight")
    return key == "temporal_pos_embedding" and patch_filter is not None and patch_filter.dim() == 4


def _prefix_of(state_dict: Mapping[str, Tensor]) -> str:
    """The prefix of the video encoder's names in the keys of a file."""
    prefixes = (_ENCODER_IN_FULL_MODEL, *_PREFIXES)
    return next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in state_dict)), "")


def _infer_student(source: str, state_dict: Mapping[str, Tensor], prefix: str, width: int) -> StudentConfig | None:
    """Sizes of the student outputs, None if the file has none. All of them must be there, with heads of one shape."""
    if not any(key.startswith(prefix) for key in state_dict):
        return None
    num_taps = count_numbered(source, state_dict, prefix)
    teacher_dim = None
    for tap in range(num_taps):
        teacher_dim, _ = checked_shape(source, state_dict, f"{prefix}{tap}.head.weight", teacher_dim, width)
    assert teacher_dim is not None  # there is at least one tap
    return StudentConfig(teacher_dim, num_taps)


def count_numbered(source: str, keys: Iterable[str], prefix: str) -> int:
    """Count the parts, such as layers, that are numbered after a prefix.

    Args:
        source: name of the file in error messages.
        keys: keys of the file.
        prefix: what stands before the numbers, such as `layers.`.

    Returns:
        How many there are, at least 1.

    Raises:
        ModelError: the numbers are not 0, 1, 2 and so on without a gap.
    """
    number = re.compile(rf"{re.escape(prefix)}(\d{{1,9}})\.")
    found = {int(match[1]) for key in keys if (match := number.match(key))}
    gap = next(index for index in range(len(found) + 1) if index not in found)
    if gap < max(len(found), 1):
        raise ModelError(f"{source}: all keys of {prefix}{gap}.* are missing")
    return len(found)


def check_depth(
    source: str, part: str, width: int, num_layers: int, stated: Collection[int], published: int | None
) -> None:
    """Check the number of layers of a part against the config of the run, or against the published models.

    Weights whose last layers are missing look like those of a smaller model, so the shapes alone do not show it.

    Args:
        source: name of the file in error messages.
        part: what the layers belong to, for error messages.
        width: of the layers, for error messages.
        num_layers: how many the file has.
        stated: how many the config of the run states; empty if it states none.
        published: how many a published model of this width has, used if the config states none; None if unknown.

    Raises:
        ModelError: the numbers differ.
    """
    expected = sorted(stated) or ([published] if published else [])
    if expected and num_layers not in expected:
        by = "its config says" if stated else "the published size has"
        raise ModelError(
            f"{source}: {part} has {num_layers} layers of width {width}, {by} {' or '.join(map(str, expected))}: "
            "a layer's keys are missing, or it is another model's file"
        )


def checked_shape(source: str, weights: Mapping[str, Tensor], key: str, *shape: int | None) -> torch.Size:
    """Get the shape of a weight from which sizes are inferred.

    Args:
        source: name of the file in error messages.
        weights: weights of the file.
        key: of the weight.
        shape: the expected length of each dimension; None for any length except 0.

    Returns:
        The shape.

    Raises:
        ModelError: the weight is missing or has another shape; the message names the key.
    """
    if key not in weights:
        raise ModelError(f"{source} lacks {key}, from which a size is read, among {len(weights)} keys")
    found = weights[key].shape
    fits = len(found) == len(shape) and all(
        length > 0 and known in (None, length) for length, known in zip(found, shape, strict=True)
    )
    if not fits:
        expected = "x".join("?" if known is None else str(known) for known in shape)
        raise ModelError(f"{source}: {key} is {shape_text(found)}, but must be {expected}")
    return found


def _same_but(tensor: Tensor, wanted: Tensor, *, dim: int) -> bool:
    return tensor.dim() == wanted.dim() and all(
        tensor.shape[i] == wanted.shape[i] for i in range(wanted.dim()) if i != dim
    )
