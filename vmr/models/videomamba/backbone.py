"""The parts that the video encoder and the classifier share: turning pixels into tokens, and the layers.

Shapes: B batch, T frames, H = W pixels, k tubelet frames, P patch side, G = H / P, S = T / k time steps (1 for an
image), N = S * G * G patch tokens in frame order, C width. Token 0 is CLS.

Parameter names are those of upstream's checkpoints.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import Self

from vmr.errors import ModelError
from vmr.models.videomamba.interpolation import resized_copy
from vmr.models.videomamba.layer_graphs import LayerGraphs
from vmr.models.videomamba.mixer import BidirectionalMixer, Block, DtInit, drop_path, stochastic_depth_rates
from vmr.models.videomamba.workspace import PackedWeights, Workspace
from vmr.ops.backend import Backend

Size = Literal["tiny", "small", "middle", "base"]
SIZES: dict[Size, tuple[int, int]] = {"tiny": (192, 24), "small": (384, 24), "middle": (576, 32), "base": (768, 24)}
"""Width and number of layers of the published sizes (Li et al. 2024, "VideoMamba")."""


MAX_FRAMES, MAX_SIDE = 65536, 4096
"""Frames of a clip and pixels of a side; larger ones are typing errors, for which no machine has the memory."""


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the layers and of their input.

    Attributes:
        width: C, channels of the residual stream.
        num_layers: number of blocks.
        image_size: side of the square input in pixels; a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        num_frames: frames of a clip, a multiple of `tubelet_size`; an image (one frame) is always accepted as well.
        tubelet_size: frames in one token.
        drop_path: rate in [0, 1) at which the last layer's output is dropped in training (stochastic depth); the rates
            rise evenly from 0 at the first layer.
        checkpointed_layers: how many layers, from the first, recompute their activations in the backward pass, which
            takes less memory and more time.
        dt_init: initial step sizes of the scans; see `BidirectionalMixer.reset_parameters`.

    Raises:
        ModelError: a size is out of range, or two do not fit each other.
    """

    width: int = 192
    num_layers: int = 24
    image_size: int = 224
    patch_size: int = 16
    num_frames: int = 8
    tubelet_size: int = 1
    drop_path: float = 0.0
    checkpointed_layers: int = 0
    dt_init: DtInit = "intended"

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "image_size", "patch_size", "num_frames", "tubelet_size"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name, at_most in (("num_frames", MAX_FRAMES), ("image_size", MAX_SIDE)):
            if getattr(self, name) > at_most:
                raise ModelError(f"{name} is {getattr(self, name)}, but must be at most {at_most}")
        if self.image_size % self.patch_size:
            raise ModelError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if self.num_frames % self.tubelet_size:
            raise ModelError(f"num_frames {self.num_frames} is no multiple of tubelet_size {self.tubelet_size}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ModelError(f"drop_path is {self.drop_path}, but must be in [0, 1)")
        if not 0 <= self.checkpointed_layers <= self.num_layers:
            raise ModelError(f"checkpointed_layers is {self.checkpointed_layers}: not in [0, {self.num_layers}]")
        if self.dt_init not in get_args(DtInit):
            raise ModelError(f"dt_init is {self.dt_init!r}; use one of {', '.join(get_args(DtInit))}")

    @property
    def grid_size(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def num_steps(self) -> int:
        """Time steps of a clip."""
        return self.num_frames // self.tubelet_size


class PatchEmbed(nn.Module):
    """Turns patches into tokens: a convolution whose stride is its size, computed as one matrix product."""

    def __init__(self, config: BackboneConfig) -> None:
        """Make a filter with fresh weights.

        Args:
            config: sizes of patches and tubelets, and the width.
        """
        super().__init__()
        kernel = (config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.width, kernel, stride=kernel)

    def forward(self, video: Tensor) -> Tensor:
        """Embed patches.

        Args:
            video: floats (B, T, 3, H, W).

        Returns:
            (B, S, G*G, C) in the dtype of the weights.
        """
        tubelet, side, _ = self.proj.kernel_size
        batch, frames, _, height, width = video.shape
        patches = video.reshape(batch, frames // tubelet, tubelet, 3, height // side, side, width // side, side)
        patches = patches.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(2, 3)  # (B, S, G*G, 3*k*P*P)
        return F.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class VideoMambaBackbone(nn.Module):
    """From pixels to the residual stream after the last layer; subclasses add the final norm and their outputs.

    Attributes:
        config: sizes of the layers and of the input.
        layers: the blocks.
        packed: weights laid out for the CPU by `pack_products`.
        layer_graphs: CUDA graphs of the layers, made by `graph_layers`; None without.
    """

    def __init__(self, config: BackboneConfig, *, backend: Backend = "auto") -> None:
        """Make a backbone with fresh weights.

        Args:
            config: its sizes.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.grid_size**2, config.width))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.num_steps, config.width))
        rates = stochastic_depth_rates(config.drop_path, config.num_layers)
        self.layers = nn.ModuleList(
            Block(config.width, rate, self.make_mixer(backend), backend=backend) for rate in [0.0, *rates[:-1]]
        )
        self.last_drop_path_rate = rates[-1]
        self.packed = PackedWeights()
        self.layer_graphs: LayerGraphs | None = None
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for layer in self.blocks:
            layer.mixer.reset_parameters(config.num_layers, config.dt_init)

    def make_mixer(self, backend: Backend) -> BidirectionalMixer:
        """Make the mixer of a layer; its weights are not set.

        Args:
            backend: implementation of the kernels, as in `vmr.ops.backend`.

        Returns:
            The mixer.
        """
        return BidirectionalMixer(self.config.width, backend=backend)

    @property
    def blocks(self) -> list[Block]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def embed_tokens(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Cut a video into tokens, add positions, and drop the tokens that the mask marks.

        Args:
            video: floats (B, T, 3, H, W); T is `config.num_frames`, or 1 for images.
            mask: bool (B, 1 + N), True = dropped; see `VideoMamba.forward`. None keeps all tokens.

        Returns:
            (B, 1 + N, C), or (B, 1 + kept, C) with a mask; CLS first.

        Raises:
            ModelError: the video does not have the configured size, or the mask is not as required.
        """
        check_video(video, self.config)
        is_image = video.shape[1] == 1
        if is_image:  # one time step, however many frames a token takes
            video = video.expand(-1, self.config.tubelet_size, -1, -1, -1)
        patches = self.patch_embed(video) + self.pos_embed[:, None, 1:]  # (B, S, G*G, C)
        if not is_image:
            patches = patches + self.temporal_pos_embedding[:, :, None]
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(video), -1, -1)
        tokens = torch.cat([cls_token.to(patches.dtype), patches.flatten(1, 2)], dim=1)  # (B, 1 + N, C)
        if mask is None:
            return tokens
        check_mask(mask, tokens.shape[0], tokens.shape[1])
        return tokens[~mask].reshape(len(tokens), -1, tokens.shape[2])  # (B, 1 + kept, C)

    def run_layers(
        self, tokens: Tensor, workspace: Workspace, wanted: Collection[int] = ()
    ) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Run all layers.

        Args:
            tokens: (B, L, C).
            workspace: where the layers put their results.
            wanted: indices of layers after which the residual stream is wanted as well; not the last layer's.

        Returns:
            The last layer's output (B, L, C); the float32 residual stream (B, L, C), to which this output is not yet
            added; and index -> residual stream for the `wanted` layers.
        """
        if self.layer_graphs is not None and tokens.is_cuda and torch.is_grad_enabled():
            return self.layer_graphs(tokens, wanted)
        hidden, residual, streams = tokens, None, {}
        dtype = self.compute_dtype(tokens)
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and index < self.config.checkpointed_layers:
                hidden, residual = checkpoint(block, hidden, residual, dtype, workspace, use_reentrant=False)
            else:
                hidden, residual = block(hidden, residual, dtype, workspace)
            if index - 1 in wanted:
                streams[index - 1] = residual.clone() if workspace.reuses_buffers else residual
        assert residual is not None  # a config has at least one layer
        return drop_path(hidden, self.last_drop_path_rate, training=self.training), residual, streams

    def graph_layers(self) -> Self:
        """Run the layers as CUDA graphs in training, for GPUs that wait for the CPU to launch small kernels.

        Returns:
            The model.
        """
        self.layer_graphs = LayerGraphs(self)
        return self

    def resized(self, *, image_size: int | None = None, num_frames: int | None = None) -> Self:
        """Copy the model for another input size; positions are interpolated as upstream does.

        Args:
            image_size: side of the frames in pixels; default, as before.
            num_frames: frames of a clip; default, as before.

        Returns:
            A copy that does not share weights with this model.

        Raises:
            ModelError: these sizes do not fit the model.
        """
        return resized_copy(self, image_size, num_frames)

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        """Tell the dtype of the matrix products.

        Args:
            tensor: an input, whose device decides whether autocast is on.

        Returns:
            Autocast's dtype where it is on, else that of the weights.
        """
        device = tensor.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.blocks[0].mixer.in_proj.weight.dtype

    def cast_products(self, dtype: torch.dtype) -> Self:
        """Convert the weights of the matrix products, for inference; states, sums and norms stay float32.

        With bfloat16 this computes what autocast does, without casting every weight at every call.

        Args:
            dtype: of the weights, such as torch.bfloat16.

        Returns:
            The model.
        """
        for product in (self.patch_embed.proj, *self._linears()):
            product.to(dtype)
        return self

    def pack_products(self) -> Self:
        """Lay the weights of the layers' matrix products out for this CPU, for inference; call it after cast_products.

        The products take a tenth less time in float32 and a fifth less in bfloat16; the weights take twice the memory.
        Call it again after changing weights: the next forward pass raises ModelError if an optimiser or
        `load_state_dict` has changed them.

        Returns:
            The model.
        """
        num_tokens = 1 + self.config.num_steps * self.config.grid_size**2
        self.packed = PackedWeights([linear.weight for linear in self._linears()], num_tokens)
        return self

    def _linears(self) -> list[nn.Linear]:
        return [linear for block in self.blocks for linear in block.mixer.linears]


def check_video(video: Tensor, config: BackboneConfig) -> None:
    """Check that a video has the size that a model takes.

    Args:
        video: (B, T, 3, H, W).
        config: sizes of the model's input.

    Raises:
        ModelError: it has another size, or another number of frames than `config.num_frames` and 1.
    """
    size, frames = config.image_size, config.num_frames
    if video.dim() != 5 or video.shape[2:] != (3, size, size) or video.shape[1] not in (1, frames):
        raise ModelError(
            f"video is {tuple(video.shape)}, but this model takes (B, {frames} or 1, 3, {size}, {size}); "
            "`resized()` gives it another size or number of frames"
        )


def check_mask(mask: Tensor, batch: int, num_tokens: int) -> None:
    """Check a mask of tokens.

    Args:
        mask: True = dropped.
        batch: number of samples.
        num_tokens: tokens of a sample, CLS included.

    Raises:
        ModelError: the mask is not bool (batch, num_tokens), drops CLS (column 0), or drops different numbers of tokens
            in different samples.
    """
    if mask.dtype != torch.bool or mask.shape != (batch, num_tokens):
        raise ModelError(f"mask is {mask.dtype} {tuple(mask.shape)}; it must be bool ({batch}, {num_tokens})")
    if bool(mask[:, 0].any()):
        raise ModelError("mask drops a CLS token (column 0), which must be kept")
    dropped = mask.sum(dim=1)
    if bool((dropped != dropped[0]).any()):
        raise ModelError(
            f"mask drops {dropped.min()} to {dropped.max()} tokens; every sample must drop the same number"
        )
