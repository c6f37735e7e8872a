"""The depthwise convolution: a case worked by hand, torch's own convolution, and the kernel against the definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.scan_cases import cast, needs_kernel, relative_l2
from vmr.errors import VmrError
from vmr.ops import bidirectional_conv_silu, causal_conv_silu
from vmr.ops.causal_conv import causal_conv_silu_reference

BACKENDS = ("reference", pytest.param("cpu", marks=needs_kernel))


def random_conv(batch: int, length: int, channels: int, taps: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(length)
    shapes = ((batch, length, channels), (channels, taps), (channels,))
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    x = torch.tensor([[[1.0], [2.0], [4.0]]])
    weight, bias = torch.tensor([[10.0, 1.0]]), torch.tensor([0.5])
    # causal: 0.5 + [1*1, 10*1 + 1*2, 10*2 + 1*4];  reversed, the last tap again on the step itself: 10*next + 1*own
    causal, reverse = torch.tensor([1.5, 12.5, 24.5]), torch.tensor([21.5, 42.5, 4.5])
    y = bidirectional_conv_silu(x, (weight, bias), (weight, bias), backend=backend)
    assert torch.allclose(y[0].flatten(), F.silu(causal))
    assert torch.allclose(y[1].flatten(), F.silu(reverse))


@pytest.mark.parametrize("backend", BACKENDS)
def test_reverse_is_a_flip(backend):
    x, *one = random_conv(2, 11, 5, 4)
    _, *other = random_conv(2, 12, 5, 4)
    left, right = bidirectional_conv_silu(x, one, other, backend=backend)
    flipped_right, flipped_left = bidirectional_conv_silu(x.flip(1), other, one, backend=backend)
    assert relative_l2(left, flipped_left.flip(1)) < 1e-6
    assert relative_l2(right, flipped_right.flip(1)) < 1e-6


@needs_kernel
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("batch", "length", "channels"), [(2, 1, 5), (1, 2, 17), (2, 33, 40), (2, 300, 33)])
def test_kernel_and_its_gradients(batch, length, channels, taps):
    _, *other = random_conv(batch, length + 1, channels, taps)
    tensors = (*random_conv(batch, length, channels, taps), *other)
    ours, exact = cast(tensors, torch.float32, grad=True), cast(tensors, torch.float64, grad=True)
    y = bidirectional_conv_silu(ours[0], ours[1:3], ours[3:], backend="cpu")
    expected = [
        causal_conv_silu_reference(exact[0], *exact[1:3]),
        causal_conv_silu_reference(exact[0], *exact[3:], reverse=True),
    ]
    grads = [torch.randn(one.shape) for one in y]
    torch.autograd.backward(y, grads)
    torch.autograd.backward(expected, [grad.double() for grad in grads])
    assert max(relative_l2(a, e) for a, e in zip(y, expected, strict=True)) < 1e-6
    assert max(relative_l2(a.grad, e.grad) for a, e in zip(ours, exact, strict=True)) < 2e-6


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_directions_in_place_of_two_calls(dtype):
    x, weight, bias = random_conv(2, 70, 24, 4)
    xz = torch.cat([x, x], dim=-1).to(dtype)
    half = xz[..., :24]
    expected = [
        causal_conv_silu_reference(half, weight, bias),
        causal_conv_silu_reference(half, weight.flip(0), None, reverse=True),
    ]
    out = torch.empty(2, 2, 70, 24, dtype=dtype)
    actual = bidirectional_conv_silu(half, (weight, bias), (weight.flip(0), None), out=(out[0], out[1]), backend="cpu")
    assert actual[0].data_ptr() == out.data_ptr()
    tolerance = 1e-6 if dtype == torch.float32 else 8e-3
    assert all(relative_l2(a, e) < tolerance for a, e in zip(actual, expected, strict=True))


@needs_kernel
def test_causal_half_and_its_gradients():
    given = random_conv(2, 33, 40, 4)
    ours, exact = cast(given, torch.float32, grad=True), cast(given, torch.float64, grad=True)
    y, expected = causal_conv_silu(*ours, backend="cpu"), causal_conv_silu_reference(*exact)
    grad = torch.randn(y.shape)
    y.backward(grad)
    expected.backward(grad.double())
    assert relative_l2(y, expected) < 1e-6
    assert max(relative_l2(a.grad, e.grad) for a, e in zip(ours, exact, strict=True)) < 2e-6
    out = torch.empty_like(y)
    with torch.no_grad():
        assert causal_conv_silu(*ours, out=out, backend="cpu").data_ptr() == out.data_ptr()
        assert torch.equal(out, y)
        assert relative_l2(causal_conv_silu(*ours, out=out, backend="reference"), expected) < 1e-6
    with pytest.raises(VmrError, match="conv: out= is for inference"):
        causal_conv_silu(*ours, out=out, backend="cpu")


def test_misfits_are_named():
    x, weight, bias = random_conv(1, 5, 3, 4)
    with pytest.raises(VmrError, match="needs x"):
        bidirectional_conv_silu(x, (weight[:2], bias), (weight, bias))
    with pytest.raises(VmrError, match="bias is"):
        bidirectional_conv_silu(x, (weight, bias), (weight, bias[:2]))
    with pytest.raises(VmrError, match="two filters differ"):
        bidirectional_conv_silu(x, (weight, bias), (weight[:, :3], bias))
    with pytest.raises(VmrError, match=r"out\[1\] is"):
        bidirectional_conv_silu(x, (weight, bias), (weight, bias), out=(x.clone(), x[:, :1]))
