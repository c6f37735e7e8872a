"""Weights and inputs made from a name and a shape, by the rules under which the golden values were computed.

Only `torch.rand` is drawn on, whose bits are the same on every CPU. Shapes are those of upstream's state dicts.
"""

import math
import zlib

import torch
from torch import Tensor

Shape = tuple[int, ...]


def uniform(name: str, shape: Shape) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.rand(shape, generator=generator)


def unit(name: str, shape: Shape) -> Tensor:
    """Mean 0, variance 1."""
    return (uniform(name, shape) * 2 - 1) * math.sqrt(3.0)


def fill(key: str, shape: Shape) -> Tensor:
    """The weight that upstream calls `key`."""
    last = key.rsplit(".", 1)[-1]
    if last in ("A_log", "A_b_log"):
        return torch.tensor([math.log(n + 1) for n in range(shape[1])]) + 0.1 * unit(key, shape)
    if key.endswith(("dt_proj.bias", "dt_proj_b.bias")):  # softplus of it is log-uniform in 0.001 .. 0.1
        dt = torch.exp(uniform(key, shape).double() * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3))
        return (dt + torch.log(-torch.expm1(-dt))).float()
    if last in ("cls_token", "pos_embed", "temporal_pos_embedding"):
        return 0.3 * unit(key, shape)
    if len(shape) == 1:
        return 0.05 * unit(key, shape) if last == "bias" else 1 + 0.1 * unit(key, shape)
    return unit(key, shape) / math.sqrt(math.prod(shape[1:]))


def make_input(name: str, shape: Shape) -> Tensor:
    return unit(f"input:{name}", shape)


def make_mask(name: str, batch: int, frames: int, patches: int, ratio: float) -> Tensor:
    """bool (batch, 1 + frames * patches), True = dropped, as many in every frame; CLS is kept."""
    num_kept = patches - int(patches * ratio)
    order = torch.argsort(uniform(f"input:{name}", (batch * frames, patches)), dim=1, stable=True)
    dropped = torch.ones(batch * frames, patches, dtype=torch.bool).scatter_(1, order[:, :num_kept], False)
    return torch.cat([torch.zeros(batch, 1, dtype=torch.bool), dropped.view(batch, -1)], dim=1)


def encoder_shapes(
    width: int, num_layers: int, patches: int, frames: int, teacher_dim: int, taps: int
) -> dict[str, Shape]:
    """Every key of an upstream video encoder."""
    inner, rank = 2 * width, math.ceil(width / 16)
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + patches, width),
        "temporal_pos_embedding": (1, frames, width),
        "patch_embed.proj.weight": (width, 3, 1, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "pool_norm.weight": (width,),
        "pool_norm.bias": (width,),
    }
    for tap in range(taps):
        shapes[f"clip_decoder.{tap}.head.weight"] = (teacher_dim, width)
        for key in ("head.bias", "norm.weight", "norm.bias"):
            shapes[f"clip_decoder.{tap}.{key}"] = (teacher_dim,)
    for layer in range(num_layers):
        shapes[f"layers.{layer}.norm.weight"] = (width,)
        mixer = f"layers.{layer}.mixer"
        shapes[f"{mixer}.in_proj.weight"] = (2 * inner, width)
        shapes[f"{mixer}.out_proj.weight"] = (width, inner)
        for end, A_log in (("", "A_log"), ("_b", "A_b_log")):
            shapes[f"{mixer}.{A_log}"] = (inner, 16)
            shapes[f"{mixer}.D{end}"] = (inner,)
            shapes[f"{mixer}.conv1d{end}.weight"] = (inner, 1, 4)
            shapes[f"{mixer}.conv1d{end}.bias"] = (inner,)
            shapes[f"{mixer}.x_proj{end}.weight"] = (rank + 32, inner)
            shapes[f"{mixer}.dt_proj{end}.weight"] = (inner, rank)
            shapes[f"{mixer}.dt_proj{end}.bias"] = (inner,)
    return shapes


def small_encoder_weights(taps: int = 1) -> dict[str, Tensor]:
    """The small encoder of the golden values: width 64, 4 layers, 64 px, 4 frames, teacher width 32."""
    return {key: fill(key, shape) for key, shape in encoder_shapes(64, 4, 16, 4, 32, taps).items()}
