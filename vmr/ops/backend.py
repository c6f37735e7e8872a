"""The one place that decides which implementation of an operation runs.

| backend | what it is | runs on |
|---|---|---|
| `reference` | the definition in plain PyTorch | anything |
| `cpu` | the C++ kernel built with vmr (`vmr/ops/csrc`) | CPU tensors, float32 and bfloat16 |
| `cuda` | `selective_scan_fn` of the mamba-ssm package | CUDA tensors |

`auto` takes the fast backend of the tensors' device when it is there and the reference otherwise, and logs the choice
once per process.
"""

import functools
import importlib.util
import logging
from typing import Literal, get_args

import torch

from vmr.errors import VmrError
from vmr.ops import cpu_kernel

Backend = Literal["auto", "reference", "cpu", "cuda"]
Choice = Literal["reference", "cpu", "cuda"]

logger = logging.getLogger(__name__)


def choose_backend(requested: Backend, tensor: torch.Tensor, *, kernel_fits: bool = True) -> Choice:
    """The backend that shall work on `tensor`.

    Args:
        requested: a backend's name, or `auto`.
        tensor: the operation's main input; its device and dtype decide.
        kernel_fits: False where the operation has no kernel for these sizes, so that `auto` takes the reference.

    Raises:
        VmrError: the backend asked for is unknown, absent, or not made for this device or dtype.
    """
    if requested == "auto":
        return _choose_automatically(tensor.device.type, kernel_fits and tensor.dtype in cpu_kernel.DTYPES)
    if requested == "reference":
        return "reference"
    if requested not in get_args(Choice):
        raise VmrError(f"backend {requested!r} is unknown; choose one of {', '.join(get_args(Backend))}")
    if reason := missing_reason(requested):
        raise VmrError(f"backend {requested!r} is absent: {reason}")
    if tensor.device.type != requested:
        raise VmrError(f"backend {requested!r} got a tensor on {tensor.device}; move it there or use backend='auto'")
    if requested == "cpu" and not (kernel_fits and tensor.dtype in cpu_kernel.DTYPES):
        raise VmrError(f"backend 'cpu' takes {cpu_kernel.LIMITS}; use backend='reference'")
    return requested


def missing_reason(backend: Choice) -> str:
    """Why `backend` cannot run here and what to install, or an empty string when it can."""
    if backend == "cpu":
        return cpu_kernel.missing_reason()
    if backend == "cuda":
        return _cuda_missing_reason()
    return ""


def available_backends() -> dict[str, str]:
    """Each backend's name with "available (...)" or the reason why it is not, for people to read."""
    details = {"reference": "available (plain PyTorch)", "cuda": "available (mamba-ssm)"}
    return {
        name: missing_reason(name) or details.get(name) or f"available ({cpu_kernel.describe()})"
        for name in get_args(Choice)
    }


def _choose_automatically(device: str, kernel_fits: bool) -> Choice:
    if torch.compiler.is_compiling():  # a log line inside the graph would break it in two
        return _preferred(device, kernel_fits)[0]
    return _choose_and_log(device, kernel_fits)


@functools.cache
def _choose_and_log(device: str, kernel_fits: bool) -> Choice:
    choice, regret = _preferred(device, kernel_fits)
    if regret:
        logger.warning("%s tensors: backend %s, which is slow: %s", device, choice, regret)
    else:
        logger.info("%s tensors: backend %s, %s", device, choice, available_backends()[choice])
    return choice


def _preferred(device: str, kernel_fits: bool) -> tuple[Choice, str]:
    """The choice for `auto`, and why the fast backend of this device was not taken, if so."""
    if device == "cpu":
        regret = missing_reason("cpu") if kernel_fits else f"the kernel takes {cpu_kernel.LIMITS}"
        return ("reference", regret) if regret else ("cpu", "")
    if device == "cuda":
        regret = missing_reason("cuda")
        return ("reference", regret) if regret else ("cuda", "")
    return "reference", ""


def _cuda_missing_reason() -> str:
    if not _mamba_ssm_importable():
        return "the mamba-ssm package is not installed: pip install 'vmr[gpu]'"
    return ""


def _mamba_ssm_importable() -> bool:
    try:
        return importlib.util.find_spec("mamba_ssm") is not None
    except ValueError:  # a module put into sys.modules by hand has no spec, and is there all the same
        return True
