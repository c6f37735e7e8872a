"""ViT over videos (Dosovitskiy et al. 2021): every token attends to the tokens of all frames at once.

This is the baseline of VideoMamba's paper, which calls it TimeSformer-Ti in figure 1. Shapes: see
`vmr.models.comparators.transformer`.
"""

import torch
from torch import Tensor

from vmr.models.comparators.config import TransformerConfig
from vmr.models.comparators.transformer import VideoTransformer, make_block
from vmr.models.videomamba.mixer import stochastic_depth_rates


class JointVit(VideoTransformer):
    """Joint attention over space and time. Its cost grows with the square of the number of frames."""

    def __init__(self, config: TransformerConfig) -> None:
        """Make a network with fresh weights.

        Args:
            config: its sizes.
        """
        rates = stochastic_depth_rates(config.drop_path, config.num_layers)
        super().__init__(config, (make_block(config.width, config.heads, rate) for rate in rates))

    def embed(self, video: Tensor) -> Tensor:
        """Compute the class token after the last norm; see `VideoTransformer.embed`."""
        patches = self.embed_patches(video).flatten(1, 2)  # (B, S*N, C)
        tokens = torch.cat([self.class_tokens(len(video)).to(patches.dtype), patches], dim=1)
        for index in range(len(self.layers)):
            tokens = self.run_layer(index, tokens)
        normed: Tensor = self.norm(tokens[:, 0])
        return normed
