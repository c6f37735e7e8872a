"""BERT's last layers, which read a text while looking at a video, and the head that guesses masked words.

Shapes: V videos, N video tokens each, C their width; B = V * M texts, M for each video, L tokens, W text width,
H heads, d = W / H.

What a video contributes is its keys and values in every layer, and they do not depend on the text: `remember` makes
them once, and any number of texts is matched against them.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.text.encoder import NORM_EPS, Attention, TextConfig, TextLayer, init_bert_weights, padding_bias


class VideoMemory(NamedTuple):
    """Videos as the fusion layers see them."""

    keys: tuple[Tensor, ...]
    """(V, H, N, d) for each layer."""
    values: tuple[Tensor, ...]
    """(V, H, N, d) for each layer."""
    bias: Tensor | None = None
    """(V, 1, 1, N), added to the scores of tokens that are not to be seen; None shows all."""

    @property
    def num_videos(self) -> int:
        """V."""
        return len(self.keys[0])

    def select(self, videos: Tensor) -> "VideoMemory":
        """The memory of some videos, in the order of the int64 indices (V',); an index may come twice."""
        return VideoMemory(
            tuple(keys[videos] for keys in self.keys),
            tuple(values[videos] for values in self.values),
            None if self.bias is None else self.bias[videos],
        )


class FusionEncoder(nn.Module):
    """Text tokens to text tokens that know the video."""

    def __init__(self, config: TextConfig, video_width: int) -> None:
        super().__init__()
        num_layers = config.num_layers - config.num_text_layers
        self.layers = nn.ModuleList(FusionLayer(config, video_width) for _ in range(num_layers))
        self.apply(init_bert_weights)

    def remember(self, video_tokens: Tensor, video_mask: Tensor | None = None) -> VideoMemory:
        """video_tokens: (V, N, C); video_mask: (V, N), 1 for tokens that may be seen (default, all)."""
        projected = [layer.cross_attention.project(video_tokens) for layer in self._fusion_layers]
        bias = None if video_mask is None else padding_bias(video_mask, projected[0][0].dtype)
        return VideoMemory(tuple(keys for keys, _ in projected), tuple(values for _, values in projected), bias)

    def forward(self, text_tokens: Tensor, attention_mask: Tensor, memory: VideoMemory) -> Tensor:
        """Read texts while looking at videos.

        text_tokens: (V * M, L, W), the output of a `TextEncoder`; the M texts of a video stand one after the other.
        attention_mask: (V * M, L), 1 for tokens, 0 for padding. Returns (V * M, L, W).
        Raises ModelError if the number of texts is no multiple of the number of videos.
        """
        if len(text_tokens) % memory.num_videos:
            raise ModelError(f"{len(text_tokens)} texts cannot be shared out among {memory.num_videos} videos")
        hidden, bias = text_tokens, padding_bias(attention_mask, text_tokens.dtype)
        for layer, keys, values in zip(self._fusion_layers, memory.keys, memory.values, strict=True):
            hidden = layer.look(layer.attend_to_text(hidden, bias), keys, values, memory.bias)
        return hidden

    @property
    def _fusion_layers(self) -> list["FusionLayer"]:
        return [layer for layer in self.layers if isinstance(layer, FusionLayer)]


class FusionLayer(TextLayer):
    """A BERT layer that attends to a video between its two halves."""

    def __init__(self, config: TextConfig, video_width: int) -> None:
        super().__init__(config)
        self.cross_attention = Attention(config, video_width)
        self.cross_attention_norm = nn.LayerNorm(config.width, eps=NORM_EPS)

    def look(self, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """The cross-attention and the feed-forward part: (V * M, L, W) -> the same.

        The texts of a video are one long query, so that its keys and values are neither copied nor read M times.
        """
        queries = hidden.reshape(len(keys), -1, hidden.shape[-1])  # (V, M * L, W)
        seen = self.cross_attention.attend(queries, keys, values, bias).view_as(hidden)
        return self.feed_forward(self.cross_attention_norm(hidden + self.dropout(seen)))


class MaskedLMHead(nn.Module):
    """From fused tokens to a score for every word; the word vectors of the text encoder are its output weights."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.bias = nn.Parameter(self.dense.weight.new_zeros(config.vocab_size))
        self.apply(init_bert_weights)

    def forward(self, hidden: Tensor, word_weight: Tensor) -> Tensor:
        """hidden: (..., W); word_weight: (vocab_size, W) -> logits (..., vocab_size)."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), word_weight, self.bias)
