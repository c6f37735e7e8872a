"""Read TimeSformer as Hugging Face publishes it (`facebook/timesformer-base-finetuned-k400` and the like).

A folder holds `config.json` and `model.safetensors` or `pytorch_model.bin`.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.checkpoint_file import read_checkpoint
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.family import VideoClassifier
from vmr.models.classification.networks import build_network
from vmr.models.classification.saved import resize_network
from vmr.models.classifier import ClipInput
from vmr.models.weights import error_prefix, match_weights

CONFIG_FILE = "config.json"
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
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


def is_timesformer(folder: Path) -> bool:
    """Tell whether a folder holds a TimeSformer in Hugging Face's layout.

    Args:
        folder: any folder.

    Returns:
        Whether its `config.json` says so.
    """
    try:
        return bool(_read_json(folder / CONFIG_FILE).get("model_type") == FIXED["model_type"])
    except ModelError:
        return False


def load_timesformer(
    folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoClassifier:
    """Load TimeSformer from a folder in Hugging Face's layout.

    Args:
        folder: with `config.json`, and `model.safetensors` or `pytorch_model.bin`.
        device: where the classifier runs.
        num_frames: frames of a clip; default, as published. Temporal positions are interpolated.
        image_size: side of the frames in pixels; default, as published. Positions are interpolated.

    Returns:
        The classifier. Classes that the file does not name have their number as name.

    Raises:
        VmrError: a file is missing or damaged, the network is not a TimeSformer with divided attention, or a weight
            did not load.
        MissingExtraError: timm is not installed.
    """
    folder = Path(folder).absolute()
    description = _read_description(folder / CONFIG_FILE)
    file = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if file is None:
        raise ModelError(f"{folder}: holds neither {' nor '.join(WEIGHT_FILES)}")
    available = _renamed(read_checkpoint(file))
    if "head.bias" not in available:
        raise ModelError(f"{file}: has no classifier.bias, so it is no classifier")
    with error_prefix(str(folder / CONFIG_FILE)):
        sizes: dict[str, Any] = {ours: _size(description.get(key, value), key) for ours, (key, value) in SIZES.items()}
        config = NetworkConfig(kind="timesformer", num_classes=len(available["head.bias"]), **sizes)
    network = build_network(config)
    weights, report = match_weights(str(file), available, network.state_dict())
    network.load_state_dict(weights)
    network, fitted = resize_network(network, num_frames, image_size)
    names = description.get("id2label") or {}
    return VideoClassifier(
        network,
        [str(names.get(str(number), number)) for number in range(config.num_classes)],
        "single",
        ClipInput(num_frames or config.num_frames, image_size or config.image_size, None, MEAN, STD),
        name=str(folder),
        about="TimeSformer, from a folder in Hugging Face's layout",
        device=device,
        report=report.refitted(fitted),
    )


def _size(value: Any, key: str) -> int:
    if type(value) is not int or value < 1:
        raise ModelError(f"{key} is {value!r:.40}, but must be a whole number of at least 1")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if not isinstance(description, dict):
        raise ModelError(f"{path}: holds no JSON object")
    return description


def _read_description(path: Path) -> dict[str, Any]:
    description = _read_json(path)
    for key, value in FIXED.items():
        if description.get(key, value) != value:
            raise ModelError(f"{path}: {key} is {description[key]!r}; only {value!r} can be loaded")
    width = _size(description.get("hidden_size", 768), f"{path}: hidden_size")
    if description.get("intermediate_size", 3072) != 4 * width:
        raise ModelError(f"{path}: intermediate_size is not four times the hidden_size {width}")
    if not isinstance(description.get("id2label") or {}, dict):
        raise ModelError(
            f"{path}: id2label is {description['id2label']!r:.40}, expected an object of numbers and names"
        )
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
