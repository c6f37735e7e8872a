"""Load the released VideoMamba vision weights, and account for every key in them.

Upstream's own loading is `strict=False` throughout, so that a misspelt name loads nothing and says nothing. Here each
key of the file is loaded as it is, fitted (interpolated or inflated), or ignored by a rule that is written below; each
weight of the model comes from the file or was allowed to start fresh. Anything else is a ModelError.

Vision files are bare state dicts or hold one under `model` or `module`; fine-tuned ones prefix their keys by
`backbone.` or `encoder.`; full video-text checkpoints hold the encoder under `vision_encoder.`. Encoders call their
final norm `norm`, classifiers `norm_f`.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vmr.errors import ModelError
from vmr.models.backbone import VideoMambaBackbone
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.interpolation import inflate_patch_filter, interpolate_positions, interpolate_time
from vmr.models.student import StudentConfig
from vmr.models.video_encoder import VideoMamba, VideoMambaConfig

K710_TO_K400 = (710, 400)  # Kinetics-710 lists the classes of Kinetics-400 first, in the same order

_PREFIXES = ("backbone.", "encoder.")
_ENCODER_IN_FULL_MODEL = "vision_encoder."
_NOT_VISION = ("text_encoder.", "clip_teacher.", "vision_proj.", "text_proj.", "itm_head.", "temp")


@dataclass(frozen=True)
class LoadReport:
    """What became of every key of a file, and of every weight of the model."""

    source: str
    loaded: tuple[str, ...]
    """weights taken as they are"""
    fitted: dict[str, str]
    """weights made to fit, with what was done"""
    ignored: dict[str, str]
    """keys of the file left aside, with the rule that says so"""
    fresh: tuple[str, ...]
    """weights the file does not have, left as they were, as the caller allowed"""

    def __str__(self) -> str:
        parts = [f"{self.source}: {len(self.loaded) + len(self.fitted)} weights loaded"]
        if self.fitted:
            parts.append(", ".join(f"{key} {how}" for key, how in self.fitted.items()))
        if self.ignored:
            parts.append(f"{len(self.ignored)} keys ignored ({', '.join(sorted(set(self.ignored.values())))})")
        if self.fresh:
            parts.append(f"{len(self.fresh)} weights left fresh, first: {self.fresh[0]}")
        return "; ".join(parts)


def load_upstream(
    model: VideoMambaBackbone, weights: str | Path | Mapping[str, Tensor], *, fresh: Collection[str] = ()
) -> LoadReport:
    """Fill a video encoder or classifier with upstream weights.

    Positions are interpolated to the model's size and number of frames, image patch filters inflated to video ones,
    and a Kinetics-710 head cut to Kinetics-400; the model is not touched unless everything fits.

    Args:
        model: a `VideoMamba` or `VideoMambaClassifier`, in any dtype.
        weights: a checkpoint file, or the content of one.
        fresh: prefixes of weights that may be absent from the file, such as "head." before fine-tuning. Keys of the
            file under these prefixes are ignored.

    Raises:
        ModelError: the file cannot be read safely, or keys are missing, left over, or of a shape that nothing fits.
    """
    source = Path(weights).name if isinstance(weights, str | Path) else "state dict"
    content = read_checkpoint(weights) if isinstance(weights, str | Path) else weights
    available, ignored = select_vision_keys(find_state_dict(content, source))
    wanted = model.state_dict()
    ignored.update(_take_unused(available, model, tuple(fresh)))
    matched = {key: available.pop(key) for key in wanted if key in available}
    missing = [key for key in wanted if key not in matched and not key.startswith(tuple(fresh))]
    missing = [key for key in missing if not _is_image_without_time(key, matched)]
    check_complete(source, missing, list(available), len(wanted))

    fits = {key: fit_tensor(key, tensor, wanted[key]) for key, tensor in matched.items()}
    fitted = {key: how for key, (_, how) in fits.items() if how}
    matched = {key: tensor for key, (tensor, _) in fits.items()}
    check_shapes(source, matched, wanted)
    model.load_state_dict(wanted | matched)
    return LoadReport(
        source=source,
        loaded=tuple(key for key in matched if key not in fitted),
        fitted=fitted,
        ignored=ignored,
        fresh=tuple(key for key in wanted if key not in matched),
    )


def select_vision_keys(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Bring the keys of any vision file to the names of the model.

    Returns the weights by their bare names, and the keys set aside with the reason. Raises ModelError if two keys
    come to the same name.
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
            raise ModelError(f"two keys mean {name}: {key} is one of them")
        vision[name] = tensor
    return vision, ignored


def infer_config(state_dict: Mapping[str, Tensor], *, tubelet_size: int = 1) -> VideoMambaConfig:
    """The encoder that upstream vision weights belong to, read off their shapes.

    `tubelet_size` matters for image weights only, whose patch filter has no time. Raises ModelError if a key that
    tells a size is missing.
    """
    weights, _ = select_vision_keys(state_dict)
    for key in ("pos_embed", "patch_embed.proj.weight"):
        if key not in weights:
            raise ModelError(f"not VideoMamba vision weights: no {key} among {len(weights)} keys")
    patch_filter, positions = weights["patch_embed.proj.weight"], weights["pos_embed"]
    tubelet_size = patch_filter.shape[2] if patch_filter.dim() == 5 else tubelet_size
    num_steps = weights["temporal_pos_embedding"].shape[1] if "temporal_pos_embedding" in weights else 1
    taps = [tensor for key, tensor in weights.items() if re.fullmatch(r"clip_decoder\.\d+\.head\.weight", key)]
    return VideoMambaConfig(
        width=positions.shape[2],
        num_layers=len({key.split(".")[1] for key in weights if key.startswith("layers.")}),
        image_size=math.isqrt(positions.shape[1] - 1) * patch_filter.shape[-1],
        patch_size=patch_filter.shape[-1],
        num_frames=num_steps * tubelet_size,
        tubelet_size=tubelet_size,
        student=StudentConfig(teacher_dim=taps[0].shape[0], num_taps=len(taps)) if taps else None,
    )


def inflate_image_weights(state_dict: Mapping[str, Tensor], tubelet_size: int = 1) -> dict[str, Tensor]:
    """Image weights as the start of a video model, as upstream makes them: patch filter inflated, head left out."""
    weights = {key: tensor for key, tensor in state_dict.items() if not key.startswith("head.")}
    weights["patch_embed.proj.weight"] = inflate_patch_filter(weights["patch_embed.proj.weight"], tubelet_size)
    return weights


def fit_tensor(key: str, tensor: Tensor, wanted: Tensor) -> tuple[Tensor, str]:
    """Make a weight fit the model where a rule says how; returns it and what was done ("" for nothing)."""
    if tensor.shape == wanted.shape:
        return tensor, ""
    change = f"from {_size(tensor)} to {_size(wanted)}"
    if key == "pos_embed" and _same_but(tensor, wanted, dim=1):
        return interpolate_positions(tensor, math.isqrt(wanted.shape[1] - 1)), f"interpolated {change}"
    if key == "temporal_pos_embedding" and _same_but(tensor, wanted, dim=1):
        return interpolate_time(tensor, wanted.shape[1]), f"interpolated {change}"
    if key == "patch_embed.proj.weight" and tensor.dim() == 4:
        return inflate_patch_filter(tensor, wanted.shape[2]), f"inflated {change}"
    if key in ("head.weight", "head.bias") and (len(tensor), len(wanted)) == K710_TO_K400:
        return tensor[: len(wanted)], "cut from 710 to its first 400 classes"
    return tensor, ""


def _take_unused(available: dict[str, Tensor], model: VideoMambaBackbone, fresh: tuple[str, ...]) -> dict[str, str]:
    """Remove from `available` what this kind of model has no use for, giving the reasons; settle the norm's name."""
    own, other = "norm.weight", "norm_f.weight"
    unused: tuple[str, ...] = ("clip_decoder.", "pool_norm.")
    if isinstance(model, VideoMamba):
        unused = ("head.",) if model.config.student else ("head.", "clip_decoder.")
    else:
        own, other = other, own
    if own not in available and other in available:
        available[own] = available.pop(other)
    reasons = {key: "this model has no such part" for key in available if key.startswith(unused)}
    reasons |= {key: "asked to start fresh" for key in available if key.startswith(fresh)}
    for key in reasons:
        del available[key]
    return reasons


