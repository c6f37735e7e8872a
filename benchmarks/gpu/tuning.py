"""The scan's tile sizes, tried on sequences of typical sizes; `--tune` writes the best into the table in the package.

One setting is chosen for all sizes of a kind: the one whose times, each divided by the best time at that size, have the
lowest geometric mean.
"""

import itertools
import math
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.scans import random_scan
from benchmarks.gpu.timing import captured, median_ms
from vmr.ops import bidirectional_scan
from vmr.ops.gpu import tiles
from vmr.ops.gpu.scan_passes import gradients_of_sum
from vmr.ops.gpu.tiles import Tiles, architecture

FORWARD_SIZES = ((1, 12545, 1152), (1, 1569, 384), (8, 1569, 1152), (32, 315, 1152))
BACKWARD_SIZES = ((32, 315, 1152), (8, 1569, 384))
FORWARD_TILES = {(1, 64): 16, (2, 64): 12, (2, 128): 8, (2, 32): 15}  # -> programs whose registers fit a multiprocessor
BACKWARD_TILES = {(4, 128): 8, (4, 64): 12, (4, 32): 21, (2, 64): 25}
FORWARD = [
    {"rows": rows, "channels": channels, "programs": share * fit // 2, "whole": whole}
    for ((rows, channels), fit), share, whole in itertools.product(FORWARD_TILES.items(), (1, 2, 4), (2, 8))
]
BACKWARD = [
    {"backward_rows": rows, "backward_channels": channels, "backward_programs": share * fit, "backward_whole": whole}
    for ((rows, channels), fit), share, whole in itertools.product(BACKWARD_TILES.items(), (1, 2), (2, 8))
]


def measure() -> dict[str, Any]:
    """Time every setting at every size.

    Returns:
        `architecture`, `tiles` (the best setting), and `tables` with all times.
    """
    best = tiles.tiles_of(torch.device("cuda", 0))
    tables = {}
    for kind, settings, sizes in (("forward", FORWARD, FORWARD_SIZES), ("backward", BACKWARD, BACKWARD_SIZES)):
        times = [[_time(kind, size, setting) for size in sizes] for setting in settings]
        least = [min(column) for column in zip(*times, strict=True)]
        logs = [[math.log(t / low) for t, low in zip(row, least, strict=True)] for row in times]
        means = [sum(row) / len(row) for row in logs]
        chosen = settings[means.index(min(means))]
        best = replace(best, **chosen)
        tables[kind] = {"sizes": sizes, "settings": settings, "ms": times, "chosen": chosen}
    return {"architecture": architecture(torch.device("cuda", 0)), "tiles": asdict(best), "tables": tables}


def _time(kind: str, size: tuple[int, int, int], setting: dict[str, int]) -> float:
    """The time of the kernels alone, by a CUDA graph; else small sizes would measure the speed of Python."""
    first, second, z = random_scan(*size, dtype=torch.bfloat16)
    with mock.patch.object(tiles, "tiles_of", lambda _: Tiles(**setting)), torch.no_grad():
        if kind == "forward":
            out = torch.empty(z.shape, dtype=z.dtype, device=z.device)
            work = captured(lambda: bidirectional_scan(first, second, z, out=out, backend="triton"))
        else:
            grad = torch.randn(z.shape, device="cuda").to(z.dtype)
            work = captured(lambda: gradients_of_sum(grad, (first, second), delta_softplus=True, reverse=False))
        return median_ms(work, budget_ms=20)
