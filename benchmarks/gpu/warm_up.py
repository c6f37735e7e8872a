"""Step 0: compile every kernel that the other steps use, in several processes, into Triton's cache."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.scans import random_scan

CHANNELS = {"Ti": 384, "M": 1152}
PROCESSES = 8


def measure(*, tune: bool) -> dict[str, Any]:
    """Seconds it took; what fails is named and fails again, by itself, in its own step."""
    from benchmarks.gpu.tuning import BACKWARD, FORWARD

    start = time.perf_counter()
    shapes = {(s["rows"], s["channels"]) for s in FORWARD} if tune else set()
    back = {(s["backward_rows"], s["backward_channels"]) for s in BACKWARD} if tune else set()
    jobs: list[tuple[Any, ...]] = [(None, None)]
    jobs += [(shape, None) for shape in sorted(shapes)] + [(None, shape) for shape in sorted(back)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        errors = [error for error in pool.map(_compile, jobs) if error]
    return {"seconds": time.perf_counter() - start, "jobs": len(jobs), "errors": errors}


def _compile(job: tuple[Any, ...]) -> str:
    """One chunk and several, at the widths of Ti and M, with and without gradients, by one setting of the tiles."""
    from vmr.ops import ScanInputs, bidirectional_scan
    from vmr.ops.gpu import tiles

    forward, backward = job
    base = tiles.tiles_of(torch.device("cuda", 0))
    setting = {**vars(base)}
    if forward:
        setting |= {"rows": forward[0], "channels": forward[1]}
    if backward:
        setting |= {"backward_rows": backward[0], "backward_channels": backward[1]}
    try:
        for channels in CHANNELS.values():
            for whole in (0, 10**6):
                setting |= {"whole": whole, "backward_whole": whole}
                chosen = tiles.Tiles(**setting)
                with mock.patch.object(tiles, "tiles_of", lambda _, chosen=chosen: chosen):
                    first, second, z = random_scan(2, 193, channels, dtype=torch.bfloat16)
                    if not backward:
                        with torch.no_grad():
                            bidirectional_scan(first, second, z, backend="triton")
                    if not forward:
                        leaves = [None if t is None else t.requires_grad_() for t in (*first, *second, z.clone())]
                        args = ScanInputs(*leaves[:8]), ScanInputs(*leaves[8:16]), leaves[16]
                        bidirectional_scan(*args, backend="triton").sum().backward()
    except Exception as error:
        return f"{job}: {type(error).__name__}: {error}"[:500]
    return ""
