"""The peers of VideoMamba-tiny: video transformers of its size, and itself with other scans.

Shapes: B batch, T frames, N tokens, C width; in the scan L steps, D channels, N states.
"""

from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmr.ops import ScanInputs

PATCH = 16


class VitSize(NamedTuple):
    """The size of a ViT.

    Attributes:
        width: channels of the residual stream.
        num_layers: number of blocks.
        num_heads: attention heads.
    """

    width: int = 192
    num_layers: int = 12
    num_heads: int = 3


TINY, BASE = VitSize(), VitSize(768, 12, 12)


class JointVit(nn.Module):
    """A ViT whose tokens attend to the tokens of all frames at once.

    Args:
        num_frames: frames of a clip.
        image_size: side of a frame in pixels.
        size: width, layers and heads.
        materialised: whether attention writes its whole matrix to memory, as in VideoMamba's paper; else it is fused.
    """

    def __init__(
        self, num_frames: int, image_size: int, size: VitSize = TINY, *, materialised: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        num_tokens = num_frames * (image_size // PATCH) ** 2
        self.patch_embed = PatchEmbed(size.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.positions = nn.Parameter(torch.randn(1, 1 + num_tokens, size.width) * 0.02)
        self.blocks = nn.ModuleList(VitBlock(size, materialised=materialised) for _ in range(size.num_layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, video: Tensor) -> Tensor:
        """Encode clips.

        Args:
            video: (B, T, 3, H, W).

        Returns:
            The tokens after the last layer, (B, 1 + N, C).
        """
        patches = self.patch_embed(video).flatten(1, 2)  # (B, N, C)
        x = torch.cat([self.cls_token.expand(len(video), -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class DividedVit(nn.Module):
    """TimeSformer (Bertasius et al. 2021): attention over time, then over space, by torch's fused attention.

    Args:
        num_frames: frames of a clip.
        image_size: side of a frame in pixels.
        size: width, layers and heads.
    """

    def __init__(self, num_frames: int, image_size: int, size: VitSize = TINY) -> None:
        super().__init__()
        patches = (image_size // PATCH) ** 2
        self.patch_embed = PatchEmbed(size.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.positions = nn.Parameter(torch.randn(1, 1, patches, size.width) * 0.02)
        self.times = nn.Parameter(torch.randn(1, num_frames, 1, size.width) * 0.02)
        self.blocks = nn.ModuleList(DividedBlock(size) for _ in range(size.num_layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, video: Tensor) -> Tensor:
        """Encode clips.

        Args:
            video: (B, T, 3, H, W).

        Returns:
            The tokens after the last layer, (B, 1 + N, C).
        """
        x = self.patch_embed(video) + self.positions + self.times  # (B, T, S, C)
        cls_token = self.cls_token.expand(len(video), -1, -1)
        for block in self.blocks:
            cls_token, x = block(cls_token, x)
        out: Tensor = self.norm(torch.cat([cls_token, x.flatten(1, 2)], dim=1))
        return out


class PatchEmbed(nn.Module):
    """Patch embedding: one matrix product of the unfolded patches.

    Args:
        width: channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(3 * PATCH * PATCH, width)

    def forward(self, video: Tensor) -> Tensor:
        """Embed the patches.

        Args:
            video: (B, T, 3, H, W).

        Returns:
            The S tokens of each frame, (B, T, S, C).
        """
        patches = video.unfold(3, PATCH, PATCH).unfold(4, PATCH, PATCH)  # (B, T, 3, H/P, W/P, P, P)
        out: Tensor = self.proj(patches.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3))
        return out


class Attention(nn.Module):
    """Self-attention over the second last dimension.

    Args:
        size: width and heads.
        materialised: whether the whole matrix is written to memory.
    """

    def __init__(self, size: VitSize, *, materialised: bool = False) -> None:
        super().__init__()
        self.num_heads, self.materialised = size.num_heads, materialised
        self.qkv, self.out = nn.Linear(size.width, 3 * size.width), nn.Linear(size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: (B, N, C).

        Returns:
            (B, N, C).
        """
        batch, num_tokens, width = x.shape
        heads = self.qkv(x).view(batch, num_tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads) each
        if self.materialised:
            weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(dim=-1)
            attended = weights @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Sequential):
    """The MLP of a ViT, four times as wide inside.

    Args:
        width: channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class VitBlock(nn.Module):
    """Pre-norm attention and MLP.

    Args:
        size: width and heads.
        materialised: whether attention writes its whole matrix to memory.
    """

    def __init__(self, size: VitSize, *, materialised: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attention, self.mlp = Attention(size, materialised=materialised), Mlp(size.width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: (B, N, C).

        Returns:
            (B, N, C).
        """
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DividedBlock(nn.Module):
    """Pre-norm attention over time, over space, and MLP. CLS attends to each frame; the results are averaged.

    Args:
        size: width and heads.
    """

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.norm_time, self.norm1, self.norm2 = (nn.LayerNorm(size.width) for _ in range(3))
        self.over_time, self.over_space, self.mlp = Attention(size), Attention(size), Mlp(size.width)
        self.after_time = nn.Linear(size.width, size.width)

    def forward(self, cls_token: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            cls_token: (B, 1, C).
            x: (B, T, S, C).

        Returns:
            Both, in the same shapes.
        """
        batch, frames, patches, width = x.shape
        tracks = x.transpose(1, 2).flatten(0, 1)  # (B*S, T, C)
        moved = self.after_time(self.over_time(self.norm_time(tracks)))
        x = x + moved.view(batch, patches, frames, width).transpose(1, 2)
        pictures = torch.cat([cls_token.repeat_interleave(frames, dim=0), x.flatten(0, 1)], dim=1)  # (B*T, 1 + S, C)
        seen = self.over_space(self.norm1(pictures))
        cls_token = cls_token + seen[:, :1].view(batch, frames, width).mean(dim=1, keepdim=True)
        x = x + seen[:, 1:].reshape(x.shape)
        return cls_token + self.mlp(self.norm2(cls_token)), x + self.mlp(self.norm2(x))


def make_timesformer(num_frames: int, image_size: int) -> nn.Module:
    """Make TimeSformer (Bertasius et al. 2021) by Hugging Face: attention over time, then over space.

    Args:
        num_frames: frames of a clip.
        image_size: side of a frame in pixels.

    Returns:
        The model, of the size of `TINY`, with random weights.
    """
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(
        image_size=image_size,
        patch_size=PATCH,
        num_frames=num_frames,
        hidden_size=TINY.width,
        num_hidden_layers=TINY.num_layers,
        num_attention_heads=TINY.num_heads,
        intermediate_size=4 * TINY.width,
    )
    model: nn.Module = TimesformerModel(config)
    return model


def run_with_textbook_scan(model: nn.Module, video: Tensor) -> object:
    """Encode with the scan as papers print it, instead of the model's backend.

    Args:
        model: VideoMamba.
        video: (B, T, 3, H, W).

    Returns:
        What the model returns.
    """
    with mock.patch("vmr.models.videomamba.mixer.bidirectional_scan", textbook_bidirectional_scan):
        return model(video)


def run_with_mambapy_scan(model: nn.Module, video: Tensor) -> object:
    """Encode with mamba.py's parallel scan, which keeps all states for the backward pass.

    Args:
        model: VideoMamba.
        video: (B, T, 3, H, W).

    Returns:
        What the model returns.
    """
    with mock.patch("vmr.models.videomamba.mixer.bidirectional_scan", mambapy_bidirectional_scan):
        return model(video)


def mambapy_bidirectional_scan(forward: ScanInputs, backward: ScanInputs, z: Tensor, **_: object) -> Tensor:
    """Compute `vmr.ops.bidirectional_scan` by mamba.py, which needs flipped sequences.

    Args:
        forward: the tensors of the scan from the left.
        backward: the tensors of the scan from the right.
        z: (B, L, D), gate.

    Returns:
        (B, L, D).
    """
    return (_mambapy_scan(forward) + _mambapy_scan(_flipped(backward)).flip(1)) * F.silu(z)


def textbook_bidirectional_scan(forward: ScanInputs, backward: ScanInputs, z: Tensor, **_: object) -> Tensor:
    """Compute `vmr.ops.bidirectional_scan` as papers do: all coefficients, then step by step, on flipped sequences.

    Args:
        forward: the tensors of the scan from the left.
        backward: the tensors of the scan from the right.
        z: (B, L, D), gate.

    Returns:
        (B, L, D).
    """
    return (_textbook_scan(forward) + _textbook_scan(_flipped(backward)).flip(1)) * F.silu(z)


def _flipped(inputs: ScanInputs) -> ScanInputs:
    return inputs._replace(u=inputs.u.flip(1), delta=inputs.delta.flip(1), B=inputs.B.flip(1), C=inputs.C.flip(1))


def _mambapy_scan(inputs: ScanInputs) -> Tensor:
    from mambapy.pscan import pscan

    u, delta, A, B, C, D, delta_bias, delta_weight = inputs
    assert D is not None and delta_bias is not None and delta_weight is not None
    step = F.softplus(F.linear(delta.float(), delta_weight) + delta_bias)  # (B, L, D)
    decay = torch.exp(step.unsqueeze(-1) * A)  # (B, L, D, N)
    drive = (step * u).unsqueeze(-1) * B.unsqueeze(2)
    states = pscan(decay, drive)
    return (states @ C.unsqueeze(-1)).squeeze(-1) + u * D


def _textbook_scan(inputs: ScanInputs) -> Tensor:
    u, delta, A, B, C, D, delta_bias, delta_weight = inputs
    assert D is not None and delta_bias is not None and delta_weight is not None
    step = F.softplus(F.linear(delta.float(), delta_weight) + delta_bias)  # (B, L, D)
    decay = torch.exp(torch.einsum("bld,dn->bldn", step, A))
    drive = torch.einsum("bld,bln,bld->bldn", step, B.float(), u.float())
    state = torch.zeros_like(decay[:, 0])  # (B, D, N)
    outputs = []
    for index in range(u.shape[1]):
        state = decay[:, index] * state + drive[:, index]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, index].float()))
    return (torch.stack(outputs, dim=1) + u * D).to(u.dtype)
