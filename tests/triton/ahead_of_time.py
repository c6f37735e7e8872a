"""Kernels compiled for GPUs that this machine lacks, and registers, spills and loops in their machine code."""

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from vmr.ops.gpu import support

# Arguments by name, a second direction's without its "_b". What is in none of these is a float32 tensor: parameters,
# states, the residual stream and partial sums.
SEQUENCES = re.compile("[uxyz]|low|B|C|sums|addend|grad(_(u|delta|x|y|z|sums))?")
INTEGERS = re.compile(r"length|channels|chunks?|max_tiles|batch|items|rank|num_rows|rows_each|\w*stride_\w+")
# low, B and C are columns of one projection, whose width and rank need not be multiples of 16.
UNALIGNED = re.compile("rank|((batch_)?stride_)?(low|B|C)")


class Target(NamedTuple):
    """A GPU to compile for."""

    backend: str  # Triton's name for it: "cuda" or "hip"
    architecture: int | str
    warp: int  # threads
    half: str  # the half precision that sequences have there, in Triton's short name


class Resources(NamedTuple):
    """The resources of one thread of a kernel."""

    registers: int  # on AMD vector registers
    spilled: int  # NVIDIA: bytes of stack; AMD: vector registers


class Loop(NamedTuple):
    """A loop of the machine code that holds no other loop."""

    instructions: int
    exponentials: int
    stack_accesses: int


def missing_reason() -> str:
    """Why nothing can be compiled or counted here, or an empty string."""
    if support.interpreted():
        return "with TRITON_INTERPRET set there is nothing to compile"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return "" if _cuobjdump().is_file() else f"this Triton comes without {_cuobjdump().name}"


def missing_linker() -> str:
    """Why nothing can be compiled for AMD: before 3.6, Triton needed ROCm's linker; or an empty string."""
    from triton.backends.amd.compiler import HIPBackend

    try:
        getattr(HIPBackend, "path_to_rocm_lld", str)()
    except Exception as error:  # it raises nothing more precise
        return str(error)
    return ""


def _cuobjdump() -> Path:
    (folder,) = importlib.util.find_spec("triton").submodule_search_locations
    return Path(folder, "backends/nvidia/bin/cuobjdump")


def compile_kernel(kernel: Any, constants: dict[str, Any], options: dict[str, int], target: Target, dtype: str) -> Any:
    """The kernel as Triton would compile it at a launch, without a GPU or a driver.

    Args:
        kernel: of `triton.jit`, outside the interpreter.
        constants: at least the kernel's `tl.constexpr` arguments.
        options: `num_warps` and others of a launch.
        target: the GPU.
        dtype: of the sequences: "fp16", "bf16" or "fp32".
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, divisible = {}, {}
    for index, argument in enumerate(kernel.params):
        kind = "constexpr" if argument.is_constexpr else _type_of(argument.name, kernel.__name__, dtype)
        signature[argument.name] = kind
        if kind not in ("constexpr", "fp32") and not (argument.do_not_specialize or _unaligned(argument.name)):
            divisible[index,] = [["tt.divisibility", 16]]
    constexprs = {name: constants[name] for name, kind in signature.items() if kind == "constexpr"}
    source = ASTSource(kernel, signature, constexprs, divisible)
    return triton.compile(source, target=GPUTarget(*target[:3]), options=options)


def _type_of(argument: str, kernel: str, dtype: str) -> str:
    name = argument.removesuffix("_b")
    if INTEGERS.fullmatch(name):
        return "i32"
    if name == "eps":
        return "fp32"
    if name == "B_C" and kernel != "step_sizes":  # which writes them one by one
        return "*i64"
    if name == "delta":
        return "*fp32" if dtype == "fp32" else "*fp16"
    return f"*{dtype}" if SEQUENCES.fullmatch(name) else "*fp32"


def _unaligned(argument: str) -> bool:
    return UNALIGNED.fullmatch(argument.removesuffix("_b")) is not None


def resources(compiled: Any) -> Resources:
    """The resources of a compiled kernel."""
    if "amdgcn" in compiled.asm:
        # Scalar registers that do not fit go to lanes of a vector register, not to memory: they are not counted.
        code = compiled.asm["amdgcn"]
        return Resources(_number(r"\.vgpr_count:\s+", code), _number(r"\.vgpr_spill_count:\s+", code))
    usage = _dump(compiled, "-res-usage")
    return Resources(_number("REG:", usage), _number("STACK:", usage))


def _number(before: str, text: str) -> int:
    return int(re.search(rf"{before}(\d+)", text)[1])


def _dump(compiled: Any, what: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(compiled.asm["cubin"])
        command = [_cuobjdump(), what, path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def loops(compiled: Any) -> list[Loop]:
    """The innermost loops with exponentials in them, in the order of the machine code; NVIDIA only."""
    return loops_of(_dump(compiled, "-sass"))


def loops_of(listing: str) -> list[Loop]:
    """`loops` of what `cuobjdump -sass` prints: a line `/*0010*/ FADD R1, R2, R3 ;` for each instruction."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", listing)
    code = [(int(address, 16), text) for address, text in found]
    jumps = [(int(to[1], 16), at) for at, text in code if (to := re.search(r"\bBRA\b.*\b0x([0-9a-f]+)", text))]
    spans = [(start, end) for start, end in jumps if start < end]  # the padding after the code jumps to itself
    innermost = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    counted = (_count([text for address, text in code if a <= address <= b]) for a, b in innermost)
    return [loop for loop in counted if loop.exponentials]


def _count(instructions: list[str]) -> Loop:
    exponentials = sum("MUFU.EX2" in text for text in instructions)
    return Loop(len(instructions), exponentials, sum(bool(re.search(r"\b(LDL|STL)\b", text)) for text in instructions))
