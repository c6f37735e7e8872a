"""The machine and its greatest rates: bytes, matrix products and exponentials per second."""

import platform
from typing import Any

import torch
import triton
import triton.language as tl

from benchmarks.gpu.timing import median_ms

EXPONENTIALS_EACH = 4096


@triton.jit
def _exponentials(out, COUNT: tl.constexpr):
    at = tl.program_id(0) * 1024 + tl.arange(0, 1024)
    x = at.to(tl.float32) * -1e-9
    for _ in range(COUNT // 8):
        for _ in tl.static_range(8):
            x = tl.exp2(x) - 1.5
    tl.store(out + at, x)


def measure() -> dict[str, Any]:
    """Measure the rates.

    Returns:
        GPU, versions, and rates: `copy_tb_s`, `bf16_tflop_s` and `exp_t_s` (10^12 exponentials per second).
    """
    properties = torch.cuda.get_device_properties(0)
    source = torch.randn(1 << 28, device="cuda")  # 1 GiB, beyond any cache
    target = torch.empty_like(source)
    copy_ms = median_ms(lambda: target.copy_(source))
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product_ms = median_ms(lambda: left @ right)
    programs = 132 * 64
    out = torch.empty(programs * 1024, device="cuda")
    exp_ms = median_ms(lambda: _exponentials[(programs,)](out, COUNT=EXPONENTIALS_EACH, num_warps=8))
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": properties.total_memory / 1e9,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "python": platform.python_version(),
        "copy_tb_s": 2 * source.numel() * 4 / copy_ms / 1e9,
        "bf16_tflop_s": 2 * 8192**3 / product_ms / 1e9,
        "exp_t_s": programs * 1024 * EXPONENTIALS_EACH / exp_ms / 1e9,
    }
