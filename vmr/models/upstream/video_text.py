"""Load a released VideoMamba video-text checkpoint completely, or not at all.

Upstream's training checkpoints hold the weights under `model`, the state of the optimiser, which is not used, and the
config of the run, a pickled EasyDict. Bare state dicts and `.safetensors` files are read as well. Upstream names its
BERT `text_encoder.bert.*` in pre-training and `text_encoder.*`, without the masked language modelling head, in
retrieval.

Every key of the file is loaded, fitted (positions, to another size or number of frames) or ignored by a rule below;
every weight of the model comes from the file. Errors and reports name keys as the file does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vmr.errors import ModelError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.text.bert_names import bert_name, tied_copies
from vmr.models.text.encoder import TextConfig
from vmr.models.upstream.vision import check_depth, checked_shape, count_numbered, fit_tensor, infer_config
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.weights import LoadReport, check_complete, check_ties, error_prefix, match_weights
from vmr.ops.backend import Backend

# Of the published BERTs (base, large), by width.
HEADS_OF_WIDTH = {768: 12, 1024: 16}
LAYERS_OF_WIDTH = {768: 12, 1024: 24}
TEXT_LAYERS_OF_WIDTH = {768: 9}
"""Those before fusion, in the released models."""

_BERT_PARTS = ("text_encoder.", "fusion.", "masked_lm_head.")
# Our prefix -> upstream's prefix, without the parts of BERT. The first entry that a name starts with applies.
_PARTS = {
    "video_encoder.": "vision_encoder.",
    "video_proj.": "vision_proj.",
    "text_proj.": "text_proj.",
    "matching_head.": "itm_head.",
    "temperature": "temp",
}
_TEACHER = (
    "class_embedding", "positional_embedding", "proj", "conv1.weight",
    "ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias",
)  # fmt: skip
_TEACHER_BLOCK = (
    "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias",
    "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
    "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias",
)  # fmt: skip


@dataclass(frozen=True)
class UpstreamVideoText:
    """What a checkpoint holds.

    Attributes:
        source: name of the file in messages.
        weights: upstream's name -> weight.
        settings: the config of the run that wrote the checkpoint; empty where there is none.
    """

    source: str
    weights: dict[str, Tensor]
    settings: Mapping[str, Any]

    @property
    def bert_prefix(self) -> str:
        """The prefix between `text_encoder.` and BERT's own names: `bert.` or empty."""
        return "bert." if any(key.startswith("text_encoder.bert.") for key in self.weights) else ""


def upstream_name(name: str, num_text_layers: int, bert_prefix: str = "bert.") -> str:
    """Give upstream's name of a weight of a VideoTextModel.

    Args:
        name: our name.
        num_text_layers: layers of the text encoder; upstream numbers the fusion layers after them.
        bert_prefix: `bert.` for checkpoints of pre-training, "" for those of retrieval.

    Returns:
        Upstream's name.

    Raises:
        ModelError: upstream's models have no such weight.
    """
    if name.startswith(_BERT_PARTS):
        return f"text_encoder.{bert_name(name, num_text_layers, bert_prefix)}"
    for ours, theirs in _PARTS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ModelError(f"{name}: upstream's models have no such weight")


def video_text_from_upstream(
    weights: str | Path | Mapping[str, Any],
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
    num_heads: int | None = None,
    backend: Backend = "auto",
) -> tuple[VideoTextModel, LoadReport]:
    """Build the model of a video-text checkpoint and fill it.

    Args:
        weights: a checkpoint file of upstream's, or its content, in any of the layouts that upstream writes.
        num_frames: frames of a clip; default, those of the checkpoint. Temporal positions are interpolated.
        image_size: side of the frames in pixels; default, that of the checkpoint. Positions are interpolated.
        num_heads: attention heads of BERT, which no weight shows; needed only for unusual widths.
        backend: implementation of the kernels, as in `vmr.ops.backend`.

    Returns:
        The model, in evaluation mode, and a report on each key of the checkpoint.

    Raises:
        ModelError: the file cannot be read safely, or anything in it is missing, left over or of another shape.
    """
    checkpoint = read_video_text(weights)
    config = infer_video_text_config(checkpoint, num_heads=num_heads)
    video = replace(
        config.video,
        num_frames=num_frames or config.video.num_frames,
        image_size=image_size or config.video.image_size,
    )
    model = VideoTextModel(replace(config, video=video), backend=backend).eval()
    return model, load_video_text(model, checkpoint)


