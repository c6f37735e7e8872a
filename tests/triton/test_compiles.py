"""The Triton kernels compiled for GPUs that this machine lacks: registers, spills, instructions per exponential.

Kernels, sizes and options are those that `vmr/ops/gpu` launches. The bounds are the largest values that Triton 3.3.1,
3.6.0 and 3.8.0 gave, each with its own assembler, or a little more. Do not run these tests with `TRITON_INTERPRET` set.
"""

import functools
import importlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.triton.ahead_of_time import (
    Loop,
    Target,
    compile_kernel,
    loops,
    loops_of,
    missing_linker,
    missing_reason,
    resources,
)
from vmr.ops.gpu.support import triton_version

pytestmark = pytest.mark.skipif(bool(missing_reason()), reason=f"cannot compile ahead of time: {missing_reason()}")

KERNELS = "vmr.ops.gpu.kernels"
OLD_TRITON = triton_version().startswith(("3.3.", "3.4.", "3.5."))
NVIDIA = {
    "sm_75": Target("cuda", 75, 32, "fp16"),
    "sm_80": Target("cuda", 80, 32, "bf16"),
    "sm_90": Target("cuda", 90, 32, "bf16"),
}
TARGETS = NVIDIA | {"gfx942": Target("hip", "gfx942", 64, "bf16")}


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched; `dtype` of the sequences, where it is not the target's half precision."""

    kernel: str
    constants: dict[str, Any]
    options: dict[str, int] = field(default_factory=lambda: {"num_warps": 1})
    targets: tuple[str, ...] = tuple(TARGETS)
    dtype: str = ""


OUTPUTS = {
    "N": 16, "T": 2, "BD": 64, "REVERSE": False, "BOTH": True, "FROM_ZERO": False, "HAS_SKIP": True,
    "HAS_ADDEND": False, "HAS_Z": True, "SAVE": False,
}  # fmt: skip
STATES = {
    "N": 16, "T": 2, "BD": 64, "REVERSE": False, "BOTH": True, "SPLIT": False, "ADJOINT": False, "SAVE_TILES": False,
}  # fmt: skip
CARRY = {"N": 16, "BD": 32, "GROUP": 16, "REVERSE": False, "ADJOINT": False}
BACKWARD = {"N": 16, "T": 4, "BD": 64, "REVERSE": False, "SOFTPLUS": True, "HAS_SKIP": True}
STEPS = {
    "N": 16, "N_BLOCK": 16, "ROWS": 128, "BD": 64, "BR": 64, "BLOCKS": 3, "HAS_BIAS": True, "PRECISION": "tf32",
}  # fmt: skip
EXACT_STEPS = STEPS | {"ROWS": 32, "PRECISION": "ieee"}
CONV = {"ROWS": 16, "BD": 128, "K": 4, "HAS_BIAS": True}
NORM = {"BLOCK": 1024, "HAS_RESIDUAL": True, "WRITE_STREAM": True}

TWO_WARPS, FOUR_WARPS = {"num_warps": 2}, {"num_warps": 4}
CASES = {
    "outputs": Case("scan_outputs.scan_outputs", OUTPUTS),
    "outputs, saving": Case("scan_outputs.scan_outputs", OUTPUTS | {"SAVE": True}, targets=("sm_90",)),
    "states": Case("scan_states.scan_states", STATES),
    "states, split": Case("scan_states.scan_states", STATES | {"SPLIT": True}, targets=("sm_90",)),
    "states, adjoint": Case("scan_states.scan_states", STATES | {"ADJOINT": True}, targets=("sm_90",)),
    "states, of tiles": Case("scan_states.scan_states", STATES | {"T": 4, "BD": 32, "SAVE_TILES": True}),
    "carry": Case("scan_states.carry_states", CARRY),
    "backward": Case("scan_backward.scan_backward", BACKWARD),
    # Turing has no tf32, and takes the same argument.
    "steps": Case("step_sizes.step_sizes", STEPS, {"num_warps": 8, "num_stages": 1}, tuple(NVIDIA)),
    "steps, exact": Case("step_sizes.step_sizes", EXACT_STEPS, {"num_warps": 4, "num_stages": 1}, ("gfx942",)),
    "steps, fp32": Case("step_sizes.step_sizes", EXACT_STEPS, {"num_warps": 4, "num_stages": 1}, ("sm_90",), "fp32"),
    "gate backward": Case("gate_backward.gate_backward", {"ROWS": 16, "BD": 128}, FOUR_WARPS),
    "conv": Case("conv_silu.conv_silu", CONV, FOUR_WARPS),
    "conv backward": Case("conv_silu.conv_silu_backward", CONV | {"ROWS": 8}, FOUR_WARPS),
    "norm": Case("add_rms_norm.add_rms_norm_forward", NORM, TWO_WARPS),
    "norm backward": Case("add_rms_norm.add_rms_norm_backward", {"BLOCK": 1024, "WRITE_X": True}, TWO_WARPS),
}
WALKS = ("outputs", "states", "states, of tiles", "backward")

