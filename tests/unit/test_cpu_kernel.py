"""The kernel library around the kernels: presence, instruction sets, threads, processes, compiling."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.unit.scan_cases import cast, needs_kernel, random_scan, relative_l2, scan
from vmr.ops import ScanInputs, available_backends, bidirectional_conv_silu, cpu_kernel, scan_cpu

pytestmark = needs_kernel


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_switched_off_by_the_environment():
    out = run_python(
        """
        import logging
        logging.basicConfig(format="%(levelname)s %(message)s")
        import sys
        logging.getLogger().handlers[0].setStream(sys.stdout)
        from tests.unit.scan_cases import random_scan, scan
        from vmr.errors import VmrError
        from vmr.ops import available_backends
        inputs, z, addend = random_scan(9, 4, 3)
        scan(inputs, z), scan(inputs, z)
        try:
            scan(inputs, backend="cpu")
        except VmrError as error:
            print(error)
        print(available_backends()["cpu"])
        """,
        VMR_DISABLE_CPU_KERNEL="1",
    )
    reason = "it is switched off by VMR_DISABLE_CPU_KERNEL=1"
    assert out.splitlines() == [
        f"WARNING cpu tensors: backend reference, which is slow: {reason}",  # once, though it was chosen twice
        f"backend 'cpu' is absent: {reason}",
        reason,
    ]


@pytest.mark.parametrize("content", [None, "", b"not a library"])
def test_absent_or_broken_library(content, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernel, "__file__", str(tmp_path / "cpu_kernel.py"))
    if content is not None:
        (tmp_path / "_scan.so").write_bytes(content or b"")
    library, reason = cpu_kernel._load()
    assert library is None
    assert ("without a C++ compiler" if content is None else "cannot be loaded") in reason


def test_library_of_another_version(monkeypatch):
    monkeypatch.setattr(cpu_kernel, "ABI_VERSION", -1)
    library, reason = cpu_kernel._load()
    assert library is None
    assert "reinstall vmr" in reason


def test_described_for_people():
    backends = available_backends()
    assert list(backends) == ["reference", "cpu", "triton", "cuda"]
    assert backends["cpu"].startswith("available (") and f"{torch.get_num_threads()} thread" in backends["cpu"]
    assert "OpenMP from torch" in backends["cpu"] or sys.platform == "darwin"


@pytest.mark.parametrize("isa", [1, 2, 3], ids=lambda i: cpu_kernel.ISA_NAMES[i])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_instruction_set(isa, reverse, monkeypatch):
    if isa > cpu_kernel.library().vmr_best_isa():
        pytest.skip(f"this processor lacks {cpu_kernel.ISA_NAMES[isa]}")
    monkeypatch.setattr(cpu_kernel, "requested_isa", lambda: isa)
    for states, rank, dtype, tolerance in (
        (16, 0, torch.float32, 1e-5),
        (5, 3, torch.float32, 1e-5),
        (8, 2, torch.bfloat16, 1e-2),
    ):
        inputs, z, addend = random_scan(131, 37, states, batch=2, rank=rank)
        sequences = {name: getattr(inputs, name).to(dtype) for name in ("u", "delta", "B", "C")}
        inputs, z, addend = inputs._replace(**sequences), z.to(dtype), addend.to(dtype)
        exact = cast((*inputs, z, addend), torch.float64, grad=True)
        expected = scan(ScanInputs(*exact[:8]), *exact[8:], reverse=reverse, backend="reference")
        assert relative_l2(scan(inputs, z, addend, reverse=reverse, backend="cpu"), expected) < tolerance / 5
        if dtype == torch.float32:
            ours = cast((*inputs, z, addend), torch.float32, grad=True)
            scan(ScanInputs(*ours[:8]), *ours[8:], reverse=reverse, backend="cpu").sum().backward()
            expected.sum().backward()
            pairs = [(a.grad, e.grad) for a, e in zip(ours, exact, strict=True) if a is not None]
            assert max(relative_l2(a, e) for a, e in pairs) < tolerance
    x, weight = torch.randn(2, 40, 37), torch.randn(37, 4)
    both = bidirectional_conv_silu(x, (weight, None), (weight, None), backend="cpu")
    expected = bidirectional_conv_silu(x, (weight, None), (weight, None), backend="reference")
    assert all(relative_l2(a, e) < 1e-6 for a, e in zip(both, expected, strict=True))


def test_instruction_set_by_name():
    code = "from vmr.ops import cpu_kernel; print(cpu_kernel.describe())"
    assert run_python(code, VMR_CPU_ISA="baseline").startswith("baseline, ")
    code = "from vmr.ops import cpu_kernel\ntry: cpu_kernel.describe()\nexcept Exception as e: print(e)"
    assert run_python(code, VMR_CPU_ISA="mmx") == "VMR_CPU_ISA=mmx is unknown; choose one of baseline, avx2, avx512\n"


def forward_and_gradients(threads: int) -> list[torch.Tensor]:
    """Everything the kernel computes for one case, on so many threads."""
    inputs, z, addend = random_scan(197, 200, 16, batch=2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        tensors = cast((*inputs, z, addend), torch.float32, grad=True)
        y = scan(ScanInputs(*tensors[:8]), *tensors[8:], backend="cpu")
        y.square().sum().backward()
        return [y.detach(), *(t.grad for t in tensors if t is not None)]
    finally:
        torch.set_num_threads(before)


def test_same_bits_every_time_and_on_any_number_of_threads():
    once = forward_and_gradients(2)
    for threads in (2, 1, 3):
        again = forward_and_gradients(threads)
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def infer_in_worker(threads: int) -> torch.Tensor:
    """Inference on several threads in a process that, as a data loader's worker does, keeps torch itself to one."""
    torch.set_num_threads(1)
    inputs, z, _ = random_scan(197, 200, 16, batch=2)
    y = torch.empty_like(z)
    args, _tensors = scan_cpu._forward_args(inputs, z, None, True, False, y)
    args.threads = threads
    cpu_kernel.call("vmr_scan_forward", args)
    return y


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_in_a_worker_process(start):
    forward_and_gradients(2)  # wakes this process's thread pool, which a forked child must not wait for
    inputs, z, _ = random_scan(197, 200, 16, batch=2)
    context = multiprocessing.get_context(start)
    with context.Pool(1) as pool:
        y = pool.apply_async(infer_in_worker, (2,)).get(timeout=PATIENCE_S)
    assert torch.equal(y, scan(inputs, z, backend="cpu"))


