"""Whether the Triton kernels can run here, and on which device.

Triton reads `TRITON_INTERPRET=1` when it is imported: its interpreter then runs the kernels on CPU tensors, slowly, for
tests. `VMR_DISABLE_TRITON=1` switches the kernels off.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os

import torch
from torch import Tensor

from vmr.errors import VmrError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LIMITS = "float32, bfloat16 and float16, at most 64 states and 8 taps"
MAX_BATCH = 32767
OLDEST = (3, 3)  # comes with torch 2.7; earlier versions cannot carry tuples of registers through a loop


def interpreted() -> bool:
    """Say whether kernels run in Triton's interpreter, on CPU tensors.

    Returns:
        True if `TRITON_INTERPRET` is set.
    """
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def missing_reason() -> str:
    """Say why the kernels cannot run here.

    Returns:
        The reason and what to do, or an empty string if they can run.
    """
    return _missing_reason()


# Its system calls are not traced. torch.compiler.assume_constant_result does the same, but first imports the whole
# compiler: 1.2 s and 100 MB for every process that runs an encoder.
missing_reason._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _missing_reason() -> str:
    if os.environ.get("VMR_DISABLE_TRITON") == "1":
        return "it is switched off by VMR_DISABLE_TRITON=1"
    version = triton_version()
    if not version:
        return "Triton is not installed; on Linux it comes with torch"
    if _numbers(version) < OLDEST:
        return f"Triton {version} is too old; install torch 2.7 or newer, which brings {OLDEST[0]}.{OLDEST[1]}"
    if interpreted():
        return _interpreter_missing_reason(version)
    return "" if torch.cuda.is_available() else "there is no CUDA or ROCm GPU that torch can use"


def _interpreter_missing_reason(version: str) -> str:
    """Why the interpreter cannot run the kernels.

    Before 3.4 it lacks a type that the kernels use; before 3.7 its loops fail on NumPy 2.4.
    """
    numpy = importlib.metadata.version("numpy")
    if _numbers(version) < (3, 4):
        return f"the interpreter of Triton {version} does not run these kernels; use Triton 3.4 or newer"
    if _numbers(version) < (3, 7) and _numbers(numpy) >= (2, 4):
        return f"the interpreter of Triton {version} does not run on NumPy {numpy}; use Triton 3.7 or NumPy 2.3"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@functools.cache
def triton_version() -> str:
    """Find the version of Triton.

    Returns:
        The version, as in "3.6.0"; an empty string without Triton.
    """
    if importlib.util.find_spec("triton") is None:
        return ""
    for package in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm", "triton-windows"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package).split("+")[0]
    return str(importlib.import_module("triton").__version__)


def describe() -> str:
    """Describe Triton and the GPU for people.

    Returns:
        The version and the GPU, as in "Triton 3.6.0, NVIDIA H100".
    """
    return f"Triton {triton_version()}, {'its interpreter, on the CPU' if interpreted() else _gpu_name()}"


def _gpu_name() -> str:
    try:
        return torch.cuda.get_device_name()
    except RuntimeError as error:  # the machine has a GPU, but it is busy or broken
        return f"a GPU that does not answer: {str(error).splitlines()[0]}"


def check_batch(x: Tensor) -> None:
    """Check that one launch can number all sequences, those of both directions counted.

    Args:
        x: (B, L, D).

    Raises:
        VmrError: B is above `MAX_BATCH`.
    """
    if len(x) > MAX_BATCH:
        raise VmrError(
            f"the Triton kernels take at most {MAX_BATCH} sequences at once, not {len(x)}: use smaller batches"
        )


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Make a tensor's device the current one, where kernels are launched.

    Args:
        tensor: any tensor.

    Returns:
        A context manager.
    """
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def parameter(tensor: Tensor) -> Tensor:
    """Prepare a parameter for the scan's kernels.

    Args:
        tensor: any parameter.

    Returns:
        The parameter in float32 and contiguous.
    """
    return tensor.detach().float().contiguous()
