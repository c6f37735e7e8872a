"""Times of the operations at the encoder's sizes, beside their lower bounds.

A lower bound ("floor") is the time for the exponentials (of two passes if the sequence is cut into chunks) or for the
bytes that must at least be moved, whichever is more, at the rates that `machine` measured.
"""

from typing import Any

import torch

from benchmarks.gpu.scans import SIZES, random_scan, tokens
from benchmarks.gpu.timing import captured, median_ms
from vmr.ops import add_rms_norm, bidirectional_conv_silu, bidirectional_scan
from vmr.ops.gpu.scan_passes import gradients_of_sum
from vmr.ops.gpu.tiles import backward_plan, forward_plan

CASES = (("Ti", 1, tokens(8)), ("Ti", 1, tokens(64)), ("M", 1, tokens(8)), ("M", 1, tokens(64)), ("M", 8, tokens(8)))
TRAINING = ("M", 32, 315)  # about what an encoder sees of 8 frames of which 80 % are masked
STATES = 16
PROFILED = 5


def measure(machine: dict[str, Any]) -> dict[str, Any]:
    """Time the forward pass at all sizes, and forward and backward at the training size.

    Args:
        machine: the rates from `benchmarks.gpu.machine`.

    Returns:
        `rows`, one for each operation and size, and `parts`, the times of single kernels.
    """
    rows = []
    for name, batch, length in (*CASES, TRAINING):
        rows += _forward(name, batch, length, machine)
    rows += _backward(*TRAINING, machine)
    return {"rows": rows, "parts": _parts()}


@torch.no_grad()
def _forward(name: str, batch: int, length: int, machine: dict[str, Any]) -> list[dict[str, Any]]:
    width = SIZES[name][0]
    channels, dtype = 2 * width, torch.bfloat16
    elements = batch * length * channels
    scans = [random_scan(batch, length, channels, dtype=dtype, seed=seed) for seed in range(3)]
    out = torch.empty(batch, length, channels, dtype=dtype, device="cuda")
    chunks = forward_plan(batch, length, channels, out.device).count
    scan_ms = _median([lambda s=s: bidirectional_scan(*s, out=out, backend="triton") for s in scans])
    filters = [torch.randn(channels, 4, device="cuda"), torch.randn(channels, device="cuda")]
    pair = (torch.empty_like(out), torch.empty_like(out))
    conv_ms = _median(
        [lambda s=s: bidirectional_conv_silu(s[2], filters, filters, out=pair, backend="triton") for s in scans]
    )
    hidden = torch.randn(batch, length, width, device="cuda", dtype=dtype)
    residual, weight = torch.randn(batch, length, width, device="cuda"), torch.ones(width, device="cuda")
    normed = torch.empty_like(hidden)
    norm_ms = _median([lambda: add_rms_norm(hidden, residual, weight, inplace=True, out=normed, backend="triton")])
    passes = 2 if chunks > 1 else 1
    return [
        _row("scan", name, batch, length, scan_ms, 2 * elements * STATES * passes, 12 * elements, machine, chunks),
        _row("convolution", name, batch, length, conv_ms, 2 * elements, 6 * elements, machine),
        _row("add + norm", name, batch, length, norm_ms, 0, 12 * elements // 2, machine),
    ]


@torch.no_grad()
def _backward(name: str, batch: int, length: int, machine: dict[str, Any]) -> list[dict[str, Any]]:
    channels = 2 * SIZES[name][0]
    elements = batch * length * channels
    scans = [random_scan(batch, length, channels, dtype=torch.bfloat16, seed=seed) for seed in range(2)]
    grad = torch.randn(batch, length, channels, device="cuda").bfloat16()
    ms = _median([lambda s=s: gradients_of_sum(grad, s[:2], delta_softplus=True, reverse=False) for s in scans])
    chunks = backward_plan(2 * batch, length, channels, grad.device).count
    passes = 4 if chunks > 1 else 2  # passes over the states: one in order and one in each tile; with chunks, two more
    exponentials = 2 * elements * STATES * passes
    return [_row("scan backward", name, batch, length, ms, exponentials, 20 * elements, machine, chunks)]


def _parts() -> dict[str, dict[str, float]]:
    """Microseconds of each kernel of the longest forward pass and of the passes at the training size."""
    channels = 2 * SIZES["M"][0]
    long, short = (random_scan(*shape, channels, dtype=torch.bfloat16) for shape in ((1, tokens(64)), TRAINING[1:]))
    grad = torch.randn(short[2].shape, device="cuda").bfloat16()
    works = {
        f"forward {(1, tokens(64), channels)}": lambda: bidirectional_scan(*long, backend="triton"),
        f"forward {(*TRAINING[1:], channels)}": lambda: bidirectional_scan(*short, backend="triton"),
        f"backward {(*TRAINING[1:], channels)}": lambda: gradients_of_sum(
            grad, short[:2], delta_softplus=True, reverse=False
        ),
    }
    found = {}
    for name, work in works.items():
        with torch.no_grad():
            work()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                for _ in range(PROFILED):
                    work()
                torch.cuda.synchronize()
        events = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
        found[name] = {e.key: e.self_device_time_total / PROFILED for e in events if e.self_device_time_total}
    return found


def _median(works: list[Any]) -> float:
    """The median time of the works as CUDA graphs: without the time that Python takes to launch kernels."""
    return median_ms([captured(work) for work in works])


def _row(  # noqa: PLR0917 - a line of the table
    what: str, name: str, batch: int, length: int, ms: float, exponentials: int, num_bytes: int,
    machine: dict[str, Any], chunks: int = 1,
) -> dict[str, Any]:  # fmt: skip
    floor = max(exponentials / machine["exp_t_s"], num_bytes / machine["copy_tb_s"]) / 1e9
    return {
        "what": what, "model": name, "batch": batch, "tokens": length, "ms": ms, "floor_ms": floor,
        "times_floor": ms / floor, "chunks": chunks,
    }  # fmt: skip
