"""TimeSformer with divided attention (Bertasius et al. 2021, "Is Space-Time Attention All You Need?").

Shapes: see `vmr.models.comparators.transformer`.
"""

import torch
from torch import Tensor, nn

from vmr.models.comparators.config import TransformerConfig
from vmr.models.comparators.transformer import VideoTransformer, import_timm, layer_norm
from vmr.models.videomamba.mixer import drop_path, stochastic_depth_rates


class TimeSformer(VideoTransformer):
    """Each token attends to its patch in all frames, then to its frame; `head` reads the class token.

    The attention over time starts without an effect, so that weights of an image ViT give at first what they give for
    its frames. An image passes the attention over space alone.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make a network with fresh weights.

        Args:
            config: its sizes.
        """
        rates = stochastic_depth_rates(config.drop_path, config.num_layers)
        super().__init__(config, (DividedBlock(config.width, config.heads, rate) for rate in rates))
        for layer in self.layers:
            assert isinstance(layer, DividedBlock)
            if config.init == "published":
                nn.init.zeros_(layer.temporal_fc.weight)

    def embed(self, video: Tensor) -> Tensor:
        """Compute the class token after the last norm; see `VideoTransformer.embed`."""
        patches = self.embed_patches(video)  # (B, S, N, C)
        cls_token = self.class_tokens(len(video)).to(patches.dtype)
        for index in range(len(self.layers)):
            cls_token, patches = self.run_layer(index, cls_token, patches)
        normed: Tensor = self.norm(cls_token[:, 0])
        return normed


class DividedBlock(nn.Module):
    """Attention over time, attention over space, and an MLP, each with its norm before it.

    The class token has no part in the attention over time. It attends to every frame by itself, and the results are
    averaged. Names of parameters are those of the paper's code.
    """

    def __init__(self, width: int, num_heads: int, drop_path_rate: float) -> None:
        """Make a block.

        Args:
            width: C.
            num_heads: attention heads, of both attentions.
            drop_path_rate: at which each of the three outputs is dropped in training, for a whole clip at once.
        """
        super().__init__()
        timm = import_timm()
        self.temporal_norm1, self.norm1, self.norm2 = (layer_norm(width) for _ in range(3))
        self.temporal_attn = timm.Attention(width, num_heads, qkv_bias=True)
        self.temporal_fc = nn.Linear(width, width)
        self.attn = timm.Attention(width, num_heads, qkv_bias=True)
        self.mlp = timm.Mlp(width, 4 * width)
        self.drop_path_rate = drop_path_rate

    def forward(self, cls_token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            cls_token: (B, 1, C).
            patches: (B, S, N, C).

        Returns:
            Both, in the same shapes.
        """
        batch, steps, number, width = patches.shape
        if steps > 1:
            tracks = patches.transpose(1, 2).flatten(0, 1)  # (B*N, S, C)
            moved = self.temporal_fc(self.temporal_attn(self.temporal_norm1(tracks)))
            moved = moved.view(batch, number, steps, width).transpose(1, 2).flatten(1, 2)
            patches = patches + self._dropped(moved).view(patches.shape)
        frames = torch.cat([cls_token.repeat_interleave(steps, dim=0), patches.flatten(0, 1)], dim=1)  # (B*S, 1 + N, C)
        seen = self.attn(self.norm1(frames)).view(batch, steps, 1 + number, width)
        seen = torch.cat([seen[:, :, 0].mean(dim=1, keepdim=True), seen[:, :, 1:].flatten(1, 2)], dim=1)
        tokens = torch.cat([cls_token, patches.flatten(1, 2)], dim=1) + self._dropped(seen)  # (B, 1 + S*N, C)
        tokens = tokens + self._dropped(self.mlp(self.norm2(tokens)))
        return tokens[:, :1], tokens[:, 1:].view(patches.shape)

    def _dropped(self, hidden: Tensor) -> Tensor:
        return drop_path(hidden, self.drop_path_rate, training=self.training)
