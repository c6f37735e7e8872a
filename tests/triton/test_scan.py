"""The Triton scan in the interpreter against the float64 definition: results, gradients, chunks, strides, dtypes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.scan_cases import cast, random_scan, relative_l2
from vmr.errors import VmrError
from vmr.ops import ScanInputs, bidirectional_scan, selective_scan
from vmr.ops.gpu import tiles
from vmr.ops.selective_scan import selective_scan_reference

# length, channels, states, rank of delta (0: as it is), programs on the one multiprocessor (more make more chunks)
SHORT = [(1, 5, 4, 3, 1), (2, 33, 8, 2, 1), (17, 37, 16, 0, 3), (21, 5, 16, 3, 5), (21, 33, 4, 0, 1)]
SINGLE = [(1, 5, 16, 0, 1), (17, 33, 4, 2, 2), (21, 5, 8, 0, 5)]
LONG = [(300, 37, 16, 5, 12)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiles(monkeypatch, programs=1)


def use_tiles(monkeypatch: pytest.MonkeyPatch, *, programs: int) -> None:
    """Use two rows and 32 channels per program, and this many programs: the interpreter's cost is per operation."""
    chosen = tiles.Tiles(2, 32, programs, 10**6, 2, 32, programs, 10**6)
    monkeypatch.setattr(tiles, "tiles_of", lambda _: chosen)


def definition(directions: list[ScanInputs], z: Tensor | None, addend: Tensor | None, *, reverse: bool) -> Tensor:
    """One or two directions by the reference, the second the other way."""
    parts = [
        selective_scan_reference(one, delta_softplus=True, reverse=reverse != bool(index))
        for index, one in enumerate(directions)
    ]
    y = sum(parts) if addend is None else sum(parts) + addend
    assert isinstance(y, Tensor)
    return y if z is None else y * F.silu(z)


def errors_of_gradients(ours: list[Tensor | None], exact: list[Tensor | None]) -> dict[int, float]:
    return {
        index: relative_l2(a.grad, e.grad)
        for index, (a, e) in enumerate(zip(ours, exact, strict=True))
        if a is not None and e is not None
    }


def check_both_directions(length: int, channels: int, states: int, rank: int) -> None:
    forward, z, _ = random_scan(length, channels, states, batch=1 + (length < 9), rank=rank, seed=1)
    backward, _, _ = random_scan(length, channels, states, batch=1 + (length < 9), rank=rank, seed=2)
    ours = cast((*forward, *backward, z), torch.float32, grad=True)
    exact = cast((*forward, *backward, z), torch.float64, grad=True)
    y = bidirectional_scan(ScanInputs(*ours[:8]), ScanInputs(*ours[8:16]), ours[16], backend="triton")
    expected = definition([ScanInputs(*exact[:8]), ScanInputs(*exact[8:16])], exact[16], None, reverse=False)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    y.backward(grad)
    expected.backward(grad.double())
    assert relative_l2(y, expected) <= 5e-6
    errors = errors_of_gradients(ours, exact)
    assert len(errors) == (17 if rank else 15)
    assert max(errors.values()) <= 3e-5, errors


