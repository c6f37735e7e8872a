"""Random scans on the GPU, as the encoder calls them: columns of wider tensors, low-rank step sizes."""

import math

import torch
from torch import Tensor

from vmr.ops import ScanInputs

SIZES = {"Ti": (192, 24), "S": (384, 24), "M": (576, 32)}  # width, layers
PATCHES = 196


def tokens(num_frames: int) -> int:
    """Count the tokens of a clip of 224 px, CLS included.

    Args:
        num_frames: its frames.

    Returns:
        Their number.
    """
    return 1 + PATCHES * num_frames


def random_scan(
    batch: int, length: int, channels: int, states: int = 16, *, dtype: torch.dtype, rank: int | None = None,
    seed: int = 0,
) -> tuple[ScanInputs, ScanInputs, Tensor]:  # fmt: skip
    """Draw the inputs of a bidirectional scan, with step sizes from 0.001 to 0.1, as models start with.

    Args:
        batch: number of sequences.
        length: steps of a sequence.
        channels: channels of a sequence.
        states: states of a channel.
        dtype: of the sequences; parameters are float32.
        rank: of the step sizes; channels / 32 if None.
        seed: of the random numbers.

    Returns:
        The tensors of both directions, and the gate.
    """
    random = torch.Generator(device="cuda").manual_seed(seed)
    rank = math.ceil(channels / 32) if rank is None else rank

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, device="cuda")

    xz = normal(batch, length, 2 * channels).to(dtype)
    directions = []
    for _ in range(2):
        projected = normal(batch, length, rank + 2 * states).to(dtype)
        low, B, C = projected.split([rank, states, states], dim=-1)
        steps = torch.exp(torch.rand(channels, generator=random, device="cuda") * math.log(100.0) + math.log(1e-3))
        directions.append(
            ScanInputs(
                u=normal(batch, length, channels).to(dtype),
                delta=low,
                A=-torch.rand(channels, states, generator=random, device="cuda") * states - 0.5,
                B=B,
                C=C,
                D=normal(channels),
                delta_bias=steps + torch.log(-torch.expm1(-steps)),  # the softplus of it is `steps`
                delta_weight=normal(channels, rank) * rank**-0.5 * 0.3,
            )
        )
    return directions[0], directions[1], xz[..., channels:]
