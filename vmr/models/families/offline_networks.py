"""The two networks of `offline` in torch: a classifier of frames, and an encoder of sentences.

Imported only to export them, and where torch runs them.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vmr.models.pip_weights import load_efficientnet_lite0
from vmr.models.text.bert_names import bert_name
from vmr.models.text.bert_weights import bert_config
from vmr.models.text.encoder import TextEncoder
from vmr.models.text.tokenizer import MINILM
from vmr.models.weights import Unfilled


class FrameClassifier(nn.Module):
    """EfficientNet-Lite0 from pixels to probabilities, in evaluation mode."""

    def __init__(self, mean: float, std: float) -> None:
        """Load the weights.

        Args:
            mean: subtracted from pixels, which are scaled to [0, 1].
            std: divides them after that.
        """
        super().__init__()
        self.mean, self.std = mean, std
        self.classifier = load_efficientnet_lite0()
        self.eval().to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> Tensor:
        """Classify frames, uint8 (N, 3, 224, 224): probabilities of the ImageNet classes, (N, 1000)."""
        pixels = (frames.float() / 255 - self.mean) / self.std
        probabilities: Tensor = self.classifier(pixels.contiguous(memory_format=torch.channels_last)).softmax(-1)
        return probabilities


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2 without its pooler, from token ids to the mean of the token vectors, in evaluation mode."""

    def __init__(self, file: Path) -> None:
        """Load the weights.

        They are mapped from the file, so that only those that are used are read: most are vectors of words.

        Args:
            file: `model.safetensors`.
        """
        super().__init__()
        config = bert_config(MINILM)
        num_layers = config.num_layers
        with Unfilled():
            self.tokens = TextEncoder(replace(config, num_text_layers=num_layers))
        stored = load_file(file)
        weights = {name: stored[bert_name(f"text_encoder.{name}", num_layers, "")] for name in self.tokens.state_dict()}
        self.tokens.load_state_dict(weights, assign=True)
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        """Embed texts of one length, int64 (N, L) without padding: (N, D), not of length 1."""
        mean: Tensor = self.tokens(ids, torch.ones_like(ids)).mean(1)
        return mean
