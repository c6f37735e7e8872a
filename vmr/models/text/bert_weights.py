"""Initialise a text encoder and its fusion layers from a pretrained BERT.

BERT's first layers become the `TextEncoder`, its last ones the self-attention and the feed-forward parts of the
`FusionEncoder`; cross-attention keeps its fresh weights, because BERT has no cross-attention. A source is

- `minilm`: all-MiniLM-L6-v2 (width 384, 6 layers) from its pip package, without a download;
- a folder in the layout of the Hugging Face hub (config.json, and model.safetensors or pytorch_model.bin), or a file
  of weights with its config.json beside it;
- a repository of the hub, such as `bert-base-uncased`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.hub import download_file, local_path
from vmr.models.pip_weights import minilm_folder
from vmr.models.text.bert_names import bert_name, tied_copies
from vmr.models.text.encoder import NORM_EPS, TextConfig, TextEncoder
from vmr.models.text.fusion import FusionEncoder, MaskedLMHead
from vmr.models.text.tokenizer import MINILM
from vmr.models.weights import LoadReport, check_ties, match_weights

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
# The settings that our text encoder implements. A BERT with other settings would load without an error, but give wrong
# results, so it is refused.
_COMPUTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": NORM_EPS,
    "type_vocab_size": 2,
}


def bert_config(source: str | Path) -> TextConfig:
    """Read the sizes of a pretrained BERT, for a model that starts from it.

    Args:
        source: `minilm`, a folder, a file of weights with its config.json beside it, or a repository of the hub.

    Returns:
        The sizes. The first three quarters of the layers, rounded down, read text alone (9 of 12, as in the released
        models; 4 of 6); use `dataclasses.replace` for another number.

    Raises:
        ModelError: there is no BERT under this name, or it has other settings than those that `TextEncoder` implements.
        MissingExtraError: the package of `minilm` is not installed.
    """
    file = _config_file(source)
    settings = _read_settings(file)
    for key, expected in _COMPUTED.items():
        if settings.get(key, expected) != expected:
            raise ModelError(f"{file}: {key} is {settings[key]!r}, but this text encoder is made for {expected!r}")
    for key in _SIZES.values():
        if type(settings.get(key)) is not int:  # True is an instance of int
            raise ModelError(f"{file}: not a BERT config: {key} is {settings.get(key)!r}, not a whole number")
    sizes = {name: settings[key] for name, key in _SIZES.items()}
    return TextConfig(**sizes, num_text_layers=3 * sizes["num_layers"] // 4)


def load_bert(
    text_encoder: TextEncoder,
    fusion: FusionEncoder,
    source: str | Path | Mapping[str, Tensor],
    masked_lm_head: MaskedLMHead | None = None,
) -> LoadReport:
    """Fill a text encoder and its fusion layers with a pretrained BERT; neither changes unless everything fits.

    If the source has no cross-attention, ours keeps its fresh weights; the same holds for the masked language modelling
    head. The pooler and the next-sentence head are ignored.

    Args:
        text_encoder: made with the sizes of `bert_config(source)`, cut at any layer.
        fusion: the layers that follow, of the same config.
        source: `minilm`, a folder, a file, a repository of the hub, or a state dict.
        masked_lm_head: filled as well, if given.

    Returns:
        A report on every key. Keys have their names in the source, except that the `gamma` and `beta` of old files are
        called `weight` and `bias`.

    Raises:
        ModelError: the source cannot be reached or read, has other settings than `TextEncoder` implements, or has keys
            that are missing, left over or of another shape.
    """
    if not isinstance(source, Mapping):
        _check_heads(text_encoder, source)
    name, weights = _read_weights(source)
    prefix = "bert." if any(key.startswith("bert.") for key in weights) else ""
    parts = {"text_encoder": text_encoder, "fusion": fusion, "masked_lm_head": masked_lm_head}
    model = nn.ModuleDict({part: module for part, module in parts.items() if module is not None})
    state = model.state_dict()
    num_text_layers = len(text_encoder.layers)
    ours = {bert_name(key, num_text_layers, prefix): key for key in state}
    wanted = {key: state[own] for key, own in ours.items()}

    ties = tied_copies("", prefix)
    check_ties(name, weights, ties)
    ignored = {key: rule for key in weights if (rule := _ignore_rule(key, prefix, ties, masked_lm_head is None))}
    fresh = _absent_groups(wanted, weights)
    matched, report = match_weights(name, weights, wanted, ignored=ignored, may_lack=fresh)
    model.load_state_dict(state | {ours[key]: tensor for key, tensor in matched.items()})
    return report


def _ignore_rule(key: str, prefix: str, ties: Mapping[str, str], no_head: bool) -> str:
    """Why a key of the source is ignored; "" if it is not."""
    if key == f"{prefix}embeddings.position_ids":
        return "a constant"
    if key.startswith(f"{prefix}pooler."):
        return "the pooler, which is not used"
    if key.startswith("cls.seq_relationship."):
        return "the next-sentence head, which is not used"
    if key in ties:
        return f"tied to {ties[key]}"
    return "no masked language head to fill" if no_head and key.startswith("cls.") else ""


def _absent_groups(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Keys of cross-attention and of the head, each group only if the source has none of it: they may stay fresh."""
    groups = [[key for key in wanted if mark in key] for mark in (".crossattention.", "cls.predictions.")]
    return [key for group in groups if not any(other in weights for other in group) for key in group]


def _check_heads(text_encoder: TextEncoder, source: str | Path) -> None:
    """Compare the numbers of attention heads, which no shape shows: weights with another number would load."""
    stated, own = bert_config(source).num_heads, text_encoder.config.num_heads
    if stated != own:
        raise ModelError(f"{source}: has {stated} attention heads, but this text encoder has {own}")


def _read_weights(source: str | Path | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The name of the source and its weights; `gamma` and `beta`, as in the first BERTs, get their new names."""
    if isinstance(source, Mapping):
        name, weights = "state dict", dict(source)
    else:
        file = _weight_file(source)
        name, weights = str(source), find_state_dict(read_checkpoint(file), str(file))
    renamed = {
        key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for key, tensor in weights.items()
    }
    if len(renamed) != len(weights):
        raise ModelError(f"{name}: has LayerNorm.gamma or beta and LayerNorm.weight or bias of the same layer")
    return name, renamed


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a readable config: {error}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{file}: holds a {type(settings).__name__}, not the settings of a model")
    return settings


def _config_file(source: str | Path) -> Path:
    path = _local(source)
    if path is None:
        return download_file(str(source), "config.json")
    return _first_of(path.parent if path.is_file() else path, ("config.json",))


def _weight_file(source: str | Path) -> Path:
    path = _local(source)
    if path is not None:
        return path if path.is_file() else _first_of(path, _WEIGHT_FILES)
    try:
        return download_file(str(source), _WEIGHT_FILES[0])
    except ModelError as error:
        try:
            return download_file(str(source), _WEIGHT_FILES[1])  # repositories from before safetensors
        except ModelError:
            raise error from None


def _local(source: str | Path) -> Path | None:
    """The folder or file that `source` names; None for a repository of the hub."""
    return minilm_folder() if source == MINILM else local_path(source, suffixes=(".safetensors", ".bin", ".pth", ".pt"))


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: holds no {' or '.join(names)}")
