"""Load the library of C++ kernels (`csrc/vmr_ops.h`) by ctypes, and prepare tensors for its functions.

Two environment variables are read: on import `VMR_DISABLE_CPU_KERNEL=1`, which switches the library off, and at the
first use `VMR_CPU_ISA=avx512|avx2|baseline`, which lowers the instruction set, for tests and comparisons.
"""

import ctypes
import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from vmr.errors import VmrError
from vmr.ops.tensors import with_contiguous_channels

DTYPES = (torch.float32, torch.bfloat16)
LIMITS = "float32 and bfloat16, at most 64 states and 8 taps"
ABI_VERSION = 2  # VMR_ABI_VERSION
CHUNK_ROWS = 64  # VMR_CHUNK_ROWS
CHECKPOINT_LANES = 16  # VMR_CHECKPOINT_LANES

ISA_NAMES = {1: "baseline", 2: "AVX2", 3: "AVX-512"}
ISA_CHOICES = {"": 0, "baseline": 1, "avx2": 2, "avx512": 3}


class Rows(ctypes.Structure):
    """`vmr_rows`: a (B, L, channels) tensor with contiguous channels."""

    _fields_ = (("data", ctypes.c_void_p), ("batch_stride", ctypes.c_int64), ("row_stride", ctypes.c_int64))


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class ScanArgs(ctypes.Structure):
    """`vmr_scan_args`."""

    _fields_ = (
        *_fields(ctypes.c_int64, "batch length channels states rank"),
        *_fields(ctypes.c_int32, "dtype row_dtype softplus reverse threads isa"),
        *_fields(Rows, "u delta B C z addend out"),
        *_fields(ctypes.c_void_p, "A D delta_bias delta_weight checkpoints"),
    )


class ScanPairArgs(ctypes.Structure):
    """`vmr_scan_pair_args`."""

    _fields_ = (("first", ScanArgs), ("second", ScanArgs))


class ScanBackwardArgs(ctypes.Structure):
    """`vmr_scan_backward_args`."""

    _fields_ = (
        ("scan", ScanArgs),
        *_fields(Rows, "grad_out grad_u grad_delta grad_z grad_addend"),
        *_fields(ctypes.c_void_p, "grad_BC grad_A grad_D grad_delta_bias"),
    )


class ConvArgs(ctypes.Structure):
    """`vmr_conv_args`."""

    _fields_ = (
        *_fields(ctypes.c_int64, "batch length channels taps"),
        *_fields(ctypes.c_int32, "dtype threads isa unused"),
        *_fields(Rows, "x out reverse_out"),
        *_fields(ctypes.c_void_p, "weight bias reverse_weight reverse_bias"),
    )


class ConvBackwardArgs(ctypes.Structure):
    """`vmr_conv_backward_args`."""

    _fields_ = (
        ("conv", ConvArgs),
        *_fields(ctypes.c_int32, "reverse unused"),
        *_fields(Rows, "grad_out grad_x"),
        ("grad_weight", ctypes.c_void_p),
    )


class NormArgs(ctypes.Structure):
    """`vmr_norm_args`."""

    _fields_ = (
        *_fields(ctypes.c_int64, "batch length channels"),
        *_fields(ctypes.c_int32, "x_dtype out_dtype threads isa"),
        *_fields(Rows, "x residual stream out"),
        ("weight", ctypes.c_void_p),
        ("eps", ctypes.c_float),
    )


ENTRY_POINTS = {
    "vmr_scan_forward": ScanArgs,
    "vmr_scan_pair": ScanPairArgs,
    "vmr_scan_backward": ScanBackwardArgs,
    "vmr_conv_silu": ConvArgs,
    "vmr_conv_silu_backward": ConvBackwardArgs,
    "vmr_add_rms_norm": NormArgs,
}


def missing_reason() -> str:
    """Say why the library cannot be used.

    Returns:
        The reason and what to do, or an empty string if it can be used.
    """
    return _reason


def describe() -> str:
    """Describe the library for people.

    Returns:
        The instruction set and the threads in use, as in "AVX-512, 2 threads, OpenMP from torch".
    """
    threads = torch.get_num_threads()
    pool = "OpenMP from torch" if library().vmr_uses_openmp() else "own threads"
    return f"{ISA_NAMES[active_isa()]}, {threads} thread{'s' * (threads != 1)}, {pool}"


def library() -> ctypes.CDLL:
    """Return the loaded library.

    Returns:
        The library, with the argument types of its functions set.

    Raises:
        VmrError: it is absent, of another version, or switched off.
    """
    if _library is None:
        raise VmrError(f"backend 'cpu' is absent: {_reason}")
    return _library


