"""BERT's first layers as a text encoder (Devlin et al. 2019); its last layers are in `vmr.models.text.fusion`.

Shapes: B texts, L tokens, W width, H heads, d = W / H, M rows of keys and values, K their width before projection.

    input_ids (B, L) -> embeddings (B, L, W) -> layers -> text_tokens (B, L, W); token 0 stands for the sentence
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError

NORM_EPS = 1e-12
PAD_ID = 0
MASKED_SCORE = -10000.0
"""Added to the attention scores of padding, as in BERT: finite, so that no row of scores is -inf everywhere."""


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a BERT whose first layers read the text alone and whose last layers also attend to the video.

    Attributes:
        vocab_size: entries of the tokeniser.
        width: W, channels of a token.
        num_layers: layers of the whole BERT.
        num_text_layers: how many of the first layers read the text alone; all of them in a model without fusion.
        num_heads: H, heads of every attention; must divide the width.
        feed_forward: channels inside the feed-forward part of a layer.
        max_positions: the longest text, in tokens.
        dropout: rate in training, in [0, 1), after every attention, feed-forward part and embedding, and on attention
            weights.

    Raises:
        ModelError: a size is out of range.
    """

    vocab_size: int = 30522
    width: int = 768
    num_layers: int = 12
    num_text_layers: int = 9
    num_heads: int = 12
    feed_forward: int = 3072
    max_positions: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "num_layers", "num_text_layers", "num_heads", "feed_forward"):
            if getattr(self, name) < 1:
                raise ModelError(f"text: {name} is {getattr(self, name)}, but must be at least 1")
        if self.max_positions < 2:
            raise ModelError(f"text: max_positions is {self.max_positions}, but [CLS] and [SEP] take 2")
        if self.width % self.num_heads:
            raise ModelError(f"text: width {self.width} is no multiple of num_heads {self.num_heads}")
        if self.num_text_layers > self.num_layers:
            raise ModelError(f"text: num_text_layers is {self.num_text_layers}, but there are {self.num_layers} layers")
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"text: dropout is {self.dropout}, but must be in [0, 1)")


class TextEncoder(nn.Module):
    """BERT's embeddings and first layers: turns token ids into contextual tokens, without a video.

    Attributes:
        config: sizes of the whole BERT.
        embeddings: word, position and segment vectors.
        layers: the first `config.num_text_layers` layers.
    """

    def __init__(self, config: TextConfig) -> None:
        """Make a text encoder with fresh weights.

        Args:
            config: sizes of the whole BERT.
        """
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_text_layers))
        self.apply(init_bert_weights)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode a batch of texts; padding has no effect on other tokens.

        Args:
            input_ids: int64 (B, L).
            attention_mask: (B, L), 1 for tokens and 0 for padding.

        Returns:
            text_tokens (B, L, W).

        Raises:
            ModelError: the texts are longer than `config.max_positions`.
        """
        hidden: Tensor = self.embeddings(input_ids)
        bias = padding_bias(attention_mask, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden


class TextEmbeddings(nn.Module):
    """Word, position and segment vectors, summed and normalised. All tokens belong to segment 0."""

    def __init__(self, config: TextConfig) -> None:
        """Make embeddings with fresh weights.

        Args:
            config: sizes of the whole BERT.
        """
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.width, padding_idx=PAD_ID)
        self.position = nn.Embedding(config.max_positions, config.width)
        self.token_type = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embed token ids.

        Args:
            input_ids: int64 (B, L).

        Returns:
            (B, L, W).

        Raises:
            ModelError: L is larger than the number of positions.
        """
        length, longest = input_ids.shape[1], self.position.num_embeddings
        if length > longest:
            raise ModelError(f"a text of {length} tokens is longer than the {longest} this model has positions for")
        summed = self.word(input_ids) + self.position.weight[:length] + self.token_type.weight[0]
        out: Tensor = self.dropout(self.norm(summed))
        return out


class Attention(nn.Module):
    """Multi-head attention from text tokens to a source of any width, with its output projection."""

    def __init__(self, config: TextConfig, source_width: int) -> None:
        """Make an attention with fresh weights.

        Args:
            config: sizes of the text tokens.
            source_width: K, channels of the source: W for self-attention, the video's width for cross-attention.
        """
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout_rate = config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(source_width, config.width)
        self.value = nn.Linear(source_width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def project(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Compute keys and values.

        Args:
            source: (B, M, K).

        Returns:
            Keys and values, (B, H, M, d) each.
        """
        return self._heads(self.key(source)), self._heads(self.value(source))

    def attend(self, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from tokens to keys and values.

        Args:
            tokens: (B, L, W).
            keys: (B, H, M, d).
            values: (B, H, M, d).
            bias: added to the scores, broadcast to (B, H, L, M); None adds nothing.

        Returns:
            (B, L, W).
        """
        rate = self.dropout_rate if self.training else 0.0
        query = self._heads(self.query(tokens))
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, dropout_p=rate)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)  # (B, H, M, d)


class TextLayer(nn.Module):
    """Self-attention, then the feed-forward part; each is added to its input and the sum is normalised."""

    def __init__(self, config: TextConfig) -> None:
        """Make a layer with fresh weights.

        Args:
            config: sizes of the whole BERT.
        """
        super().__init__()
        self.attention = Attention(config, config.width)
        self.attention_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.contract = nn.Linear(config.feed_forward, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Run both parts of the layer.

        Args:
            hidden: (B, L, W).
            bias: (B, 1, 1, L), as from `padding_bias`.

        Returns:
            (B, L, W).
        """
        return self.feed_forward(self.attend_to_text(hidden, bias))

    def attend_to_text(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Run the self-attention part.

        Args:
            hidden: (B, L, W).
            bias: (B, 1, 1, L), as from `padding_bias`.

        Returns:
            (B, L, W).
        """
        attended = self.attention.attend(hidden, *self.attention.project(hidden), bias)
        out: Tensor = self.attention_norm(hidden + self.dropout(attended))
        return out

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Run the feed-forward part, which treats each token on its own.

        Args:
            hidden: (B, L, W).

        Returns:
            (B, L, W).
        """
        changed = self.contract(F.gelu(self.expand(hidden)))
        out: Tensor = self.feed_forward_norm(hidden + self.dropout(changed))
        return out


def padding_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask into the numbers that are added to attention scores.

    Args:
        attention_mask: (B, M), 1 for tokens that may be attended to, 0 for others.
        dtype: of the result.

    Returns:
        (B, 1, 1, M), 0 for tokens that may be attended to.
    """
    return (1 - attention_mask.to(dtype))[:, None, None] * MASKED_SCORE


def init_bert_weights(module: nn.Module) -> None:
    """Initialise a layer as BERT does: weights normal with a standard deviation of 0.02, biases and padding vector 0.

    Args:
        module: of any kind; only linear layers and embeddings change.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
