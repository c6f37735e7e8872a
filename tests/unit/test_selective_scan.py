"""The scan's definition against numbers worked by hand and a step loop, and every backend against the definition."""

import inspect
import math
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from tests.unit.scan_cases import cast, needs_kernel, random_scan, relative_l2, scan
from vmr.errors import VmrError
from vmr.ops import ScanInputs, backend, bidirectional_scan, scan_cuda, selective_scan
from vmr.ops.selective_scan import selective_scan_reference

LENGTHS = (1, 2, 63, 64, 65, 197, 1569)
BACKENDS = ("reference", pytest.param("cpu", marks=needs_kernel))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_steps_by_hand(backend, reverse):
    u = torch.tensor([[[1.0], [2.0]]])
    delta = torch.tensor([[[1.0], [0.5]]])
    A = torch.tensor([[-math.log(4.0)]])  # decay 4^-delta: 1/4 at step 0, 1/2 at step 1
    B = torch.tensor([[[3.0], [1.0]]])
    C = torch.tensor([[[1.0], [2.0]]])
    D = torch.tensor([10.0])
    y = selective_scan(u, delta, A, B, C, D, reverse=reverse, backend=backend)
    # forward:  h0 = 1*3*1 = 3;    h1 = 1/2 * 3 + 0.5*1*2 = 2.5;  y = [1*3 + 10*1, 2*2.5 + 10*2]
    # reverse:  h1 = 0.5*1*2 = 1;  h0 = 1/4 * 1 + 1*3*1 = 3.25;   y = [1*3.25 + 10*1, 2*1 + 10*2]
    expected = [13.25, 22.0] if reverse else [13.0, 25.0]
    assert y.flatten().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_softplus_bias_addend_and_gate_by_hand(backend):
    one = torch.ones(1, 1, 1)
    y = selective_scan(
        2 * one, 0 * one, -one[0], one, one, D=torch.tensor([3.0]), z=one, delta_bias=torch.tensor([1.0]),
        delta_softplus=True, addend=5 * one, backend=backend,
    )  # fmt: skip
    # softplus(0 + 1) = 1.3132617;  h = 1.3132617*1*2;  (2.6265234 + 3*2 + 5) * SiLU(1) with SiLU(1) = 0.7310586
    assert y.item() == pytest.approx(13.6265234 * 0.7310586, rel=1e-6)


def step_loop(inputs: ScanInputs, z, addend, *, reverse: bool) -> torch.Tensor:
    """The recurrence of the docstring, one step, one channel and one state at a time, in float64."""
    u, delta, A, B, C, D, bias, weight = cast(inputs, torch.float64)
    if weight is not None:
        delta = delta @ weight.T
    delta = torch.log1p(torch.exp(delta + bias))
    y = torch.zeros_like(u)
    for b in range(u.shape[0]):
        h = torch.zeros_like(A)
        for l in reversed(range(u.shape[1])) if reverse else range(u.shape[1]):  # noqa: E741
            for d in range(A.shape[0]):
                for n in range(A.shape[1]):
                    h[d, n] = torch.exp(delta[b, l, d] * A[d, n]) * h[d, n] + delta[b, l, d] * B[b, l, n] * u[b, l, d]
                y[b, l, d] = C[b, l] @ h[d] + D[d] * u[b, l, d]
    return (y + addend.double()) * F.silu(z.double())


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_reference_is_the_step_loop(reverse, rank):
    inputs, z, addend = random_scan(66, 3, 2, batch=2, rank=rank)
    actual = scan(inputs, z, addend, reverse=reverse, backend="reference")
    assert relative_l2(actual, step_loop(inputs, z, addend, reverse=reverse)) < 1e-6


@needs_kernel
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("states", [8, 16])
@pytest.mark.parametrize("length", LENGTHS)
def test_kernel_and_its_gradients(length, states, reverse):
    inputs, z, addend = random_scan(length, 5 if length > 1000 else 37, states, batch=1 + (length < 100), seed=length)
    ours = cast((*inputs, z, addend), torch.float32, grad=True)
    exact = cast((*inputs, z, addend), torch.float64, grad=True)
    y = scan(ScanInputs(*ours[:8]), *ours[8:], reverse=reverse, backend="cpu")
    expected = scan(ScanInputs(*exact[:8]), *exact[8:], reverse=reverse, backend="reference")
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    y.backward(grad)
    expected.backward(grad.double())
    assert relative_l2(y, expected) <= 1e-6
    errors = {i: relative_l2(a.grad, e.grad) for i, (a, e) in enumerate(zip(ours, exact, strict=True)) if a is not None}
    assert max(errors.values()) <= 1e-5, errors


