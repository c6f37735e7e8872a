"""The place that decides which implementation of an operation runs.

| backend | what it is | runs on |
|---|---|---|
| `reference` | the definition in plain PyTorch | anything |
| `cpu` | the C++ kernel built with vmr (`vmr/ops/csrc`) | CPU tensors, float32 and bfloat16 |
| `triton` | the Triton kernels (`vmr/ops/gpu`), compiled when first used | CUDA and ROCm tensors |
| `cuda` | `selective_scan_fn` of the mamba-ssm package, for comparison; the scan alone | CUDA tensors |

`auto` takes the fast backend of the tensors' device if it is available, else the reference, and logs the choice once
per process.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable
from typing import Literal, get_args

import torch

from vmr.errors import VmrError
from vmr.ops import cpu_kernel
from vmr.ops.gpu import support as triton_kernels

Backend = Literal["auto", "reference", "cpu", "triton", "cuda"]
Choice = Literal["reference", "cpu", "triton", "cuda"]

MAX_STATES = 64  # of one channel: small enough for the kernels' scratch space
MAX_TAPS = 8  # of a convolution

DTYPES = {"cpu": cpu_kernel.DTYPES, "triton": triton_kernels.DTYPES, "cuda": triton_kernels.DTYPES}
LIMITS = {"cpu": cpu_kernel.LIMITS, "triton": triton_kernels.LIMITS, "cuda": triton_kernels.LIMITS}

logger = logging.getLogger(__name__)


def choose_backend(requested: Backend, tensor: torch.Tensor, *, kernel_fits: bool = True) -> Choice:
    """Choose the backend for an operation on `tensor`.

    Args:
        requested: a backend's name, or `auto`.
        tensor: the operation's main input; the choice depends on its device and dtype.
        kernel_fits: False where the operation has no kernel for these sizes, so that `auto` takes the reference.

    Returns:
        The backend's name, never `auto`.

    Raises:
        VmrError: the backend asked for is unknown, absent, or not made for this device, dtype or size.
    """
    if requested == "auto":
        return _choose_automatically(tensor.device.type, tensor.dtype, kernel_fits)
    if requested == "reference":
        return "reference"
    if requested not in get_args(Choice):
        raise VmrError(f"backend {requested!r} is unknown; choose one of {', '.join(get_args(Backend))}")
    if reason := missing_reason(requested):
        raise VmrError(f"backend {requested!r} is absent: {reason}")
    if tensor.device.type != _device_type(requested):
        raise VmrError(f"backend {requested!r} got a tensor on {tensor.device}; move it there or use backend='auto'")
    if not (kernel_fits and tensor.dtype in DTYPES[requested]):
        raise VmrError(f"backend {requested!r} takes {LIMITS[requested]}; use backend='reference'")
    return requested


def missing_reason(backend: Choice) -> str:
    """Say why a backend cannot run here.

    Args:
        backend: its name.

    Returns:
        The reason and what to install, or an empty string if it can run.
    """
    if backend == "cpu":
        return cpu_kernel.missing_reason()
    if backend == "triton":
        reason: str = triton_kernels.missing_reason()
        return reason
    if backend == "cuda":
        return _mamba_ssm_missing_reason()
    return ""


def available_backends() -> dict[str, str]:
    """Describe all backends for people.

    Returns:
        Name -> "available (...)", or the reason why it is not.
    """
    return {name: missing_reason(name) or _describe(name) for name in get_args(Choice)}


def _describe(backend: Choice) -> str:
    describe: dict[Choice, Callable[[], str]] = {
        "reference": lambda: "plain PyTorch",
        "cpu": cpu_kernel.describe,
        "triton": triton_kernels.describe,
        "cuda": lambda: "mamba-ssm",
    }
    return f"available ({describe[backend]()})"


def _device_type(backend: Choice) -> str:
    """The type of the tensors that a backend works on."""
    return "cpu" if backend == "cpu" or (backend == "triton" and triton_kernels.interpreted()) else "cuda"


def _choose_automatically(device: str, dtype: torch.dtype, kernel_fits: bool) -> Choice:
    if torch.compiler.is_compiling():  # a log line inside the graph would break it in two
        return _preferred(device, dtype, kernel_fits)[0]
    return _choose_and_log(device, dtype, kernel_fits)


@functools.cache
def _choose_and_log(device: str, dtype: torch.dtype, kernel_fits: bool) -> Choice:
    choice, reason = _preferred(device, dtype, kernel_fits)
    _log_once(device, choice, reason)
    return choice


@functools.cache
def _log_once(device: str, choice: Choice, reason: str) -> None:
    if reason:
        logger.warning("%s tensors: backend %s, which is slow: %s", device, choice, reason)
    else:
        logger.info("%s tensors: backend %s, %s", device, choice, _describe(choice))


def _preferred(device: str, dtype: torch.dtype, kernel_fits: bool) -> tuple[Choice, str]:
    """The choice for `auto`, and why it is not the fast backend of this device; empty if it is."""
    best: Choice | None = {"cpu": "cpu", "cuda": "triton"}.get(device)  # type: ignore[assignment]
    if best is None:
        return "reference", ""
    fits = kernel_fits and dtype in DTYPES[best]
    reason = missing_reason(best) if fits else f"the kernels take {LIMITS[best]}"
    return ("reference", reason) if reason else (best, "")


@functools.cache
def _mamba_ssm_missing_reason() -> str:
    """Why mamba-ssm cannot be used. Without its compiled extension the package itself is of no use."""
    if _is_installed("selective_scan_cuda"):
        return "" if _is_installed("mamba_ssm") else "the mamba-ssm package is not installed"
    if _is_installed("mamba_ssm"):
        return "mamba-ssm was installed without its compiled scan; reinstall it with MAMBA_KEEP_CUDA_BUILD=TRUE set"
    return "the mamba-ssm package is not installed; vmr does not need it, backend 'triton' is the fast one"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was put into sys.modules by hand has no spec, but can be imported
        return True
