"""Which backend a tensor gets, the log line about it, and the messages on a machine without Triton or a GPU."""

import logging

import pytest
import torch

from vmr.errors import VmrError
from vmr.ops import backend
from vmr.ops.gpu import support


@pytest.fixture(autouse=True)
def fresh_choices(monkeypatch):
    """Choices and reasons are remembered; each test starts without any, and without the interpreter."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    remembered = (support._missing_reason, support.triton_version, backend._choose_and_log, backend._log_once)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(support, "triton_version", lambda: "3.6.0")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_on_a_gpu_get_triton(a_gpu, dtype, caplog):
    with caplog.at_level(logging.INFO, "vmr.ops.backend"):
        assert backend._choose_automatically("cuda", dtype, True) == "triton"
        assert backend._choose_automatically("cuda", dtype, True) == "triton"
    assert caplog.messages == ["cuda tensors: backend triton, available (Triton 3.6.0, a card)"]


@pytest.mark.parametrize(("dtype", "fits"), [(torch.float64, True), (torch.float32, False)])
def test_what_the_kernels_do_not_take_gets_the_reference(a_gpu, dtype, fits):
    choice, reason = backend._preferred("cuda", dtype, fits)
    assert (choice, reason) == (
        "reference", "the kernels take float32, bfloat16 and float16, at most 64 states and 8 taps"
    )  # fmt: skip


def test_without_a_gpu_one_line_says_why(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(support, "triton_version", lambda: "3.6.0")
    for _ in range(3):
        assert backend._choose_automatically("cuda", torch.float32, True) == "reference"
    assert caplog.messages == [
        "cuda tensors: backend reference, which is slow: there is no CUDA or ROCm GPU that torch can use"
    ]
    with pytest.raises(VmrError, match="backend 'triton' is absent: there is no CUDA or ROCm GPU"):
        backend.choose_backend("triton", torch.zeros(1))


@pytest.mark.parametrize(
    ("version", "reason"),
    [("", "Triton is not installed; on Linux it comes with torch"), ("3.2.0", r"Triton 3\.2\.0 is too old")],
)
def test_without_a_triton_that_will_do(monkeypatch, version, reason):
    monkeypatch.setattr(support, "triton_version", lambda: version)
    with pytest.raises(VmrError, match=f"backend 'triton' is absent: {reason}"):
        backend.choose_backend("triton", torch.zeros(1))
    assert backend._preferred("cpu", torch.float32, True)[0] in ("cpu", "reference")  # as it was


def test_a_gpu_that_does_not_answer_is_no_matter_to_the_cpu(a_gpu, monkeypatch):
    def fail():
        raise RuntimeError("CUDA error: all devices are busy\nand more")

    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    assert backend._choose_automatically("cpu", torch.float32, True) in ("cpu", "reference")
    assert backend.available_backends()["triton"] == (
        "available (Triton 3.6.0, a GPU that does not answer: CUDA error: all devices are busy)"
    )


@pytest.mark.parametrize(
    ("triton", "numpy", "reason"),
    [
        ("3.3.1", "2.3.5", "the interpreter of Triton 3.3.1 does not run these kernels; use Triton 3.4 or newer"),
        ("3.6.0", "2.4.0", "the interpreter of Triton 3.6.0 does not run on NumPy 2.4.0; use Triton 3.7 or NumPy 2.3"),
        ("3.6.0", "2.3.5", ""),
        ("3.10.0", "2.4.0", ""),
    ],
)
def test_interpreters_that_cannot_run_here(monkeypatch, triton, numpy, reason):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(support, "triton_version", lambda: triton)
    monkeypatch.setattr(support.importlib.metadata, "version", lambda _: numpy)
    assert support.missing_reason() == reason


def test_switched_off(a_gpu, monkeypatch):
    monkeypatch.setenv("VMR_DISABLE_TRITON", "1")
    assert support.missing_reason() == "it is switched off by VMR_DISABLE_TRITON=1"
    assert backend._preferred("cuda", torch.float32, True)[0] == "reference"


def test_a_cpu_tensor_is_not_for_triton(a_gpu):
    with pytest.raises(VmrError, match="backend 'triton' got a tensor on cpu; move it there"):
        backend.choose_backend("triton", torch.zeros(1))
