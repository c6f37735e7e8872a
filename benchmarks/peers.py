"""What VideoMamba-tiny is compared with: video transformers of its size, and itself on a textbook scan.

Shapes: B batch, T frames, N tokens, C width; in the scan L steps, D channels, N states.
"""

from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmr.ops import ScanInputs

WIDTH, NUM_LAYERS, NUM_HEADS = 192, 12, 3
PATCH = 16


class JointVit(nn.Module):
    """A ViT whose tokens attend to those of all frames at once, by torch's fused attention."""

    def __init__(self, num_frames: int, image_size: int) -> None:
        super().__init__()
        num_tokens = num_frames * (image_size // PATCH) ** 2
        self.patch_embed = nn.Conv3d(3, WIDTH, (1, PATCH, PATCH), stride=(1, PATCH, PATCH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 1 + num_tokens, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(VitBlock() for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, video: Tensor) -> Tensor:
        """video: (B, T, 3, H, W) -> (B, 1 + N, C)."""
        patches = self.patch_embed(video.transpose(1, 2)).flatten(2).transpose(1, 2)  # (B, N, C)
        x = torch.cat([self.cls_token.expand(len(video), -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class VitBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, C) -> (B, N, C)."""
        batch, num_tokens, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, num_tokens, 3, NUM_HEADS, width // NUM_HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads) each
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # (B, N, C)
        x = x + self.out(attended)
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norm2(x))))
        return out


def make_timesformer(num_frames: int, image_size: int) -> nn.Module:
    """TimeSformer (Bertasius et al. 2021) by Hugging Face: attention over time, then over space."""
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(
        image_size=image_size,
        patch_size=PATCH,
        num_frames=num_frames,
        hidden_size=WIDTH,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        intermediate_size=4 * WIDTH,
    )
    model: nn.Module = TimesformerModel(config)
    return model


def run_with_textbook_scan(model: nn.Module, video: Tensor) -> object:
    """Encode with the scan as papers print it, in place of whatever backend the model has."""
    with mock.patch("vmr.models.mixer.bidirectional_scan", textbook_bidirectional_scan):
        return model(video)


def run_with_mambapy_scan(model: nn.Module, video: Tensor) -> object:
    """Encode with mamba.py's parallel scan, which keeps all states for the backward pass."""
    with mock.patch("vmr.models.mixer.bidirectional_scan", mambapy_bidirectional_scan):
        return model(video)


def mambapy_bidirectional_scan(forward: ScanInputs, backward: ScanInputs, z: Tensor, **_: object) -> Tensor:
    """`vmr.ops.bidirectional_scan` by mamba.py; sequences are flipped."""
    return (_mambapy_scan(forward) + _mambapy_scan(_flipped(backward)).flip(1)) * F.silu(z)


def textbook_bidirectional_scan(forward: ScanInputs, backward: ScanInputs, z: Tensor, **_: object) -> Tensor:
    """`vmr.ops.bidirectional_scan` by all coefficients first, then one step after the other; sequences are flipped."""
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