@needs_kernel
@pytest.mark.parametrize("states", [1, 2, 5, 64])
@pytest.mark.parametrize("channels", [1, 16, 31])
def test_any_number_of_states_and_channels(channels, states):
    inputs, z, addend = random_scan(130, channels, states, batch=2)
    expected = scan(ScanInputs(*cast(inputs, torch.float64)), z.double(), addend.double(), backend="reference")
    assert relative_l2(scan(inputs, z, addend, backend="cpu"), expected) <= 1e-6


@needs_kernel
def test_gradients_without_the_optional_tensors():
    inputs, _, _ = random_scan(70, 9, 5)
    ours, exact = cast(inputs[:5], torch.float32, grad=True), cast(inputs[:5], torch.float64, grad=True)
    selective_scan(*(t.abs() if i == 1 else t for i, t in enumerate(ours)), backend="cpu").square().sum().backward()
    selective_scan(
        *(t.abs() if i == 1 else t for i, t in enumerate(exact)), backend="reference"
    ).square().sum().backward()
    assert max(relative_l2(a.grad, e.grad) for a, e in zip(ours, exact, strict=True)) <= 1e-5


@needs_kernel
@pytest.mark.parametrize("rank", [1, 12])
@pytest.mark.parametrize("grad", [False, True])
def test_low_rank_delta(rank, grad):
    inputs, z, addend = random_scan(131, 24, 16, batch=2, rank=rank)
    expected = scan(ScanInputs(*cast(inputs, torch.float64)), z.double(), addend.double(), backend="reference")
    actual = scan(ScanInputs(*cast(inputs, torch.float32, grad=grad)), z, addend, backend="cpu")
    assert relative_l2(actual, expected) <= 1e-6


@needs_kernel
def test_strides_as_they_come():
    inputs, z, _ = random_scan(100, 20, 16, batch=3)
    expected = scan(inputs, z, backend="reference")
    xz = torch.cat([inputs.u, z], dim=-1)
    packed = torch.cat([inputs.delta, inputs.B, inputs.C], dim=-1)
    delta, B, C = packed.split([20, 16, 16], dim=-1)
    sliced = inputs._replace(u=xz[..., :20], delta=delta, B=B, C=C)
    transposed = inputs._replace(u=inputs.u.transpose(1, 2).contiguous().transpose(1, 2), A=inputs.A.T.contiguous().T)
    every_other = inputs._replace(u=inputs.u.repeat_interleave(2, dim=1)[:, ::2])
    for variant in (sliced, transposed, every_other):
        assert relative_l2(scan(variant, xz[..., 20:], backend="cpu"), expected) < 1e-6
    out = torch.empty(3, 20, 100).transpose(1, 2)
    assert scan(inputs, z, backend="cpu", out=out) is out
    assert relative_l2(out, expected) < 1e-6


@needs_kernel
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("grad", [False, True])
def test_bfloat16(grad, rank):
    inputs, z, addend = random_scan(150, 33, 16, rank=rank)
    sequences = {name: getattr(inputs, name).bfloat16() for name in ("u", "delta", "B", "C")}
    rounded = inputs._replace(**sequences)
    z, addend = z.bfloat16(), addend.bfloat16()
    expected = scan(ScanInputs(*cast(rounded, torch.float64)), z.double(), addend.double(), backend="reference")
    rounded = rounded._replace(A=rounded.A.requires_grad_(grad))
    actual = scan(rounded, z, addend, backend="cpu")
    assert actual.dtype == torch.bfloat16
    assert relative_l2(actual, expected) < 3e-3  # bfloat16 keeps 8 bits: 2^-9 per rounding


@needs_kernel
def test_bfloat16_rounds_like_torch_and_keeps_nan():
    inputs, _, _ = random_scan(1, 48, 1)
    inputs = inputs._replace(u=inputs.u.bfloat16(), B=torch.zeros(1, 1, 1), D=torch.ones(48))
    inputs.u[0, 0, 7], inputs.u[0, 0, 40] = math.nan, math.inf
    actual = scan(inputs._replace(B=torch.zeros(1, 1, 1)), backend="cpu")
    expected = scan(inputs, backend="reference")
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(actual[~actual.isnan()], expected[~expected.isnan()])