def read_video_text(checkpoint: str | Path | Mapping[str, Any]) -> UpstreamVideoText:
    """Read a checkpoint file without running anything that it holds.

    Args:
        checkpoint: the file, or its content.

    Returns:
        Weights and settings.

    Raises:
        ModelError: the file is absent or damaged, asks for code to be run, or holds no weights.
    """
    if isinstance(checkpoint, Mapping):
        source, content = "state dict", checkpoint
    else:
        source, content = str(checkpoint), read_checkpoint(checkpoint)
    settings = content.get("config")
    return UpstreamVideoText(
        source, find_state_dict(content, source), settings if isinstance(settings, Mapping) else {}
    )


def infer_video_text_config(checkpoint: UpstreamVideoText, *, num_heads: int | None = None) -> VideoTextConfig:
    """Infer the sizes of a model from the shapes of its weights.

    No shape shows the number of attention heads. It is `num_heads`, or that of the published BERT of this width, or
    `num_attention_heads` of the text encoder in the pickled config. No shape shows either that all keys of the last
    layer are missing, so the numbers of layers are compared with the pickled config, or with the published models of
    these widths.

    Args:
        checkpoint: weights and settings.
        num_heads: attention heads of BERT; default, found as described.

    Returns:
        The sizes.

    Raises:
        ModelError: the number of heads cannot be found, a weight that shows a size is missing or has a wrong shape, or
            layers are missing.
    """
    source, weights, text = checkpoint.source, checkpoint.weights, f"text_encoder.{checkpoint.bert_prefix}"
    num_text_layers = _count_text_layers(checkpoint, f"{text}encoder.layer.")
    num_layers = count_numbered(source, weights, f"{text}encoder.layer.")
    vocab_size, width = checked_shape(source, weights, f"{text}embeddings.word_embeddings.weight", None, None)
    for part, count, setting, published in (
        ("BERT", num_layers, "num_hidden_layers", LAYERS_OF_WIDTH),
        ("BERT before its first crossattention", num_text_layers, "fusion_layer", TEXT_LAYERS_OF_WIDTH),
    ):
        check_depth(source, part, width, count, _stated(checkpoint, "text_encoder", setting), published.get(width))
    stated_layers = _stated(checkpoint, "vision_encoder", "depth")
    video = infer_config(weights, source=source, stated_layers=stated_layers)
    max_positions, _ = checked_shape(source, weights, f"{text}embeddings.position_embeddings.weight", None, width)
    feed_forward, _ = checked_shape(source, weights, f"{text}encoder.layer.0.intermediate.dense.weight", None, width)
    embed_dim, _ = checked_shape(source, weights, "text_proj.weight", None, width)
    heads = _find_num_heads(checkpoint, width) if num_heads is None else num_heads
    with error_prefix(source):
        return VideoTextConfig(
            video=video,
            text=TextConfig(vocab_size, width, num_layers, num_text_layers, heads, feed_forward, max_positions),
            embed_dim=embed_dim,
            masked_lm=any(key.startswith("text_encoder.cls.") for key in weights),
        )


def load_video_text(model: VideoTextModel, checkpoint: UpstreamVideoText) -> LoadReport:
    """Fill a model with a checkpoint; the model does not change unless everything fits.

    The frozen teacher, constants, copies of tied weights, and parts that the model does not have (student outputs,
    masked language modelling head) are ignored.

    Args:
        model: any; positions are fitted to its image size and number of frames.
        checkpoint: weights and settings.

    Returns:
        A report on every key, by the names in the file.

    Raises:
        ModelError: keys are missing, left over, of a shape that no rule can fit, or not finite; the masked language
            modelling head or the teacher is incomplete; or a copy of a tied weight differs from it.
    """
    config = model.config
    source, available, bert = checkpoint.source, dict(checkpoint.weights), checkpoint.bert_prefix
    state = model.state_dict()
    ours = {upstream_name(name, config.text.num_text_layers, bert): name for name in state}
    wanted = {key: state[name] for key, name in ours.items()}

    ties = tied_copies("text_encoder.", bert)
    _check_masked_lm_head(source, available, ties)
    _check_teacher(source, available)
    check_ties(source, available, ties)
    ignored = {key: rule for key in available if (rule := _ignore_rule(key, bert, ties, wanted))}
    matched, report = match_weights(source, available, wanted, ignored=ignored, fit=fit_tensor)
    model.load_state_dict({ours[key]: tensor for key, tensor in matched.items()})
    return report


