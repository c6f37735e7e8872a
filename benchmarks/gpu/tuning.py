"""Step 3: the scan's tile sizes, tried at the sizes that matter; the best go into `vmr/ops/gpu/tiles.json` with `--tune`.

What is chosen is one setting for all sizes of a kind: the one whose times, each divided by the best at that size, have
the lowest geometric mean.
"""

import itertools
import math
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.scans import random_scan
from benchmarks.gpu.timing import median_ms
from vmr.ops import ScanInputs, bidirectional_scan
from vmr.ops.gpu import tiles
from vmr.ops.gpu.tiles import Tiles, architecture

FORWARD_SIZES = ((1, 12545, 1152), (1, 1569, 384), (8, 1569, 1152), (32, 315, 1152))
BACKWARD_SIZES = ((32, 315, 1152), (8, 1569, 384))
FORWARD = [
    {"rows": rows, "channels": channels, "programs": programs, "whole": whole}
    for rows, channels in ((2, 64), (4, 64), (4, 32), (2, 128), (8, 64))
    for programs, whole in ((8, 4), (12, 4), (16, 4), (16, 8), (24, 4))
]
BACKWARD = [
    {"backward_rows": rows, "backward_channels": channels, "backward_programs": programs, "backward_whole": whole}
    for (rows, channels), (programs, whole) in itertools.product(
        ((4, 128), (2, 128), (4, 64), (8, 64)), ((8, 4), (8, 8), (12, 8), (16, 8))
    )
]


def measure() -> dict[str, Any]:
    """Times of every setting at every size, and the best setting."""
    best = tiles.tiles_of(torch.device("cuda", 0))
    tables = {}
    for kind, settings, sizes in (("forward", FORWARD, FORWARD_SIZES), ("backward", BACKWARD, BACKWARD_SIZES)):
        times = [[_time(kind, size, setting) for size in sizes] for setting in settings]
        least = [min(column) for column in zip(*times, strict=True)]
        means = [math.exp(sum(math.log(t / low) for t, low in zip(row, least, strict=True)) / len(row)) for row in times]
        chosen = settings[means.index(min(means))]
        best = replace(best, **chosen)
        tables[kind] = {"sizes": sizes, "settings": settings, "ms": times, "chosen": chosen}
    return {"architecture": architecture(torch.device("cuda", 0)), "tiles": asdict(best), "tables": tables}


def _time(kind: str, size: tuple[int, int, int], setting: dict[str, int]) -> float:
    first, second, z = random_scan(*size, dtype=torch.bfloat16)
    with mock.patch.object(tiles, "tiles_of", lambda _: Tiles(**setting)):
        if kind == "forward":
            out = torch.empty(z.shape, dtype=z.dtype, device=z.device)
            with torch.no_grad():
                return median_ms(lambda: bidirectional_scan(first, second, z, out=out, backend="triton"), budget_ms=20)
        leaves = [None if t is None else t.detach().requires_grad_() for t in (*first, *second, z)]
        y = bidirectional_scan(ScanInputs(*leaves[:8]), ScanInputs(*leaves[8:16]), leaves[16], backend="triton")
        wanted, grad = [t for t in leaves if t is not None], torch.randn_like(y)
        return median_ms(lambda: torch.autograd.grad(y, wanted, grad, retain_graph=True), budget_ms=30)