@needs_kernel
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("delta", "A", "u"),
    [
        (1e-42, -1.0, 1e-40),
        (50.0, -1e3, 1.0),
        (1e4, -1e4, 1e-3),
        (1e30, -3e38, 1e-30),
        (0.0, -1.0, 1.0),
        (1.0, 0.0, 1.0),
    ],
)
def test_extremes_stay_finite(delta, A, u, reverse):
    inputs, z, addend = random_scan(130, 20, 16)
    inputs = inputs._replace(
        u=inputs.u * u, delta=torch.full_like(inputs.delta, delta), A=torch.full_like(inputs.A, A), delta_bias=None
    )
    tensors = cast((*inputs, z, addend), torch.float32, grad=True)
    y = scan(ScanInputs(*tensors[:8]), *tensors[8:], delta_softplus=False, reverse=reverse, backend="cpu")
    expected = scan(inputs, z, addend, delta_softplus=False, reverse=reverse, backend="reference")
    y.backward(torch.ones_like(y))
    assert y.isfinite().all()
    assert relative_l2(y, expected) < 1e-5
    assert all(
        t.grad.isfinite().all() for i, t in enumerate(tensors) if t is not None and not (i == 2 and delta > 1e20)
    )


@needs_kernel
@pytest.mark.parametrize("value", [-1e30, -200.0, -87.5, 87.5, 1e30])
def test_softplus_and_gate_at_their_ends(value):
    inputs, z, _ = random_scan(3, 17, 4)
    inputs = inputs._replace(delta=torch.full_like(inputs.delta, value), u=inputs.u * 1e-30)
    actual = scan(inputs, torch.full_like(z, min(value, 1e4)).clamp_min(-1e4), backend="cpu")
    expected = scan(inputs, torch.full_like(z, min(value, 1e4)).clamp_min(-1e4), backend="reference")
    assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("grad", [False, True])
def test_bidirectional_is_the_gated_sum(backend, grad):
    forward, z, _ = random_scan(97, 20, 16, batch=2, rank=3, seed=1)
    backward, _, _ = random_scan(97, 20, 16, batch=2, rank=3, seed=2)
    flipped = backward._replace(**{name: getattr(backward, name).flip(1) for name in ("u", "delta", "B", "C")})
    summed = scan(forward, backend="reference") + scan(flipped, backend="reference").flip(1)
    forward = forward._replace(u=forward.u.clone().requires_grad_(grad))
    with torch.set_grad_enabled(grad):
        actual = bidirectional_scan(forward, backward, z, backend=backend)
    assert actual.requires_grad == grad
    assert relative_l2(actual, summed * F.silu(z)) < 1e-6
    if not grad:
        out = torch.empty_like(z)
        assert bidirectional_scan(forward, backward, z, out=out, backend=backend) is out
        assert torch.equal(out, actual)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_directions_in_one_call_are_two_scans(dtype):
    names = ("u", "delta", "B", "C")
    forward, backward = (random_scan(97, 37, 16, batch=2, rank=3, seed=seed)[0] for seed in (1, 2))
    forward, backward = (s._replace(**{n: getattr(s, n).to(dtype) for n in names}) for s in (forward, backward))
    z = random_scan(97, 37, 16, batch=2)[1].to(dtype)
    expected = scan(backward, z, scan(forward, backend="cpu"), reverse=True, backend="cpu")
    assert torch.equal(bidirectional_scan(forward, backward, z, backend="cpu"), expected)
    strided = torch.empty(2, 97, 2 * 37, dtype=dtype)[..., ::2]
    assert torch.equal(bidirectional_scan(forward, backward, z, out=strided, backend="cpu"), expected)
    with pytest.raises(VmrError, match=r"addend is .* ask for"):
        bidirectional_scan(forward, backward._replace(**{n: getattr(backward, n)[:, 1:] for n in names}))


def published_signature(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):  # fmt: skip
    """mamba_ssm.ops.selective_scan_interface.selective_scan_fn: u, delta, z (B, D, L); B, C (B, N, L)."""


