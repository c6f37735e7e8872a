"""Read TimeSformer as Hugging Face publishes it (`facebook/timesformer-base-finetuned-k400` and the like).

A folder holds `config.json` and `model.safetensors` or `pytorch_model.bin`. Its networks expect pixels in [0, 1], minus
0.45, divided by 0.225.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vmr.errors import ModelError
from vmr.from_json import from_json
from vmr.models.checkpoint_file import read_checkpoint
from vmr.models.classification.config import NetworkConfig
from vmr.models.comparators.timesformer import TimeSformer
from vmr.models.weights import LoadReport, match_weights

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# What the paper's models have in common; a file that says otherwise is another network.
FIXED: dict[str, object] = {
    "model_type": "timesformer",
    "attention_type": "divided_space_time",
    "hidden_act": "gelu",
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
    "num_channels": 3,
}
# Our size -> its name in config.json, and its value where config.json leaves it out.
SIZES = {
    "width": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 16),
    "num_frames": ("num_frames", 8),
}
RENAMED = (
    (r"^timesformer\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^timesformer\.embeddings\.position_embeddings$", "pos_embed"),
    (r"^timesformer\.embeddings\.time_embeddings$", "temporal_pos_embedding"),
    (r"^timesformer\.embeddings\.cls_token$", "cls_token"),
    (r"^timesformer\.layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^timesformer\.encoder\.layer\.", "layers."),
    (r"\.temporal_layernorm\.", ".temporal_norm1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
    (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
    (r"\.temporal_dense\.", ".temporal_fc."),
    (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


class LoadedTimeSformer(NamedTuple):
    """A published TimeSformer.

    Attributes:
        network: the network, in evaluation mode.
        labels: names of its classes; their numbers where the file names none.
        report: on every key of the file.
    """

    network: TimeSformer
    labels: tuple[str, ...]
    report: LoadReport


def load_timesformer(folder: str | Path) -> LoadedTimeSformer:
    """Load TimeSformer from a folder in Hugging Face's layout.

    Args:
        folder: with `config.json`, and `model.safetensors` or `pytorch_model.bin`.

    Returns:
        The network and its labels.

    Raises:
        VmrError: a file is missing or damaged, the network is not a TimeSformer with divided attention, or a weight
            did not load.
        MissingExtraError: timm is not installed.
    """
    folder = Path(folder)
    description = _read_description(folder / "config.json")
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{folder}: holds neither {' nor '.join(WEIGHT_FILES)}")
    available = _renamed(read_checkpoint(weights))
    if "head.bias" not in available:
        raise ModelError(f"{weights}: has no classifier.bias, so it is no classifier")
    sizes = {ours: from_json(int, description.get(key, value), key) for ours, (key, value) in SIZES.items()}
    config = NetworkConfig(kind="timesformer", num_classes=len(available["head.bias"]), **sizes)
    network = TimeSformer(config)
    state, report = match_weights(str(weights), available, network.state_dict())
    network.load_state_dict(state)
    names = description.get("id2label") or {}
    labels = tuple(str(names.get(str(number), number)) for number in range(config.num_classes))
    return LoadedTimeSformer(network.eval(), labels, report)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if not isinstance(description, dict):
        raise ModelError(f"{path}: holds no JSON object")
    for key, value in FIXED.items():
        if description.get(key, value) != value:
            raise ModelError(f"{path}: {key} is {description[key]!r}; only {value!r} can be loaded")
    width = description.get("hidden_size", 768)
    if description.get("intermediate_size", 3072) != 4 * width:
        raise ModelError(f"{path}: intermediate_size is not four times the hidden_size {width}")
    return description


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names; the patch filter of images gets the one frame of a token that it lacks."""
    renamed = {}
    for key, tensor in weights.items():
        name = key
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor.unsqueeze(2) if name == "patch_embed.proj.weight" and tensor.dim() == 4 else tensor
    return renamed
