"""Step 4: times of the operations at the encoder's sizes, beside their floors.

A floor is what the card takes for the exponentials (two passes where the sequence is cut into chunks) or for the bytes
that have to be moved at least, whichever is more, at the rates that step 1 measured.
"""

from typing import Any

import torch

from benchmarks.gpu.scans import SIZES, random_scan, tokens
from benchmarks.gpu.timing import median_ms
from vmr.ops import ScanInputs, add_rms_norm, bidirectional_conv_silu, bidirectional_scan
from vmr.ops.gpu.tiles import forward_plan

CASES = (("Ti", 1, tokens(8)), ("Ti", 1, tokens(64)), ("M", 1, tokens(8)), ("M", 1, tokens(64)), ("M", 8, tokens(8)))
TRAINING = ("M", 32, 315)  # what an encoder sees of 8 frames of which 80 % are masked
STATES = 16


def measure(machine: dict[str, Any]) -> dict[str, Any]:
    """Forward at all sizes; forward and backward at the training size."""
    rows = []
    for name, batch, length in (*CASES, TRAINING):
        rows += _forward(name, batch, length, machine)
    rows += _backward(*TRAINING, machine)
    return {"rows": rows}


@torch.no_grad()
def _forward(name: str, batch: int, length: int, machine: dict[str, Any]) -> list[dict[str, Any]]:
    width = SIZES[name][0]
    channels, dtype = 2 * width, torch.bfloat16
    elements = batch * length * channels
    scans = [random_scan(batch, length, channels, dtype=dtype, seed=seed) for seed in range(3)]
    out = torch.empty(batch, length, channels, dtype=dtype, device="cuda")
    chunks = forward_plan(batch, length, channels, STATES, out.device).count
    scan_ms = median_ms([lambda s=s: bidirectional_scan(*s, out=out, backend="triton") for s in scans])
    filters = [torch.randn(channels, 4, device="cuda"), torch.randn(channels, device="cuda")]
    pair = (torch.empty_like(out), torch.empty_like(out))
    conv_ms = median_ms(
        [lambda s=s: bidirectional_conv_silu(s[2], filters, filters, out=pair, backend="triton") for s in scans]
    )
    hidden = torch.randn(batch, length, width, device="cuda", dtype=dtype)
    residual, weight = torch.randn(batch, length, width, device="cuda"), torch.ones(width, device="cuda")
    normed = torch.empty_like(hidden)
    norm_ms = median_ms(
        lambda: add_rms_norm(hidden, residual, weight, inplace=True, out=normed, backend="triton")
    )
    passes = 2 if chunks > 1 else 1
    return [
        _row("scan", name, batch, length, scan_ms, 2 * elements * STATES * passes, 12 * elements, machine, chunks),
        _row("convolution", name, batch, length, conv_ms, 2 * elements, 6 * elements, machine),
        _row("add + norm", name, batch, length, norm_ms, 0, 12 * elements // 2, machine),
    ]


def _backward(name: str, batch: int, length: int, machine: dict[str, Any]) -> list[dict[str, Any]]:
    channels = 2 * SIZES[name][0]
    elements = batch * length * channels
    first, second, z = random_scan(batch, length, channels, dtype=torch.bfloat16)
    leaves = [None if t is None else t.detach().requires_grad_() for t in (*first, *second, z)]
    grad = torch.randn(batch, length, channels, device="cuda", dtype=torch.bfloat16)

    def forward() -> torch.Tensor:
        return bidirectional_scan(ScanInputs(*leaves[:8]), ScanInputs(*leaves[8:16]), leaves[16], backend="triton")

    def step() -> None:
        y = forward()
        torch.autograd.grad(y, [t for t in leaves if t is not None], grad)

    forward_ms = median_ms(forward)
    both_ms = median_ms(step)
    # The state once forward, once in each tile; bytes: four sequences in and out for each direction, and the gate.
    return [
        _row("scan, saving for the backward", name, batch, length, forward_ms, 2 * elements * 16, 14 * elements, machine),
        _row("scan backward", name, batch, length, both_ms - forward_ms, 4 * elements * 16, 26 * elements, machine),
    ]


def _row(
    what: str, name: str, batch: int, length: int, ms: float, exponentials: int, num_bytes: int,
    machine: dict[str, Any], chunks: int = 1,
) -> dict[str, Any]:  # fmt: skip
    floor = max(exponentials / machine["exp_t_s"], num_bytes / machine["copy_tb_s"]) / 1e9
    return {
        "what": what, "model": name, "batch": batch, "tokens": length, "ms": ms, "floor_ms": floor,
        "times_floor": ms / floor, "chunks": chunks,
    }  # fmt: skip
