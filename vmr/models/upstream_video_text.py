"""Load a released VideoMamba video-text checkpoint whole, or not at all.

A training save holds the weights under `model`, with the optimiser, which is left aside, and the run's config, a
pickled EasyDict; bare state dicts and `.safetensors` are read as well. Upstream names its BERT `text_encoder.bert.*`
in pre-training and `text_encoder.*`, without the masked language modelling head, in retrieval.

Every key of the file is loaded, fitted (positions, to another size or number of frames) or ignored by a rule below;
every weight of the model comes from the file. Errors and reports name keys as the file does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.text_encoder import TextConfig
from vmr.models.upstream import LoadReport, check_complete, check_shapes, fit_tensor, infer_config
from vmr.models.video_encoder import VideoMambaConfig

HEADS_OF_WIDTH = {768: 12, 1024: 16}
"""Attention heads of the published BERTs (base, large) by width: no weight tells them."""

# Ours -> upstream's. A name is renamed by the first entry that it starts with.
_PARTS = {
    "video_encoder.": "vision_encoder.",
    "video_proj.": "vision_proj.",
    "text_proj.": "text_proj.",
    "matching_head.": "itm_head.",
    "temperature": "temp",
    "text_encoder.embeddings.word.": "text_encoder.bert.embeddings.word_embeddings.",
    "text_encoder.embeddings.position.": "text_encoder.bert.embeddings.position_embeddings.",
    "text_encoder.embeddings.token_type.": "text_encoder.bert.embeddings.token_type_embeddings.",
    "text_encoder.embeddings.norm.": "text_encoder.bert.embeddings.LayerNorm.",
    "masked_lm_head.dense.": "text_encoder.cls.predictions.transform.dense.",
    "masked_lm_head.norm.": "text_encoder.cls.predictions.transform.LayerNorm.",
    "masked_lm_head.bias": "text_encoder.cls.predictions.bias",
}
_ATTENTION = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
}
_LAYER_PARTS = {
    **_ATTENTION,
    **{f"cross_{ours}": f"cross{theirs}" for ours, theirs in _ATTENTION.items()},
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_LAYER = re.compile(r"(text_encoder|fusion)\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class UpstreamVideoText:
    """What a checkpoint holds."""

    source: str
    """what to call it in messages"""
    weights: dict[str, Tensor]
    """by upstream's names"""
    settings: Mapping[str, Any]
    """the config of the run that wrote it; empty where there is none"""

    @property
    def bert_prefix(self) -> str:
        """What stands between `text_encoder.` and BERT's own names: "bert." or nothing."""
        return "bert." if any(key.startswith("text_encoder.bert.") for key in self.weights) else ""


@dataclass(frozen=True)
class VideoTextSizes:
    """The sizes of a model, as its weights tell them."""

    video: VideoMambaConfig
    text: TextConfig
    embed_dim: int
    masked_lm: bool


def upstream_name(name: str, num_text_layers: int, bert_prefix: str = "bert.") -> str:
    """What upstream calls a weight of a VideoTextModel.

    Upstream numbers BERT's layers through, so the first fusion layer is its layer `num_text_layers`. `bert_prefix` is
    "" for retrieval checkpoints. Raises ModelError for a weight that upstream's models do not have.
    """
    layer = _LAYER.fullmatch(name)
    if layer and layer[3] in _LAYER_PARTS:
        index = int(layer[2]) + (num_text_layers if layer[1] == "fusion" else 0)
        return f"text_encoder.{bert_prefix}encoder.layer.{index}.{_LAYER_PARTS[layer[3]]}.{layer[4]}"
    for ours, theirs in _PARTS.items():
        if name.startswith(ours):
            return theirs.replace(".bert.", f".{bert_prefix}") + name.removeprefix(ours)
    raise ModelError(f"{name}: upstream's models have no such weight")


def read_video_text(checkpoint: str | Path | Mapping[str, Any]) -> UpstreamVideoText:
    """Read a checkpoint file, or the content of one, without running anything it holds.

    Raises ModelError for a file that is absent, damaged, asks for code to be run, or holds no weights.
    """
    if isinstance(checkpoint, Mapping):
        source, content = "state dict", checkpoint
    else:
        source, content = Path(checkpoint).name, read_checkpoint(checkpoint)
    settings = content.get("config")
    return UpstreamVideoText(
        source, find_state_dict(content, source), settings if isinstance(settings, Mapping) else {}
    )


def infer_video_text_sizes(checkpoint: UpstreamVideoText, *, num_heads: int | None = None) -> VideoTextSizes:
    """The model that a checkpoint belongs to, read off the shapes of its weights.

    Attention heads leave no trace in shapes: they are `num_heads`, or `num_attention_heads` of the pickled config, or
    those of the published BERT of this width. Raises ModelError where none of them tells, and where a weight that
    tells a size is missing.
    """
    weights, text = checkpoint.weights, f"text_encoder.{checkpoint.bert_prefix}"
    layers = re.compile(rf"{re.escape(text)}encoder\.layer\.(\d+)\.(crossattention\.)?")
    found = [match for key in weights if (match := layers.match(key))]
    fusing = [int(match[1]) for match in found if match[2]]
    if not fusing:
        raise ModelError(
            f"{checkpoint.source}: not a video-text checkpoint: no {text}encoder.layer.*.crossattention.* "
            f"among {len(weights)} keys"
        )
    words = _sized(checkpoint, f"{text}embeddings.word_embeddings.weight")
    return VideoTextSizes(
        video=infer_config({key: value for key, value in weights.items() if key.startswith("vision_encoder.")}),
        text=TextConfig(
            vocab_size=words.shape[0],
            width=words.shape[1],
            num_layers=1 + max(int(match[1]) for match in found),
            num_text_layers=min(fusing),
            num_heads=_find_num_heads(checkpoint, words.shape[1]) if num_heads is None else num_heads,
            feed_forward=_sized(checkpoint, f"{text}encoder.layer.0.intermediate.dense.weight").shape[0],
            max_positions=_sized(checkpoint, f"{text}embeddings.position_embeddings.weight").shape[0],
        ),
        embed_dim=_sized(checkpoint, "text_proj.weight").shape[0],
        masked_lm=any(key.startswith("text_encoder.cls.") for key in weights),
    )


