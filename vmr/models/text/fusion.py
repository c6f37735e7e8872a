"""BERT's last layers, which attend from a text to a video, and the head that predicts masked words.

Shapes: V videos, N video tokens each, C their width; B = V * M texts, M for each video, L tokens, W text width,
H heads, d = W / H.

A video contributes its keys and values in every layer, and these do not depend on the text. `project_video` computes
them once, and any number of texts is then matched against them.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.text.encoder import NORM_EPS, Attention, TextConfig, TextLayer, init_bert_weights, padding_bias


class VideoMemory(NamedTuple):
    """The keys and values of V videos in every fusion layer.

    Attributes:
        keys: (V, H, N, d) for each layer.
        values: (V, H, N, d) for each layer.
        bias: (V, 1, 1, N), added to the attention scores, the log of how often each token counts; None: once.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    bias: Tensor | None = None

    @property
    def num_videos(self) -> int:
        """V."""
        return len(self.keys[0])

    def select(self, videos: Tensor) -> "VideoMemory":
        """Take some of the videos.

        Args:
            videos: int64 (V',), indices of the videos; an index may come twice.

        Returns:
            The memory of these videos, in this order.
        """
        return VideoMemory(
            tuple(keys[videos] for keys in self.keys),
            tuple(values[videos] for values in self.values),
            None if self.bias is None else self.bias[videos],
        )


class FusionEncoder(nn.Module):
    """BERT's last layers with cross-attention: turns text tokens into text tokens that also depend on a video.

    Attributes:
        layers: the layers of BERT after the text encoder's.
    """

    def __init__(self, config: TextConfig, video_width: int) -> None:
        """Make layers with fresh weights.

        Args:
            config: sizes of the whole BERT.
            video_width: C.
        """
        super().__init__()
        num_layers = config.num_layers - config.num_text_layers
        self.layers = nn.ModuleList(FusionLayer(config, video_width) for _ in range(num_layers))
        self.apply(init_bert_weights)

    def project_video(self, video_tokens: Tensor, counts: Tensor | None = None) -> VideoMemory:
        """Compute the keys and values of videos in every layer.

        Args:
            video_tokens: (V, N, C).
            counts: (V, N), how many equal tokens each one stands for; 0 for padding, of videos of different lengths in
                one batch. At least one of a video is not 0. Default, each stands for itself.

        Returns:
            The keys and values, for `forward`.
        """
        projected = [layer.cross_attention.project(video_tokens) for layer in self._fusion_layers]
        bias = None if counts is None else counts.to(projected[0][0].dtype).log()[:, None, None]
        return VideoMemory(tuple(keys for keys, _ in projected), tuple(values for _, values in projected), bias)

    def forward(self, text_tokens: Tensor, attention_mask: Tensor, memory: VideoMemory) -> Tensor:
        """Run the layers on M texts for each of V videos; the texts attend to the video.

        Args:
            text_tokens: (V * M, L, W), the output of a `TextEncoder`; the M texts of a video stand one after the other.
            attention_mask: (V * M, L), 1 for tokens, 0 for padding.
            memory: what `project_video` computed of the V videos.

        Returns:
            (V * M, L, W).

        Raises:
            ModelError: the number of texts is no multiple of the number of videos.
        """
        if len(text_tokens) % memory.num_videos:
            raise ModelError(f"{len(text_tokens)} texts cannot be divided evenly among {memory.num_videos} videos")
        hidden, bias = text_tokens, padding_bias(attention_mask, text_tokens.dtype)
        for layer, keys, values in zip(self._fusion_layers, memory.keys, memory.values, strict=True):
            hidden = layer.attend_to_video(layer.attend_to_text(hidden, bias), keys, values, memory.bias)
        return hidden

    @property
    def _fusion_layers(self) -> list["FusionLayer"]:
        return [layer for layer in self.layers if isinstance(layer, FusionLayer)]


class FusionLayer(TextLayer):
    """A BERT layer that attends to a video between its self-attention and its feed-forward part."""

    def __init__(self, config: TextConfig, video_width: int) -> None:
        """Make a layer with fresh weights.

        Args:
            config: sizes of the whole BERT.
            video_width: C.
        """
        super().__init__(config)
        self.cross_attention = Attention(config, video_width)
        self.cross_attention_norm = nn.LayerNorm(config.width, eps=NORM_EPS)

    def attend_to_video(self, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Run the cross-attention and the feed-forward part.

        The texts of a video are treated as one long query, so that its keys and values are not copied M times.

        Args:
            hidden: (V * M, L, W).
            keys: (V, H, N, d).
            values: (V, H, N, d).
            bias: (V, 1, 1, N), added to the scores of the cross-attention; None adds nothing.

        Returns:
            (V * M, L, W).
        """
        queries = hidden.reshape(len(keys), -1, hidden.shape[-1])  # (V, M * L, W)
        seen = self.cross_attention.attend(queries, keys, values, bias).view_as(hidden)
        return self.feed_forward(self.cross_attention_norm(hidden + self.dropout(seen)))


class MaskedLMHead(nn.Module):
    """Scores every word of the vocabulary for each token; its output weights are the text encoder's word vectors."""

    def __init__(self, config: TextConfig) -> None:
        """Make a head with fresh weights.

        Args:
            config: sizes of the whole BERT.
        """
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.bias = nn.Parameter(self.dense.weight.new_zeros(config.vocab_size))
        self.apply(init_bert_weights)

    def forward(self, hidden: Tensor, word_weight: Tensor) -> Tensor:
        """Predict words.

        Args:
            hidden: (..., W), the output of a `FusionEncoder`.
            word_weight: (vocab_size, W), the word vectors of the text encoder.

        Returns:
            Logits (..., vocab_size).
        """
        return F.linear(self.norm(F.gelu(self.dense(hidden))), word_weight, self.bias)
