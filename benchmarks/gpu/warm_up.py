"""Compile every kernel that the other steps use, in several processes, into Triton's cache."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.scans import random_scan

WIDTHS = (384, 1152)
PROCESSES = 12


def measure(*, tune: bool) -> dict[str, Any]:
    """Compile all kernels. What fails here is named, and fails again in the step that uses it.

    Args:
        tune: whether to compile the kernels of `tuning` too.

    Returns:
        `seconds`, the number of `jobs`, and `errors`.
    """
    from benchmarks.gpu.tuning import BACKWARD_TILES, FORWARD_TILES
    from vmr.ops.gpu.tiles import tiles_of

    start = time.perf_counter()
    base = tiles_of(torch.device("cuda", 0))
    forward = {(base.rows, base.channels), *(FORWARD_TILES if tune else ())}
    backward = {(base.backward_rows, base.backward_channels), *(BACKWARD_TILES if tune else ())}
    jobs = [(kind, tile, whole) for whole in (0, 10**6) for kind, tiles in
            (("forward", forward), ("saving", forward), ("backward", backward)) for tile in sorted(tiles)]  # fmt: skip
    jobs = [job for job in jobs if job[0] != "saving" or job[1] == (base.rows, base.channels)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        errors = [error for error in pool.map(_compile, jobs) if error]
    return {"seconds": time.perf_counter() - start, "jobs": len(jobs), "errors": errors}


def _compile(job: tuple[str, tuple[int, int], int]) -> str:
    """Compile one kind of pass with one chunk (`whole` 0) or several, at the widths of Ti and M; returns the error."""
    from vmr.ops import ScanInputs, bidirectional_scan
    from vmr.ops.gpu import tiles
    from vmr.ops.gpu.scan_passes import gradients_of_sum

    kind, (rows, channels), whole = job
    if kind == "backward":
        chosen = tiles.Tiles(backward_rows=rows, backward_channels=channels, backward_whole=whole)
    else:
        chosen = tiles.Tiles(rows=rows, channels=channels, whole=whole)
    try:
        for width in WIDTHS:
            with mock.patch.object(tiles, "tiles_of", lambda _: chosen):
                first, second, z = random_scan(2, 193, width, dtype=torch.bfloat16)
                if kind == "forward":
                    with torch.no_grad():
                        bidirectional_scan(first, second, z, backend="triton")
                elif kind == "saving":
                    leaves = [None if t is None else t.requires_grad_() for t in (*first, *second, z.clone())]
                    bidirectional_scan(ScanInputs(*leaves[:8]), ScanInputs(*leaves[8:16]), leaves[16], backend="triton")
                else:
                    with torch.no_grad():
                        gradients_of_sum(z.contiguous(), (first, second), delta_softplus=True, reverse=False)
    except Exception as error:
        return f"{job}: {type(error).__name__}: {error}"[:500]
    return ""
