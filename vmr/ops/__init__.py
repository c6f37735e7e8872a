"""The operations VideoMamba is made of: each a plain PyTorch definition with faster backends tested against it."""

from vmr.ops.backend import available_backends
from vmr.ops.causal_conv import bidirectional_conv_silu
from vmr.ops.rms_norm import add_rms_norm
from vmr.ops.scan_inputs import ScanInputs
from vmr.ops.selective_scan import bidirectional_scan, selective_scan

__all__ = [
    "ScanInputs",
    "add_rms_norm",
    "available_backends",
    "bidirectional_conv_silu",
    "bidirectional_scan",
    "selective_scan",
]