# Bytes of stack per thread, for kernels that may use the stack; they use it outside their innermost loops only.
STACK = {
    ("outputs", "sm_80"): 16,  # from Triton 3.8 on; 0 before
    ("outputs, saving", "sm_90"): 16,  # 3.3: 16, 3.6: 0, 3.8: 8; one to three loads in a loop of 560 instructions
    ("states, of tiles", "sm_90"): 40,  # 3.3: 0
    ("backward", "sm_90"): 8,
    ("steps", "sm_75"): 144 if OLD_TRITON else 88,  # no tensor cores for tf32, but multiply-adds
    ("steps", "sm_80"): 8,
    ("steps, fp32", "sm_90"): 136 if OLD_TRITON else 48,  # 3.6: 0
    **{("conv backward", target): 40 for target in NVIDIA if OLD_TRITON},  # 0 from 3.6 on
}


@functools.cache
def compiled(name: str, target: str) -> Any:
    if target == "gfx942" and missing_linker():
        pytest.skip(f"cannot compile for gfx942: {missing_linker()}")
    case, gpu = CASES[name], TARGETS[target]
    module, kernel = case.kernel.split(".")
    function = getattr(importlib.import_module(f"{KERNELS}.{module}"), kernel)
    return compile_kernel(function, case.constants, case.options, gpu, case.dtype or gpu.half)


@pytest.mark.parametrize(("name", "target"), [(name, target) for name in CASES for target in CASES[name].targets])
def test_a_kernel_keeps_to_its_registers(name: str, target: str) -> None:
    used = resources(compiled(name, target))
    assert used.spilled <= STACK.get((name, target), 0)
    if target == "gfx942":
        assert used.registers <= 256  # two wavefronts a SIMD; at most 179, 216 for the step sizes
    if target == "sm_90" and CASES[name].options["num_warps"] == 1:
        assert used.registers <= 168  # twelve programs a multiprocessor, which is what `Tiles` plans with
    if target in NVIDIA and name in WALKS:
        assert [loop.stack_accesses for loop in loops(compiled(name, target))] == [0, 0]


def test_the_walk_of_outputs_takes_few_instructions() -> None:
    """454 for 64 exponentials one way and 550 for 68 the other, which adds and gates: 7.1 and 8.1 (Triton 3.8)."""
    one_way, other_way = loops(compiled("outputs", "sm_90"))
    rows_of_a_thread = OUTPUTS["T"] * OUTPUTS["BD"] // 32
    assert one_way.exponentials == OUTPUTS["N"] * rows_of_a_thread
    assert other_way.exponentials == (OUTPUTS["N"] + 1) * rows_of_a_thread  # one for the gate
    assert max(loop.instructions / loop.exponentials for loop in (one_way, other_way)) <= 8.5


@pytest.mark.parametrize("name", ["states", "states, split", "states, adjoint"])
def test_the_walk_of_states_takes_few_instructions(name: str) -> None:
    """363 to 371 for 64 exponentials: 5.8."""
    found = loops(compiled(name, "sm_90"))
    assert [loop.exponentials for loop in found] == [STATES["N"] * STATES["T"] * STATES["BD"] // 32] * 2
    assert max(loop.instructions / loop.exponentials for loop in found) <= 6.5


def test_the_walk_back_takes_few_instructions() -> None:
    """Its loop over states: 244 for 8 exponentials, 30.5, of which 10 sum over channels; 261 one way by Triton 3.3."""
    found = loops(compiled("backward", "sm_90"))
    assert [loop.exponentials for loop in found] == [BACKWARD["T"] * BACKWARD["BD"] // 32] * 2
    assert max(loop.instructions / loop.exponentials for loop in found) <= (33 if OLD_TRITON else 31)


def test_innermost_loops_are_found() -> None:
    code = ["MOV R1, c[0x0][0x28]", "STL [R1], R2", "@P0 BRA 0x0060", "MUFU.EX2 R3, R3", "LDL.LU R4, [R1+0x4]"]
    code += ["@!P1 BRA.U !UP0, 0x0030", "@P2 BRA 0x0010", "EXIT", "BRA 0x0080"]
    lines = [f"        /*{16 * index:04x}*/    {text} ;    /* 0x00000a0000017a02 */" for index, text in enumerate(code)]
    assert loops_of("\n".join(lines)) == [Loop(3, 1, 1)]