def load_video_text(model: nn.Module, checkpoint: UpstreamVideoText) -> LoadReport:
    """Fill a VideoTextModel with a checkpoint; the model is not touched unless everything fits.

    Frozen teacher, constants, copies of tied weights, and parts that the model was made without (student outputs,
    masked language modelling head) are ignored, and reported with the rule. The report names keys as the file does.

    Raises:
        ModelError: keys are missing, left over, or of a shape that nothing fits; the masked language modelling head
            is there in part only; or a copy of a tied weight differs from it.
    """
    source, available, bert = checkpoint.source, dict(checkpoint.weights), checkpoint.bert_prefix
    state = model.state_dict()
    num_text_layers = len({name.split(".")[2] for name in state if name.startswith("text_encoder.layers.")})
    ours = {upstream_name(name, num_text_layers, bert): name for name in state}
    wanted = {key: state[name] for key, name in ours.items()}

    ties = tied_copies("text_encoder.", bert)
    _check_masked_lm_head(source, available, ties)
    check_ties(source, available, ties)
    ignored = {key: rule for key in available if (rule := _ignore_rule(key, bert, ties, wanted))}
    matched = {key: available[key] for key in wanted if key in available}
    left_over = [key for key in available if key not in ignored and key not in matched]
    check_complete(source, [key for key in wanted if key not in matched], left_over, len(wanted))

    fits = {key: fit_tensor(key.removeprefix("vision_encoder."), matched[key], wanted[key]) for key in wanted}
    check_shapes(source, {key: tensor for key, (tensor, _) in fits.items()}, wanted)
    model.load_state_dict({ours[key]: tensor for key, (tensor, _) in fits.items()})
    fitted = {key: how for key, (_, how) in fits.items() if how}
    return LoadReport(source, tuple(key for key in wanted if key not in fitted), fitted, ignored, fresh=())


def tied_copies(root: str, bert_prefix: str) -> dict[str, str]:
    """Keys that repeat another weight -> that weight; `root` is what stands before BERT's names."""
    return {
        f"{root}cls.predictions.decoder.weight": f"{root}{bert_prefix}embeddings.word_embeddings.weight",
        f"{root}cls.predictions.decoder.bias": f"{root}cls.predictions.bias",
    }


def check_ties(source: str, weights: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """Raise ModelError if a copy in the file differs from the weight that it repeats; the model keeps one of them."""
    for key, original in ties.items():
        if key not in weights or original not in weights:
            continue
        copy, kept = weights[key], weights[original]
        if copy.shape != kept.shape or not bool((copy == kept).all()):
            raise ModelError(f"{source}: {key} differs from {original}, to which it should be tied")


def _ignore_rule(key: str, bert_prefix: str, ties: Mapping[str, str], wanted: Mapping[str, Tensor]) -> str:
    """Why a key of the file is left aside; "" if it is not."""
    if key.startswith("clip_teacher."):
        return "the frozen teacher"
    if key == f"text_encoder.{bert_prefix}embeddings.position_ids":
        return "a constant"
    if key in ties:
        return f"tied to {ties[key]}"
    for part, what in (("vision_encoder.clip_decoder.", "student"), ("text_encoder.cls.", "masked language head")):
        if key.startswith(part) and not any(name.startswith(part) for name in wanted):
            return f"this model has no {what}"
    return ""


def _check_masked_lm_head(source: str, weights: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """A head is in a file whole or not at all, copies of tied weights included, whether the model has use for it."""
    modules = ("transform.dense", "transform.LayerNorm")
    own = [f"text_encoder.cls.predictions.{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    keys = [*own, "text_encoder.cls.predictions.bias", *ties]
    missing = [key for key in keys if key not in weights]
    if missing and any(key.startswith("text_encoder.cls.") for key in weights):
        raise ModelError(f"{source}: its masked language head lacks {', '.join(missing[:3])}: is the file damaged?")


def _sized(checkpoint: UpstreamVideoText, key: str) -> Tensor:
    """A matrix of the file, by whose shape a size is known."""
    tensor = checkpoint.weights.get(key)
    if tensor is None or tensor.dim() != 2:
        raise ModelError(f"{checkpoint.source}: not a video-text checkpoint: no matrix {key}")
    return tensor


def _find_num_heads(checkpoint: UpstreamVideoText, width: int) -> int:
    stated = set(_values(checkpoint.settings, "num_attention_heads"))
    if len(stated) == 1:
        return stated.pop()
    if not stated and width in HEADS_OF_WIDTH:
        return HEADS_OF_WIDTH[width]
    why = f"its config states {', '.join(map(str, sorted(stated)))}" if stated else f"no published width is {width}"
    raise ModelError(f"{checkpoint.source}: cannot tell the text encoder's attention heads ({why}): pass num_heads")


def _values(settings: object, name: str) -> Iterator[int]:
    """The whole numbers called `name`, however deep in the settings."""
    if isinstance(settings, Mapping):
        if isinstance(settings.get(name), int):
            yield settings[name]
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for item in settings:
            yield from _values(item, name)
