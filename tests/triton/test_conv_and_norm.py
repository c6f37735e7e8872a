"""The Triton convolution and norm in the interpreter against the float64 definitions."""

import pytest
import torch

from tests.unit.scan_cases import cast, relative_l2
from vmr.ops import add_rms_norm, bidirectional_conv_silu, causal_conv_silu
from vmr.ops.causal_conv import causal_conv_silu_reference
from vmr.ops.rms_norm import add_rms_norm_reference

LIMITS = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def errors(ours, exact):
    return [relative_l2(a.grad, e.grad) for a, e in zip(ours, exact, strict=True) if a is not None]


def filters(channels: int, taps: int, *, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    shapes = ((channels, taps), (channels,)) * 2
    return [torch.randn(*shape, generator=random) for shape in shapes]


def exact_results(x, parameters):
    return [
        causal_conv_silu_reference(x, *parameters[2 * index : 2 * index + 2], reverse=bool(index)) for index in range(2)
    ]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("length", "channels", "taps"), [(1, 5, 4), (21, 37, 4), (17, 3, 8), (40, 130, 1)])
def test_both_directions(length, channels, taps, dtype):
    wide = torch.randn(2, length, 2 * channels, generator=torch.Generator().manual_seed(1)).to(dtype)
    ours = [wide[..., :channels].requires_grad_(), *(p.requires_grad_() for p in filters(channels, taps))]
    exact = cast(tuple(ours), torch.float64, grad=True)
    y = bidirectional_conv_silu(ours[0], (ours[1], ours[2]), (ours[3], ours[4]), backend="triton")
    expected = exact_results(exact[0], exact[1:])
    assert all(a.dtype == dtype and relative_l2(a, e) <= LIMITS[dtype] for a, e in zip(y, expected, strict=True))
    (y[0] * 2 + y[1]).float().sum().backward()
    (expected[0] * 2 + expected[1]).sum().backward()
    assert max(errors(ours, exact)) <= max(3e-5, 2 * LIMITS[dtype])
    with torch.no_grad():
        out = torch.full((2, 2, length, channels), torch.nan, dtype=dtype)
        bidirectional_conv_silu(ours[0], ours[1:3], ours[3:5], out=(out[0], out[1]), backend="triton")
    assert torch.equal(out[0], y[0]) and torch.equal(out[1], y[1])


def test_filters_without_bias():
    weight, _, weight_b, _ = filters(20, 4)
    given = (torch.randn(1, 11, 20, generator=torch.Generator().manual_seed(2)), weight, None, weight_b, None)
    ours, exact = cast(given, torch.float32, grad=True), cast(given, torch.float64, grad=True)
    y = bidirectional_conv_silu(ours[0], ours[1:3], ours[3:], backend="triton")
    expected = exact_results(exact[0], exact[1:])
    (y[0].square() + y[1]).sum().backward()
    (expected[0].square() + expected[1]).sum().backward()
    assert all(relative_l2(a, e) <= 5e-6 for a, e in zip(y, expected, strict=True))
    assert max(errors(ours, exact)) <= 3e-5
    with torch.no_grad():
        again = bidirectional_conv_silu(ours[0], ours[1:3], ours[3:], backend="triton")
    assert torch.equal(again[0], y[0]) and torch.equal(again[1], y[1])


def test_causal_half():
    given = (torch.randn(2, 9, 5), *filters(5, 4)[:2])
    ours, exact = cast(given, torch.float32, grad=True), cast(given, torch.float64, grad=True)
    y, expected = causal_conv_silu(*ours, backend="triton"), causal_conv_silu_reference(*exact)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert relative_l2(y, expected) <= 5e-6
    assert max(errors(ours, exact)) <= 3e-5
    with torch.no_grad():
        out = torch.empty_like(y)
        assert torch.equal(causal_conv_silu(*ours, out=out, backend="triton"), y)


@pytest.mark.parametrize("first", [False, True])
def test_a_bias_in_one_direction_only(first):
    weight, bias, weight_b, _ = filters(5, 4)
    given = (torch.randn(2, 9, 5), weight, bias if first else None, weight_b, None if first else bias)
    ours, exact = cast(given, torch.float32, grad=True), cast(given, torch.float64, grad=True)
    y = bidirectional_conv_silu(ours[0], (ours[1], ours[2]), (ours[3], ours[4]), backend="triton")
    expected = exact_results(exact[0], exact[1:])
    assert all(relative_l2(a, e) <= 5e-6 for a, e in zip(y, expected, strict=True))
    (y[0] * 2 + y[1]).sum().backward()
    (expected[0] * 2 + expected[1]).sum().backward()
    assert max(errors(ours, exact)) <= 3e-5


def test_compiled_code_writes_where_it_is_told():
    weight, bias, weight_b, bias_b = filters(5, 4)
    x, out = torch.randn(2, 9, 5), (torch.full((2, 9, 5), torch.nan), torch.full((2, 9, 5), torch.nan))

    def convolve(x, *out):
        return bidirectional_conv_silu(x, (weight, bias), (weight_b, bias_b), out=out, backend="triton")

    with torch.no_grad():
        torch.compile(convolve, fullgraph=True, backend="aot_eager")(x, *out)
    expected = exact_results(x, (weight, bias, weight_b, bias_b))
    assert all(relative_l2(a, e) <= 5e-6 for a, e in zip(out, expected, strict=True))


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("channels", [5, 192, 300])
@pytest.mark.parametrize("first", [False, True])
def test_norm(channels, dtype, first):
    random = torch.Generator().manual_seed(channels)
    x = torch.randn(2, 3, channels, generator=random).to(dtype)
    residual = None if first else torch.randn(2, 3, channels, generator=random)
    weight = torch.rand(channels, generator=random)
    ours = [None if t is None else t.clone().requires_grad_() for t in (x, residual, weight)]
    exact = cast((x, residual, weight), torch.float64, grad=True)
    y, stream = add_rms_norm(*ours, backend="triton")
    y_exact, stream_exact = add_rms_norm_reference(*exact)
    assert (y.dtype, stream.dtype) == (dtype, torch.float32)
    assert relative_l2(y, y_exact) <= LIMITS[dtype] and relative_l2(stream, stream_exact) <= 1e-6
    (y.float() * 2 + stream).sum().backward()
    (y_exact * 2 + stream_exact).sum().backward()
    assert max(errors(ours, exact)) <= max(3e-5, LIMITS[dtype])


def test_norm_in_place_writes_over_the_stream():
    x, residual, weight = torch.randn(2, 3, 40).bfloat16(), torch.randn(2, 3, 40), torch.rand(40)
    y_exact, stream_exact = add_rms_norm_reference(x, residual, weight)
    out = torch.full((2, 3, 40), torch.nan, dtype=torch.bfloat16)
    y, stream = add_rms_norm(x, residual, weight, inplace=True, out=out, backend="triton")
    assert y is out and stream.data_ptr() == residual.data_ptr()
    assert torch.allclose(stream, stream_exact) and relative_l2(y, y_exact) <= 1e-2
    twice = weight.repeat_interleave(2)[::2]
    y, _ = add_rms_norm(x, None, twice, dtype=torch.float32, backend="triton")
    assert relative_l2(y, add_rms_norm_reference(x, None, weight, dtype=torch.float32)[0]) <= 5e-6
    spread = torch.randn(2, 80, 3).transpose(1, 2)[..., ::2]
    total = spread + x
    _, stream = add_rms_norm(x, spread, weight, inplace=True, backend="triton")
    assert stream is spread and torch.allclose(spread, total)