def _ignore_rule(key: str, bert_prefix: str, ties: Mapping[str, str], wanted: Mapping[str, Tensor]) -> str:
    """Why a key of the file is ignored; "" if it is not."""
    if key.startswith("clip_teacher."):
        return "the frozen teacher"
    if key == f"text_encoder.{bert_prefix}embeddings.position_ids":
        return "a constant"
    if key in ties:
        return f"tied to {ties[key]}"
    for prefix, part in (("vision_encoder.clip_decoder.", "student"), ("text_encoder.cls.", "masked language head")):
        if key.startswith(prefix) and not any(name.startswith(prefix) for name in wanted):
            return f"this model has no {part}"
    return ""


def _check_masked_lm_head(source: str, weights: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """Refuse a file with an incomplete head (copies of tied weights included), even if the model does not use it."""
    modules = ("transform.dense", "transform.LayerNorm")
    own = [f"text_encoder.cls.predictions.{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    keys = [*own, "text_encoder.cls.predictions.bias", *ties]
    missing = [key for key in keys if key not in weights]
    if missing and any(key.startswith("text_encoder.cls.") for key in weights):
        raise ModelError(f"{source}: its masked language head lacks {', '.join(missing[:3])}: is the file damaged?")


def _check_teacher(source: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse a file with an incomplete teacher, although none of it is loaded: the file is damaged."""
    found = [key for key in weights if key.startswith("clip_teacher.")]
    if not found:
        return
    blocks = "clip_teacher.transformer.resblocks."
    names = [f"{blocks}{i}.{name}" for i in range(count_numbered(source, found, blocks)) for name in _TEACHER_BLOCK]
    wanted = [*(f"clip_teacher.{name}" for name in _TEACHER), *names]
    missing, left_over = [key for key in wanted if key not in weights], [key for key in found if key not in wanted]
    check_complete(f"{source}: its teacher", missing, left_over, len(wanted))


def _count_text_layers(checkpoint: UpstreamVideoText, layers: str) -> int:
    """The number of BERT's first layer that attends to the video; `layers` is the prefix of the numbers."""
    weights, fusing = checkpoint.weights, re.compile(rf"{re.escape(layers)}(\d{{1,9}})\.crossattention\.")
    numbers = [int(match[1]) for key in weights if (match := fusing.match(key))]
    if numbers:
        return min(numbers)
    has_text = any(key.startswith("text_encoder.") for key in weights)
    if not has_text and any(key.endswith("layers.0.mixer.A_log") for key in weights):
        raise ModelError(
            f"{checkpoint.source} holds VideoMamba vision weights only: for training name it as model.video_init"
        )
    raise ModelError(
        f"{checkpoint.source}: not a video-text checkpoint of VideoMamba: no {layers}*.crossattention.* among "
        f"{len(weights)} keys, first: {next(iter(weights))}"
    )


def _find_num_heads(checkpoint: UpstreamVideoText, width: int) -> int:
    if width in HEADS_OF_WIDTH:
        return HEADS_OF_WIDTH[width]
    stated = _stated(checkpoint, "text_encoder", "num_attention_heads")
    if len(stated) == 1:
        return stated.pop()
    why = f"its config states {', '.join(map(str, sorted(stated)))}" if stated else f"no published width is {width}"
    raise ModelError(
        f"{checkpoint.source}: cannot tell the text encoder's attention heads ({why}): "
        "give their number as vmr.load_model(path, num_heads=...)"
    )


def _stated(checkpoint: UpstreamVideoText, part: str, name: str) -> set[int]:
    """The values of `name` in the section of the run's config on a part of the model."""
    model = checkpoint.settings.get("model")
    return set(_values(model.get(part), name)) if isinstance(model, Mapping) else set()


def _values(settings: object, name: str) -> Iterator[int]:
    """The whole numbers called `name`, at any depth of the settings."""
    if isinstance(settings, Mapping):
        if type(settings.get(name)) is int:  # True is an instance of int
            yield settings[name]
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for item in settings:
            yield from _values(item, name)
