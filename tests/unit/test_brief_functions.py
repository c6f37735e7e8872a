"""How exact the shorter polynomials are with which the CPU kernels serve bfloat16.

A result's own rounding, by up to 2^-8 of it, would hide errors of 1e-4. `unrounded` therefore lets the kernel subtract
a rounded result before it rounds, which leaves a remainder that bfloat16 holds to 2^-16 of the result.
"""

import math

import pytest
import torch
from torch import Tensor

from tests.unit.scan_cases import needs_kernel, random_scan, relative_l2, scan
from vmr.ops import ScanInputs, causal_conv_silu, cpu_kernel

pytestmark = needs_kernel

ROUNDING, REMAINDER = 2.0**-8, 2.0**-16


@pytest.fixture(params=[1, 2, 3], ids=lambda i: cpu_kernel.ISA_NAMES[i], autouse=True)
def isa(request, monkeypatch):
    if request.param > cpu_kernel.library().vmr_best_isa():
        pytest.skip(f"this processor lacks {cpu_kernel.ISA_NAMES[request.param]}")
    monkeypatch.setattr(cpu_kernel, "requested_isa", lambda: request.param)


def one_state(length: int, A: Tensor, *, delta: float = 1.0, bias: Tensor | None = None) -> ScanInputs:
    """A scan of one state a channel, B = C = 1, whose input is 1 at the first step and 0 after it."""
    ones = torch.ones(1, length, 1, dtype=torch.bfloat16)
    u = torch.zeros(1, length, len(A), dtype=torch.bfloat16)
    u[:, 0] = 1
    return ScanInputs(u, torch.full_like(u, delta), A[:, None], ones, ones, delta_bias=bias)


def unrounded(inputs: ScanInputs, expected: Tensor, **options: bool) -> Tensor:
    """The last step's results (D,) in float64, before they were rounded to bfloat16."""
    near = torch.zeros_like(inputs.u)
    near[0, -1] = expected.bfloat16()
    remainder = scan(inputs, addend=-near, backend="cpu", **options)[0, -1]
    return near[0, -1].double() + remainder.double()


def test_decay():
    A = -torch.logspace(-7, 1.7, 4001)
    expected = A.double().exp()
    errors = (unrounded(one_state(2, A), expected, delta_softplus=False) - expected).abs()
    assert (errors < (1.3e-4 + REMAINDER) * expected).all()
    assert errors.max() > 5e-5  # else float32's functions are measured here
    # What a state sums up is in proportion to 1 / (1 - decay).
    slow = expected > 0.5
    assert (errors < 6e-4 * (1 - expected) + REMAINDER)[slow].all()


def test_growth():
    A = torch.linspace(0, 3, 301)
    expected = A.double().exp()
    errors = (unrounded(one_state(2, A), expected, delta_softplus=False) - expected).abs()
    assert errors[0] == 0  # 1 is kept for ever
    assert (errors < (1.3e-4 + REMAINDER) * expected).all()


def test_slow_states_over_the_longest_sequence():
    """h = sum of decay^k over 12545 steps, the tokens of 64 frames: a bias of the decays is summed up as often."""
    length, delta = 12545, 2.0**-6
    A = -torch.logspace(-6, 1.5, 120)
    inputs = one_state(length, A, delta=delta)
    inputs = inputs._replace(u=torch.ones_like(inputs.u))
    decay = torch.exp(delta * A.double())
    expected = delta * (1 - decay**length) / (1 - decay)
    actual = unrounded(inputs, expected, delta_softplus=False)
    errors = (actual - expected).abs() / expected
    assert errors.max() < 6e-4
    assert errors[A > -1].max() < 4e-4  # float32's functions have the same errors here, the roundings of 12545 sums


def test_softplus():
    bias = torch.linspace(-60, 60, 4801)
    expected = torch.nn.functional.softplus(bias.double())
    actual = unrounded(one_state(1, -torch.ones_like(bias), delta=0.0, bias=bias), expected)
    assert ((actual - expected).abs() < (2e-4 + REMAINDER) * expected).all()


def test_silu():
    x = torch.linspace(-80, 80, 12801)
    expected = torch.nn.functional.silu(x.double())
    ones = torch.ones(1, 1, len(x), dtype=torch.bfloat16)
    actual = causal_conv_silu(ones, x[:, None], backend="cpu")[0, 0].double()
    assert ((actual - expected).abs() < (ROUNDING + 3e-4) * expected.abs()).all()


@pytest.mark.parametrize(("delta", "A"), [(50.0, -1e3), (1e4, -1e4), (1e30, -3e38), (0.0, -1.0), (1e30, 0.0)])
def test_underflow_is_zero_and_extremes_are_those_of_float32(delta, A):
    inputs, z, addend = random_scan(130, 20, 16)
    inputs = inputs._replace(
        u=inputs.u.bfloat16(), delta=torch.full_like(inputs.u, delta).bfloat16(), A=torch.full_like(inputs.A, A),
        delta_bias=None,
    )  # fmt: skip
    z, addend = z.bfloat16(), addend.bfloat16()
    actual = scan(inputs, z, addend, delta_softplus=False, backend="cpu")
    expected = scan(inputs, z, addend, delta_softplus=False, backend="reference")
    assert actual.isfinite().all()
    assert relative_l2(actual, expected) < 3e-3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["u", "delta", "B", "C", "z", "addend"])
def test_no_value_that_is_not_finite_becomes_finite(where, value):
    inputs, z, addend = random_scan(70, 20, 16)
    tensors = {name: getattr(inputs, name).bfloat16() for name in ("u", "delta", "B", "C")}
    tensors |= {"z": z.bfloat16(), "addend": addend.bfloat16()}
    tensors[where][0, 65, 3] = value
    z, addend = tensors.pop("z"), tensors.pop("addend")
    actual = scan(inputs._replace(**tensors), z, addend, backend="cpu")
    expected = scan(inputs._replace(**tensors), z, addend, backend="reference")
    finite = expected.isfinite()
    assert not finite.all() or value == -math.inf  # which is a step of 0, or a gate that is closed
    assert not actual[~finite].isfinite().any()
    assert torch.equal(finite, actual.isfinite())