def _is_image_without_time(key: str, matched: Mapping[str, Tensor]) -> bool:
    """Image weights know no time; temporal positions then start at zero, as upstream starts them."""
    patch_filter = matched.get("patch_embed.proj.weight")
    return key == "temporal_pos_embedding" and patch_filter is not None and patch_filter.dim() == 4


def check_complete(source: str, missing: list[str], left_over: list[str], num_wanted: int) -> None:
    """Raise ModelError, naming the first keys, unless nothing is missing and nothing left over."""
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of {num_wanted} keys, first: {', '.join(missing[:3])}")
    if left_over:
        problems.append(f"has {len(left_over)} left over, first: {', '.join(left_over[:3])}")
    if problems:
        raise ModelError(f"{source} {'; '.join(problems)}")


def check_shapes(source: str, matched: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ModelError, naming the first key, unless every weight has the shape of the one that it is to fill."""
    wrong = [key for key in matched if matched[key].shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"{source} has {len(wrong)} of {len(wanted)} keys in another shape, first: "
            f"{key} is {_size(matched[key])}, but this model takes {_size(wanted[key])}"
        )


def _same_but(tensor: Tensor, wanted: Tensor, *, dim: int) -> bool:
    return tensor.dim() == wanted.dim() and all(
        tensor.shape[i] == wanted.shape[i] for i in range(wanted.dim()) if i != dim
    )


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