@functools.cache
def requested_isa() -> int:
    """Read `VMR_CPU_ISA`.

    Returns:
        The `vmr_isa` that was asked for, 0 for the best that the processor has.

    Raises:
        VmrError: the name is unknown.
    """
    name = os.environ.get("VMR_CPU_ISA", "").lower()
    if name not in ISA_CHOICES:
        raise VmrError(f"VMR_CPU_ISA={name} is unknown; choose one of {', '.join(filter(None, ISA_CHOICES))}")
    return ISA_CHOICES[name]


def active_isa() -> int:
    """Find the instruction set that the kernels use.

    Returns:
        The `vmr_isa` that was asked for, or, if the processor lacks it, the best one below it.
    """
    best: int = library().vmr_best_isa()
    return min(requested_isa() or best, best)


def call(name: str, args: ctypes.Structure) -> None:
    """Call a function of the library.

    Args:
        name: one of `ENTRY_POINTS`.
        args: its arguments. They hold addresses only: the caller keeps the tensors alive.

    Raises:
        MemoryError: there was no memory for the function's scratch space.
    """
    if getattr(library(), name)(ctypes.byref(args)) != 0:
        raise MemoryError(f"{name}: no memory for its scratch space")


def dtype_code(tensor: Tensor) -> int:
    """Find the `vmr_dtype` of a tensor.

    Args:
        tensor: of one of `DTYPES`.

    Returns:
        Its code in `vmr_ops.h`.
    """
    return DTYPES.index(tensor.dtype)


def sequence(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Prepare a sequence for the library.

    Args:
        tensor: (B, L, channels), or None.
        dtype: the dtype that the library will read.

    Returns:
        The tensor in that dtype with contiguous channels, copied only if needed; None for None.
    """
    if tensor is None:
        return None
    return with_contiguous_channels(tensor if tensor.dtype == dtype else tensor.to(dtype))


def rows(tensor: Tensor | None) -> Rows:
    """Describe a sequence to the library.

    Args:
        tensor: (B, L, channels) with contiguous channels, or None.

    Returns:
        Its address and strides; null for None.
    """
    if tensor is None:
        return Rows()
    batch_stride, row_stride, _ = tensor.stride()
    return Rows(tensor.data_ptr(), batch_stride, row_stride)


def parameter(tensor: Tensor | None) -> Tensor | None:
    """Prepare a parameter for the library.

    Args:
        tensor: any parameter, or None.

    Returns:
        The parameter in float32 and contiguous, copied only if needed; None for None.
    """
    if tensor is None or (tensor.dtype == torch.float32 and tensor.is_contiguous()):
        return tensor
    return tensor.detach().float().contiguous()


def address(tensor: Tensor | None) -> int | None:
    """Find the address of a tensor.

    Args:
        tensor: any tensor, or None.

    Returns:
        The address of its first element; None, which is null in C, for None.
    """
    return None if tensor is None else tensor.data_ptr()


def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("VMR_DISABLE_CPU_KERNEL") == "1":
        return None, "it is switched off by VMR_DISABLE_CPU_KERNEL=1"
    folder = Path(__file__).parent
    path = next((p for suffix in EXTENSION_SUFFIXES if (p := folder / f"_scan{suffix}").exists()), None)
    if path is None:
        return None, "vmr was installed without a C++ compiler; install one (g++ or clang++) and reinstall vmr"
    try:
        loaded = ctypes.CDLL(str(path))
        version = loaded.vmr_abi_version()
    except (OSError, AttributeError) as error:
        return None, f"{path.name} cannot be loaded ({error}); reinstall vmr"
    if version != ABI_VERSION:
        return None, f"{path.name} has interface {version}, this vmr needs {ABI_VERSION}; reinstall vmr"
    for name, kind in ENTRY_POINTS.items():
        getattr(loaded, name).argtypes = [ctypes.POINTER(kind)]
    loaded.vmr_scan_parts.argtypes = [ctypes.c_int64, ctypes.c_int]
    loaded.vmr_conv_parts.argtypes = [ctypes.c_int64]
    loaded.vmr_scan_parts.restype = loaded.vmr_conv_parts.restype = ctypes.c_int64
    loaded.vmr_exponentials.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2 + [ctypes.c_int]
    return loaded, ""


# Loaded on import, so that torch.compile sees a constant; after torch, because the library uses torch's OpenMP.
_library, _reason = _load()
