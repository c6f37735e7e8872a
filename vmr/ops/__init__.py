"""The operations of VideoMamba: selective scan, convolution, and residual add with RMSNorm.

Each has a plain PyTorch definition beside it (`..._reference`), which its faster backends are tested against; `backend`
chooses one of them. Import what `__all__` lists; `cpu_kernel`, `gpu` and the `..._cpu` modules are implementations.
"""

from vmr.ops.backend import available_backends
from vmr.ops.causal_conv import bidirectional_conv_silu, causal_conv_silu
from vmr.ops.rms_norm import add_rms_norm
from vmr.ops.scan_inputs import ScanInputs
from vmr.ops.selective_scan import bidirectional_scan, selective_scan

__all__ = [
    "ScanInputs",
    "add_rms_norm",
    "available_backends",
    "bidirectional_conv_silu",
    "bidirectional_scan",
    "causal_conv_silu",
    "selective_scan",
]
