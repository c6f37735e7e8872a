"""ViViT with a factorised encoder (Arnab et al. 2021, "ViViT: A Video Vision Transformer", model 2).

Shapes: see `vmr.models.comparators.transformer`.
"""

import torch
from torch import Tensor, nn

from vmr.models.comparators.config import TransformerConfig
from vmr.models.comparators.transformer import VideoTransformer, layer_norm, make_block, reset_linears
from vmr.models.videomamba.mixer import stochastic_depth_rates


class Vivit(VideoTransformer):
    """A spatial encoder turns each time step into one vector; a temporal encoder reads these vectors.

    Time steps meet only in the temporal encoder, so that the cost grows with the number of frames, not its square.
    `temporal_pos_embedding` is added to the vectors of the time steps.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make a network with fresh weights.

        Args:
            config: its sizes; `num_layers` spatial layers and `num_time_layers` temporal ones.
        """
        rates = stochastic_depth_rates(config.drop_path, config.num_layers + config.num_time_layers)
        super().__init__(config, (make_block(config.width, config.heads, rate) for rate in rates[: config.num_layers]))
        self.temporal = TemporalEncoder(config, rates[config.num_layers :])

    def embed(self, video: Tensor) -> Tensor:
        """Compute the temporal encoder's class token; see `VideoTransformer.embed`."""
        patches = self.embed_patches(video, with_time=False)  # (B, S, N, C)
        batch, steps, _, _ = patches.shape
        cls_token = self.class_tokens(batch * steps).to(patches.dtype)
        tokens = torch.cat([cls_token, patches.flatten(0, 1)], dim=1)  # (B*S, 1 + N, C)
        for index in range(len(self.layers)):
            tokens = self.run_layer(index, tokens)
        steps_seen: Tensor = self.norm(tokens[:, 0]).view(batch, steps, -1)  # (B, S, C)
        if video.shape[1] > 1:
            steps_seen = steps_seen + self.temporal_pos_embedding
        seen: Tensor = self.temporal(steps_seen)
        return seen


class TemporalEncoder(nn.Module):
    """Transformer layers over the vectors of the time steps, with a class token of their own."""

    def __init__(self, config: TransformerConfig, drop_path_rates: list[float]) -> None:
        """Make an encoder.

        Args:
            config: sizes of the whole network.
            drop_path_rates: of each layer.
        """
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.layers = nn.ModuleList(make_block(config.width, config.heads, rate) for rate in drop_path_rates)
        self.norm = layer_norm(config.width)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        reset_linears(self, config.init)

    def forward(self, steps: Tensor) -> Tensor:
        """Read the vectors of the time steps.

        Args:
            steps: (B, S, C).

        Returns:
            The class token after the last norm, (B, C).
        """
        tokens = torch.cat([self.cls_token.expand(len(steps), -1, -1).to(steps.dtype), steps], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        normed: Tensor = self.norm(tokens[:, 0])
        return normed
