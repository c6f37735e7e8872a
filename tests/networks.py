"""A small network for the tests of `vmr.models.runtime`, and its inputs."""

import numpy as np
import torch
from torch import nn

from vmr.models.runtime import Network


class Small(nn.Module):
    """Takes a batch of one sequence of 5 numbers a step, of any length."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 64), nn.GELU(), nn.Linear(64, 7))

    def forward(self, steps):
        return self.layers(steps).mean(1).softmax(-1)


def network(name: str, module: type[nn.Module] = Small) -> Network:
    return Network(
        name, "0123456789abcdef", (1, -1, 5), lambda: module().eval(), lambda: [steps(4)[None], steps(9)[None]]
    )


def steps(length: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((length, 5), dtype=np.float32)