@pytest.fixture
def fake_mamba_ssm(monkeypatch):
    calls = []

    def selective_scan_fn(*args, **kwargs):
        call = inspect.signature(published_signature).bind(*args, **kwargs)
        call.apply_defaults()
        a = call.arguments
        calls.append(a)
        assert all(a[name] is None or a[name].dtype == torch.float32 for name in ("A", "D", "delta_bias"))
        u, delta, B, C = (a[name].transpose(1, 2) for name in ("u", "delta", "B", "C"))
        z = None if a["z"] is None else a["z"].transpose(1, 2)
        inputs = ScanInputs(u, delta, a["A"], B, C, a["D"], a["delta_bias"])
        y = selective_scan_reference(inputs, z, delta_softplus=a["delta_softplus"])
        return y.transpose(1, 2)

    names = ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface")
    for name in (*names, "selective_scan_cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[names[-1]].selective_scan_fn = selective_scan_fn
    backend._mamba_ssm_missing_reason.cache_clear()
    yield calls
    backend._mamba_ssm_missing_reason.cache_clear()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_addend", [False, True])
def test_cuda_adapter_calls_the_published_function(fake_mamba_ssm, reverse, with_addend):
    inputs, z, addend = random_scan(40, 6, 4, batch=2, rank=2)
    addend = addend if with_addend else None
    options = {"delta_softplus": True, "reverse": reverse}
    actual = scan_cuda.selective_scan_cuda(inputs, z, addend, **options)
    assert relative_l2(actual, scan(inputs, z, addend, backend="reference", **options)) < 1e-6
    (call,) = fake_mamba_ssm
    assert call["u"].shape == call["delta"].shape == (2, 6, 40)
    assert call["B"].shape == call["C"].shape == (2, 4, 40)
    assert (call["z"] is None) == with_addend
    assert call["delta_softplus"] is True and call["return_last_state"] is False


def test_dispatcher_reaches_the_cuda_adapter(fake_mamba_ssm, monkeypatch):
    module = sys.modules[selective_scan.__module__]  # `vmr.ops.selective_scan` names the function
    monkeypatch.setattr(module, "choose_backend", lambda *_, **__: "cuda")
    inputs, z, _ = random_scan(9, 6, 4)
    assert relative_l2(scan(inputs, z, backend="cuda"), scan_cuda.selective_scan_cuda(
        inputs, z, None, delta_softplus=True, reverse=False)) == 0  # fmt: skip
    assert len(fake_mamba_ssm) == 2
    assert backend.missing_reason("cuda") == ""


def test_a_package_without_its_compiled_scan_counts_as_absent(fake_mamba_ssm, monkeypatch):
    monkeypatch.delitem(sys.modules, "selective_scan_cuda")
    assert "without its compiled scan" in backend.missing_reason("cuda")


def test_misfits_are_named():
    inputs, z, addend = random_scan(5, 4, 3)
    for field, wrong in (("delta", torch.zeros(1, 5, 3)), ("B", torch.zeros(1, 4, 3)), ("D", torch.zeros(5))):
        with pytest.raises(VmrError, match=rf"{field} is .* ask for"):
            scan(inputs._replace(**{field: wrong}))
    with pytest.raises(VmrError, match=r"C is torch\.int64"):
        scan(inputs._replace(C=inputs.C.long()))
    with pytest.raises(VmrError, match="nothing empty"):
        scan(inputs._replace(u=torch.zeros(1, 0, 4)))
    with pytest.raises(VmrError, match="nothing empty"):
        scan(inputs._replace(delta=torch.zeros(1, 5, 0), delta_weight=torch.zeros(4, 0)))
    with pytest.raises(VmrError, match="z is"):
        scan(inputs, z[:, 1:])
    with pytest.raises(VmrError, match="out is"), torch.no_grad():
        scan(inputs, z, addend, out=torch.empty(1, 5, 4, dtype=torch.float64))
    with pytest.raises(VmrError, match="out= is for inference"):
        scan(inputs._replace(u=inputs.u.requires_grad_()), out=torch.empty(1, 5, 4))


def test_backends_asked_for_by_name():
    inputs, _, _ = random_scan(5, 4, 3)
    with pytest.raises(VmrError, match="unknown; choose one of auto, reference, cpu, triton, cuda"):
        scan(inputs, backend="tpu")
    with pytest.raises(VmrError, match="backend 'cuda' is absent: the mamba-ssm package is not installed"):
        scan(inputs, backend="cuda")


@needs_kernel
def test_what_the_kernel_does_not_take_falls_to_the_reference():
    wide, _, _ = random_scan(3, 2, 65)
    double = ScanInputs(*cast(random_scan(3, 2, 4)[0], torch.float64))
    for inputs in (wide, double):
        assert torch.equal(scan(inputs), scan(inputs, backend="reference"))
        with pytest.raises(VmrError, match="float32 and bfloat16"):
            scan(inputs, backend="cpu")