def test_after_faiss():
    pytest.importorskip("faiss")
    out = run_python(
        """
        import faiss, numpy, torch
        from tests.unit.scan_cases import random_scan, scan
        from vmr.ops import available_backends
        index = faiss.IndexFlatIP(8)
        index.add(numpy.random.rand(100, 8).astype("float32"))
        index.search(numpy.random.rand(50, 8).astype("float32"), 3)
        inputs, z, _ = random_scan(200, 64, 16)
        with torch.no_grad():
            print(torch.equal(scan(inputs, z, backend="cpu"), scan(inputs, z, backend="cpu")))
        print(available_backends()["cpu"])
        """
    )
    assert out.startswith("True\navailable")
    assert "OpenMP from torch" in out or sys.platform == "darwin"


def test_opcheck():
    inputs, z, addend = random_scan(70, 20, 8)
    tensors = cast((*inputs[:6], z, inputs.delta_bias, addend), torch.float32, grad=True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    for arguments in (tensors, [*tensors[:5], None, None, None, None]):
        torch.library.opcheck(
            scan_cpu._scan_op, (*arguments, True, False, True), test_utils=tests, rtol=1e-4, atol=1e-4
        )


def test_compiled_in_one_graph():
    inputs, z, addend = random_scan(70, 20, 8, rank=3)

    def loss(*tensors):
        return scan(ScanInputs(*tensors[:8]), *tensors[8:], backend="auto").square().mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    eager, traced = (cast((*inputs, z, addend), torch.float32, grad=True) for _ in range(2))
    loss(*eager).backward()
    compiled(*traced).backward()
    assert max(relative_l2(a.grad, b.grad) for a, b in zip(traced, eager, strict=True)) < 1e-6
    with torch.no_grad():
        assert relative_l2(compiled(*traced), loss(*eager)) < 1e-6
