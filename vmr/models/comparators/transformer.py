"""What the video transformers share: patches, positions, blocks and the head.

Shapes: B batch, T frames, H = W pixels, S time steps (T / tubelet_size; 1 for an image), N patches of a time step,
C width.

Blocks, attention and MLP are timm's, whose attention is torch's `scaled_dot_product_attention`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import Self

from vmr.errors import MissingExtraError
from vmr.models.comparators.config import Init, TransformerConfig
from vmr.models.videomamba.backbone import PatchEmbed, check_video
from vmr.models.videomamba.interpolation import resized_copy

NORM_EPS = 1e-6
_SCALED_POSITIONS = 1.0  # as large as the patches; with 0.2, order is not seen for up to 3 times as many steps


class VideoTransformer(nn.Module, ABC):
    """A transformer that classifies videos and images from a class token; subclasses say which tokens meet.

    Names of parameters are upstream's, and `layers` for what it calls `blocks`, as in VideoMamba.

    Attributes:
        config: its sizes.
        layers: the blocks.
        norm: the last norm.
        head: from the width to the classes.
    """

    def __init__(self, config: TransformerConfig, layers: Iterable[nn.Module]) -> None:
        """Make a transformer with fresh weights.

        Args:
            config: its sizes.
            layers: the blocks.
        """
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.grid_size**2, config.width))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.num_steps, config.width))
        self.layers = nn.ModuleList(layers)
        self.norm = layer_norm(config.width)
        self.head = nn.Linear(config.width, config.num_classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02 if config.init == "published" else _SCALED_POSITIONS)
        if config.init == "scaled":
            nn.init.trunc_normal_(self.temporal_pos_embedding, std=_SCALED_POSITIONS)
        reset_linears(self, config.init)

    @abstractmethod
    def embed(self, video: Tensor) -> Tensor:
        """Compute what the head reads.

        Args:
            video: floats (B, T, 3, H, W), as `forward` takes them.

        Returns:
            (B, C).

        Raises:
            ModelError: the video does not have the size that this network takes.
        """

    def forward(self, video: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            video: floats (B, T, 3, H, W), normalised; T = 1 for images, which get no temporal position.

        Returns:
            Logits (B, num_classes).

        Raises:
            ModelError: the video does not have the size that this network takes.
        """
        logits: Tensor = self.head(self.embed(video))
        return logits

    def embed_patches(self, video: Tensor, *, with_time: bool = True) -> Tensor:
        """Turn patches into tokens with positions.

        Args:
            video: floats (B, T, 3, H, W).
            with_time: whether the tokens of a clip get the temporal position of their time step.

        Returns:
            (B, S, N, C).

        Raises:
            ModelError: the video does not have the size that this network takes.
        """
        check_video(video, self.config)
        is_image = video.shape[1] == 1
        if is_image:  # one time step, however many frames a token takes
            video = video.expand(-1, self.config.tubelet_size, -1, -1, -1)
        patches: Tensor = self.patch_embed(video) + self.pos_embed[:, None, 1:]
        return patches if is_image or not with_time else patches + self.temporal_pos_embedding[:, :, None]

    def class_tokens(self, number: int) -> Tensor:
        """Give class tokens with their position.

        Args:
            number: how many.

        Returns:
            (number, 1, C).
        """
        return (self.cls_token + self.pos_embed[:, :1]).expand(number, -1, -1)

    def run_layer(self, index: int, *tokens: Tensor) -> Any:
        """Run a block; one of the first `config.checkpointed_layers` recomputes its activations in the backward pass.

        Args:
            index: of the block.
            *tokens: what it takes.

        Returns:
            What the block returns.
        """
        if torch.is_grad_enabled() and index < self.config.checkpointed_layers:
            return checkpoint(self.layers[index], *tokens, use_reentrant=False)
        return self.layers[index](*tokens)

    def resized(self, *, image_size: int | None = None, num_frames: int | None = None) -> Self:
        """Copy the network for another input size; positions are interpolated, those of time linearly.

        Args:
            image_size: side of the frames in pixels; default, as before.
            num_frames: frames of a clip; default, as before.

        Returns:
            A copy that does not share weights with this network.

        Raises:
            ModelError: these sizes do not fit the network.
        """
        return resized_copy(self, image_size, num_frames)


def layer_norm(width: int) -> nn.LayerNorm:
    """Make a norm as the published transformers have it.

    Args:
        width: C.

    Returns:
        The norm.
    """
    return nn.LayerNorm(width, eps=NORM_EPS)


def make_block(width: int, num_heads: int, drop_path_rate: float) -> nn.Module:
    """Make timm's block: attention over the second dimension, then an MLP of four times the width.

    Args:
        width: C.
        num_heads: attention heads.
        drop_path_rate: at which the output of the attention, or of the MLP, of a row is dropped in training.

    Returns:
        The block, from (B, L, C) to (B, L, C).

    Raises:
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    block: nn.Module = timm.Block(
        width, num_heads, qkv_bias=True, drop_path=drop_path_rate, norm_layer=partial(nn.LayerNorm, eps=NORM_EPS)
    )
    return block


def import_timm() -> Any:
    """Import the module of timm that holds its blocks.

    Returns:
        `timm.models.vision_transformer`.

    Raises:
        MissingExtraError: timm is not installed.
    """
    try:
        from timm.models import vision_transformer
    except ImportError:
        raise MissingExtraError("timm, which builds the blocks of transformers", "train") from None
    return vision_transformer


def reset_linears(module: nn.Module, init: Init) -> None:
    """Start all linear layers, with biases of 0.

    Args:
        module: it and what it contains.
        init: published as ViT does, with normal weights of deviation 0.02; scaled by the sizes of each matrix.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            if init == "scaled":
                nn.init.xavier_uniform_(part.weight)
            else:
                nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