@pytest.mark.parametrize(("length", "channels", "states", "rank", "programs"), SHORT)
def test_both_directions(monkeypatch, length, channels, states, rank, programs):
    use_tiles(monkeypatch, programs=programs * 2 * -(-channels // 32))
    check_both_directions(length, channels, states, rank)


@pytest.mark.slow
@pytest.mark.parametrize(("length", "channels", "states", "rank", "programs"), LONG)
def test_a_long_sequence_in_both_directions(monkeypatch, length, channels, states, rank, programs):
    use_tiles(monkeypatch, programs=programs)
    check_both_directions(length, channels, states, rank)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("length", "channels", "states", "rank", "programs"), SINGLE)
def test_one_direction_with_an_addend(monkeypatch, length, channels, states, rank, programs, reverse):
    use_tiles(monkeypatch, programs=programs)
    inputs, z, addend = random_scan(length, channels, states, rank=rank, seed=length)
    ours = cast((*inputs, z, addend), torch.float32, grad=True)
    exact = cast((*inputs, z, addend), torch.float64, grad=True)
    u, delta, A, B, C, D, bias, weight, gate, added = ours
    y = selective_scan(
        u, delta, A, B, C, D, gate, bias, True, reverse, delta_weight=weight, addend=added, backend="triton"
    )
    expected = definition([ScanInputs(*exact[:8])], exact[8], exact[9], reverse=reverse)
    y.sum().backward()
    expected.sum().backward()
    assert relative_l2(y, expected) <= 5e-6
    assert max(errors_of_gradients(ours, exact).values()) <= 3e-5


def test_step_sizes_as_they_are_and_nothing_optional(monkeypatch):
    use_tiles(monkeypatch, programs=3)
    inputs, _, _ = random_scan(11, 9, 5)
    ours, exact = cast(inputs[:5], torch.float32, grad=True), cast(inputs[:5], torch.float64, grad=True)
    y = selective_scan(ours[0], ours[1].abs(), *ours[2:], backend="triton")
    expected = selective_scan(exact[0], exact[1].abs(), *exact[2:], backend="reference")
    y.square().sum().backward()
    expected.square().sum().backward()
    assert relative_l2(y, expected) <= 5e-6
    assert max(errors_of_gradients(ours, exact).values()) <= 3e-5


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_half_precision_columns_of_wider_tensors(monkeypatch, dtype, limit):
    use_tiles(monkeypatch, programs=2)
    forward, z, _ = random_scan(18, 24, 8, batch=2, rank=6, seed=1)
    backward, _, _ = random_scan(18, 24, 8, batch=2, rank=6, seed=2)
    wide = torch.cat([forward.u, z], dim=-1).to(dtype).requires_grad_()
    packed = [torch.cat(one[1:2] + one[3:5], dim=-1).to(dtype).requires_grad_() for one in (forward, backward)]
    directions = []
    for one, columns, u in zip((forward, backward), packed, (wide[..., :24], backward.u.to(dtype)), strict=True):
        delta, B, C = columns.split([6, 8, 8], dim=-1)
        directions.append(one._replace(u=u, delta=delta, B=B, C=C))
    exact = [ScanInputs(*cast(one, torch.float64, grad=True)) for one in directions]
    gate = wide[..., 24:].detach().double().requires_grad_()
    with torch.no_grad():
        filled = torch.full((2, 18, 24), torch.nan, dtype=dtype)
        assert bidirectional_scan(*directions, wide[..., 24:], out=filled, backend="triton") is filled
    y = bidirectional_scan(*directions, wide[..., 24:], backend="triton")
    expected = definition(exact, gate, None, reverse=False)
    assert y.dtype == dtype
    assert relative_l2(filled, expected) <= limit
    assert relative_l2(y, expected) <= limit
    y.float().square().sum().backward()
    expected.square().sum().backward()
    assert relative_l2(wide.grad[..., 24:], gate.grad) <= 2 * limit
    assert relative_l2(wide.grad[..., :24], exact[0].u.grad) <= 2 * limit
    for columns, one in zip(packed, exact, strict=True):
        assert relative_l2(columns.grad, torch.cat([one.delta.grad, one.B.grad, one.C.grad], dim=-1)) <= 2 * limit


def test_outputs_of_any_layout_are_written_whole(monkeypatch):
    use_tiles(monkeypatch, programs=2)
    inputs, z, _ = random_scan(9, 35, 4, batch=2, rank=2)
    expected = definition([inputs, inputs], z, None, reverse=False)
    out = torch.full((2, 35, 9), torch.nan).transpose(1, 2)
    assert bidirectional_scan(inputs, inputs, z, out=out, backend="triton") is out
    assert relative_l2(out, expected) <= 5e-6
    spread = inputs._replace(
        u=inputs.u.repeat_interleave(2, dim=1)[:, ::2],
        B=inputs.B.transpose(1, 2).contiguous().transpose(1, 2),
        A=inputs.A.T.contiguous().T,
    )
    assert relative_l2(bidirectional_scan(spread, inputs, z, backend="triton"), expected) <= 5e-6


def test_parameters_of_any_layout(monkeypatch):
    use_tiles(monkeypatch, programs=2)
    inputs, z, _ = random_scan(9, 35, 4, batch=2, rank=2)
    expected = definition([inputs, inputs], z, None, reverse=False)
    spread = inputs._replace(
        D=inputs.D.repeat_interleave(2)[::2],
        delta_bias=inputs.delta_bias.repeat_interleave(3)[::3],
        delta_weight=inputs.delta_weight.T.contiguous().T,
        C=inputs.C.repeat_interleave(2, dim=-1)[..., ::2],
    )
    assert relative_l2(bidirectional_scan(spread, spread, z, backend="triton"), expected) <= 5e-6


def test_directions_that_are_given_different_things():
    forward, z, _ = random_scan(7, 5, 4, rank=2, seed=1)
    backward, _, _ = random_scan(7, 5, 3, rank=1, seed=2)
    for second in (backward, backward._replace(D=None), backward._replace(delta_bias=None)):
        expected = definition([forward, second], z, None, reverse=False)
        assert relative_l2(bidirectional_scan(forward, second, z, backend="triton"), expected) <= 5e-6


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("A", [-3e38, -float("inf")])
def test_the_lowest_decay_rates(A, reverse):
    inputs, z, addend = random_scan(5, 3, 4)
    inputs = inputs._replace(A=torch.full_like(inputs.A, A))
    tensors = cast((*inputs, z, addend), torch.float32, grad=True)
    u, delta, rates, B, C, D, bias, _, gate, added = tensors
    y = selective_scan(u, delta, rates, B, C, D, gate, bias, True, reverse, addend=added, backend="triton")
    y.sum().backward()
    assert relative_l2(y, definition([inputs], z, addend, reverse=reverse)) <= 5e-6
    assert all(t.grad.isfinite().all() for t in (u, delta, B, C, D, gate, added))


def test_step_sizes_too_large_for_half_precision_stay_finite():
    inputs, _, _ = random_scan(4, 3, 2, rank=2)
    halves = {name: getattr(inputs, name).bfloat16() for name in ("u", "delta", "B", "C")}
    inputs = inputs._replace(**halves, delta_bias=torch.full((3,), 1e5))
    u, delta, A, B, C, D, bias, weight = inputs
    y = selective_scan(u, delta, A, B, C, D, None, bias, True, delta_weight=weight, backend="triton")
    assert y.isfinite().all()


def test_the_operator_is_sound():
    from vmr.ops.gpu.scan import _scan_op

    forward, z, _ = random_scan(5, 5, 4, rank=2)
    backward, _, _ = random_scan(5, 5, 4, rank=2, seed=1)
    tensors = cast((*forward, *backward, z), torch.float32, grad=True)
    torch.library.opcheck(_scan_op, (*tensors, None, True, False, True))


def test_compiled_whole_it_has_the_same_gradients():
    forward, z, _ = random_scan(5, 5, 4, rank=2)
    backward, _, _ = random_scan(5, 5, 4, rank=2, seed=1)
    results = []
    for compiled in (False, True):
        tensors = cast((*forward, *backward, z), torch.float32, grad=True)

        def scan(*args):
            return bidirectional_scan(ScanInputs(*args[:8]), ScanInputs(*args[8:16]), args[16], backend="triton")

        run = torch.compile(scan, fullgraph=True, backend="aot_eager") if compiled else scan
        y = run(*tensors)
        y.square().sum().backward()
        results.append([y.detach(), *(t.grad for t in tensors if t is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_more_sequences_than_a_launch_can_number_are_refused():
    inputs, _, _ = random_scan(1, 1, 1)
    many = inputs._replace(**{name: getattr(inputs, name).expand(40000, -1, -1) for name in ("u", "delta", "B", "C")})
    with pytest.raises(VmrError, match="at most 32767 sequences at once, not 40000: use smaller batches"):
        bidirectional_scan(many, many, backend="triton")


def test_directions_that_do_not_belong_together_are_refused():
    forward, z, _ = random_scan(5, 4, 4)
    backward, _, _ = random_scan(6, 4, 4)
    with pytest.raises(VmrError, match=r"z is \(1, 5, 4\), but u and A ask for \(1, 6, 4\)"):
        bidirectional_scan(forward, backward, z, backend="triton")
    with pytest.raises(VmrError, match="'triton' takes float32, bfloat16 and float16, at most 64 states"):
        bidirectional_scan(forward._replace(u=forward.u.double()), forward, z, backend="triton")


def test_as_many_states_as_there_may_be(monkeypatch):
    use_tiles(monkeypatch, programs=2)
    check_both_directions(3, 5, 64, 2)
