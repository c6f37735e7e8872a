"""Residual add and RMSNorm: a case worked by hand, torch's own, and the kernel against the definition."""

import pytest
import torch
import torch.nn.functional as F

from tests.unit.scan_cases import cast, needs_kernel, relative_l2
from vmr.errors import VmrError
from vmr.ops import add_rms_norm

BACKENDS = ("reference", pytest.param("cpu", marks=needs_kernel))


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    x, residual, weight = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([1.0, 10.0])
    # sum [3, 4], mean square 12.5, root 3.5355339:  [3, 4] / 3.5355339 * [1, 10]
    y, stream = add_rms_norm(x, residual, weight, eps=0.0, backend=backend)
    assert stream.tolist() == [[3.0, 4.0]]
    assert y.flatten().tolist() == pytest.approx([0.8485281, 11.3137085], rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(7,), (3, 64), (2, 9, 17), (2, 2, 3, 33)])
def test_is_torch_rms_norm_of_the_sum(shape, backend):
    x, residual, weight = torch.randn(shape), torch.randn(shape), torch.randn(shape[-1])
    y, stream = add_rms_norm(x, residual, weight, backend=backend)
    assert torch.equal(stream, residual + x)
    assert relative_l2(y, F.rms_norm((residual + x).double(), shape[-1:], weight.double(), 1e-5)) < 1e-6


@needs_kernel
@pytest.mark.parametrize("first_layer", [False, True])
@pytest.mark.parametrize("shape", [(4, 16), (2, 9, 33)])
def test_gradients(shape, first_layer):
    tensors = (torch.randn(shape), None if first_layer else torch.randn(shape), torch.randn(shape[-1]))
    ours, exact = cast(tensors, torch.float32, grad=True), cast(tensors, torch.float64, grad=True)
    grads = torch.randn(2, *shape)
    for leaves, backend in ((ours, "cpu"), (exact, "reference")):
        y, stream = add_rms_norm(*leaves, backend=backend)
        torch.autograd.backward([y, stream], list(grads.to(y.dtype)))
    assert max(relative_l2(a.grad, e.grad) for a, e in zip(ours, exact, strict=True) if a is not None) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_place_and_into_a_workspace(dtype, backend):
    x, residual, weight = torch.randn(2, 5, 20).to(dtype), torch.randn(2, 5, 20), torch.randn(20)
    expected, stream = add_rms_norm(x, residual, weight, backend="reference")
    out, updated = torch.empty(2, 5, 20, dtype=dtype), residual.clone()
    y, same = add_rms_norm(x, updated, weight, inplace=True, out=out, backend=backend)
    assert y is out and same is updated
    assert torch.equal(updated, stream)
    assert relative_l2(y, expected) < (1e-6 if dtype == torch.float32 else 4e-3)


@needs_kernel
def test_some_rows_only_and_other_output_type():
    x, residual, weight = torch.randn(3, 8, 20), torch.randn(3, 8, 20), torch.randn(20)
    y, stream = add_rms_norm(x[:, :1], residual[:, :1], weight, dtype=torch.bfloat16, backend="cpu")
    expected, _ = add_rms_norm(x, residual, weight, backend="reference")
    assert y.dtype == torch.bfloat16 and stream.dtype == torch.float32
    assert relative_l2(y, expected[:, :1]) < 4e-3


def test_misfits_are_named():
    x, weight = torch.randn(2, 4), torch.ones(4)
    with pytest.raises(VmrError, match="must be float32"):
        add_rms_norm(x, x.bfloat16(), weight)
    with pytest.raises(VmrError, match="needs x"):
        add_rms_norm(x, None, torch.ones(3))
    with pytest.raises(VmrError, match="for inference"):
        add_rms_norm(x, x.clone().requires_grad_(), weight, inplace=True)
    with pytest.raises(VmrError, match="out is"):
        add_rms_norm(x, None, weight, out=torch.empty(2, 4, dtype=torch.bfloat16))
