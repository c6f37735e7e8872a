"""The Triton kernels and the encoder on this card, compared with float64 and with upstream's golden values.

Every case has its own random inputs. Tensors that the kernels must fill hold NaN at first.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.scans import random_scan
from tests.parity.fill import make_input, make_mask, small_encoder_weights
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.ops import ScanInputs, add_rms_norm, bidirectional_conv_silu, bidirectional_scan, selective_scan
from vmr.ops.causal_conv import causal_conv_silu_reference
from vmr.ops.rms_norm import add_rms_norm_reference
from vmr.ops.selective_scan import selective_scan_reference

FORWARD = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
GRADIENT = {torch.float32: 3e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
GOLDEN = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES = ((1, 1, 40, 16), (2, 2, 33, 8), (1, 63, 64, 4), (2, 197, 384, 16), (1, 1569, 384, 16), (1, 130, 48, 64))
HALF_SHAPES = (SHAPES[0], *SHAPES[3:5])
LONG = (1, 12545, 1152, 16)
PROCESSES = 12  # most of the time is spent compiling

Case = dict[str, Any]


def measure() -> dict[str, Any]:
    """Measure the error of every case.

    Returns:
        `cases`, each with its error and limit, and `failed`, the names of those above their limit.
    """
    jobs: list[tuple[Callable[..., list[Case]], tuple[Any, ...]]]
    jobs = [(_scan, (torch.float32, shape)) for shape in SHAPES]
    jobs += [(_scan, (dtype, shape)) for dtype in (torch.bfloat16, torch.float16) for shape in HALF_SHAPES]
    jobs += [(_long_scan, (dtype,)) for dtype in FORWARD] + [(_encoder, (dtype,)) for dtype in FORWARD]
    jobs += [(_single_scans, ()), (_convolutions, ()), (_norms, ()), (_deterministic, ())]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in jobs]
        cases = [case for future in futures for case in future.result()]
    return {"cases": cases, "failed": [case["name"] for case in cases if not case["error"] <= case["limit"]]}


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    """Compute |actual - expected| / |expected| in float64.

    Args:
        actual: any tensor.
        expected: a tensor of the same shape.

    Returns:
        The relative error (L2); NaN if there is one in either tensor.
    """
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-300))


def _leaves(inputs: tuple[Tensor | None, ...], dtype: torch.dtype | None) -> list[Tensor | None]:
    """Copies that require gradients, in their own dtype or in another."""
    return [None if t is None else t.detach().to(dtype or t.dtype).clone().requires_grad_() for t in inputs]


def _reference(directions: list[ScanInputs], z: Tensor) -> Tensor:
    y = sum(
        selective_scan_reference(one, delta_softplus=True, reverse=bool(index))
        for index, one in enumerate(directions)
    )  # fmt: skip
    assert isinstance(y, Tensor)
    return y * F.silu(z)


def _scan(dtype: torch.dtype, shape: tuple[int, int, int, int]) -> list[Case]:
    cases = []
    batch, length, channels, states = shape
    first, second, z = random_scan(batch, length, channels, states, dtype=dtype, seed=length)
    ours, exact = (_leaves((*first, *second, z), kind) for kind in (None, torch.float64))
    y = bidirectional_scan(ScanInputs(*ours[:8]), ScanInputs(*ours[8:16]), ours[16], backend="triton")
    assert exact[16] is not None
    expected = _reference([ScanInputs(*exact[:8]), ScanInputs(*exact[8:16])], exact[16])
    # Half precision loses small gradients, which is what loss scaling is for.
    scale = 256.0 if dtype == torch.float16 else 1.0
    grad = torch.randn(y.shape, device="cuda").to(dtype) * scale
    y.backward(grad)
    expected.backward(grad.double())
    with torch.no_grad():
        out = torch.full_like(y, torch.nan)
        bidirectional_scan(first, second, z, out=out, backend="triton")
    name = f"scan {tuple(shape)} {dtype}"
    cases.append(_case(f"{name} forward", max(relative_l2(y, expected), relative_l2(out, expected)), FORWARD[dtype]))
    errors = _errors_of_gradients(ours, exact)
    cases.append(_case(f"{name} gradients", _worst(errors), GRADIENT[dtype]))
    return cases


def _single_scans() -> list[Case]:
    """The published call: one direction, step sizes as they are, an addend, and neither bias nor softplus."""
    cases = []
    for reverse in (False, True):
        first, second, z = random_scan(2, 197, 96, dtype=torch.float32, rank=96, seed=7)
        steps = F.softplus(first.delta - 3)
        tensors = (first.u, steps, first.A, first.B, first.C, first.D, z)
        ours, exact = (_leaves((*tensors, second.u), kind) for kind in (None, torch.float64))
        y = selective_scan(*ours[:7], reverse=reverse, addend=ours[7], backend="triton")
        expected = selective_scan(*exact[:7], reverse=reverse, addend=exact[7], backend="reference")
        grad = torch.randn_like(y)
        y.backward(grad)
        expected.backward(grad.double())
        errors = _errors_of_gradients(ours, exact)
        cases.append(_case(f"one direction, reverse {reverse}, forward", relative_l2(y, expected), 5e-6))
        cases.append(_case(f"one direction, reverse {reverse}, gradients", _worst(errors), 3e-5))
    return cases


@torch.no_grad()
def _long_scan(dtype: torch.dtype) -> list[Case]:
    first, second, z = random_scan(*LONG, dtype=dtype)
    expected = _reference([ScanInputs(*_cast(first)), ScanInputs(*_cast(second))], z.double())
    out = torch.full(z.shape, torch.nan, dtype=dtype, device="cuda")
    bidirectional_scan(first, second, z, out=out, backend="triton")
    return [_case(f"scan {LONG} {dtype} forward", relative_l2(out, expected), FORWARD[dtype])]


def _convolutions() -> list[Case]:
    cases = []
    for dtype, (length, channels) in itertools.product(FORWARD, ((1, 40), (197, 384), (1569, 100))):
        x = torch.randn(2, length, 2 * channels, device="cuda").to(dtype)[..., :channels]
        parameters = [torch.randn(*shape, device="cuda") for shape in ((channels, 4), (channels,)) * 2]
        ours, exact = (_leaves((x, *parameters), kind) for kind in (None, torch.float64))
        results = bidirectional_conv_silu(ours[0], (ours[1], ours[2]), (ours[3], ours[4]), backend="triton")
        expected = [
            causal_conv_silu_reference(exact[0], *exact[1 + 2 * i : 3 + 2 * i], reverse=bool(i)) for i in range(2)
        ]
        grads = [torch.randn(y.shape, device="cuda").to(dtype) for y in results]
        sum((y * g).sum() for y, g in zip(results, grads, strict=True)).backward()
        sum((y * g.double()).sum() for y, g in zip(expected, grads, strict=True)).backward()
        name = f"convolution {(2, length, channels)} {dtype}"
        forward = _worst([relative_l2(y, e) for y, e in zip(results, expected, strict=True)])
        gradients = _worst(_errors_of_gradients(ours, exact))
        cases.append(_case(f"{name} forward", forward, FORWARD[dtype]))
        cases.append(_case(f"{name} gradients", gradients, GRADIENT[dtype]))
    return cases


def _norms() -> list[Case]:
    cases = []
    for dtype, channels in itertools.product(FORWARD, (40, 192, 576, 1024)):
        x, weight = torch.randn(3, 50, channels, device="cuda").to(dtype), torch.rand(channels, device="cuda")
        residual = torch.randn(3, 50, channels, device="cuda")
        ours, exact = (_leaves((x, residual, weight), kind) for kind in (None, torch.float64))
        y, stream = add_rms_norm(*ours, backend="triton")
        y_exact, stream_exact = add_rms_norm_reference(*exact)
        ((y * 2).float() * 0.5 + stream * 0.3).sum().backward()
        (y_exact + stream_exact * 0.3).sum().backward()
        errors = _errors_of_gradients(ours, exact)
        forward = _worst([relative_l2(y, y_exact), relative_l2(stream, stream_exact)])
        name = f"norm {(3, 50, channels)} {dtype}"
        cases.append(_case(f"{name} forward", forward, FORWARD[dtype]))
        cases.append(_case(f"{name} gradients", _worst(errors), GRADIENT[dtype]))
    return cases


def _deterministic() -> list[Case]:
    """Run the same inputs twice: results and gradients must be equal to the last bit."""
    runs = []
    for _ in range(2):
        first, second, z = random_scan(4, 315, 1152, dtype=torch.bfloat16)
        tensors = _leaves((*first, *second, z), None)
        y = bidirectional_scan(ScanInputs(*tensors[:8]), ScanInputs(*tensors[8:16]), tensors[16], backend="triton")
        y.sum().backward()
        runs.append([y.detach(), *(t.grad for t in tensors if t is not None)])
    different = sum(not torch.equal(a, b) for a, b in zip(*runs, strict=True))
    return [_case("tensors that differ between two runs", float(different), 0.0)]


def _encoder(dtype: torch.dtype) -> list[Case]:
    """Compare with upstream's values: every pooling, masks, student taps, and interpolated positions."""
    golden = np.load(Path(__file__).parents[2] / "tests" / "parity" / "encoder_golden.npz")
    return [
        _case(
            f"encoder {name} {dtype}", relative_l2(compute(), torch.from_numpy(golden[name]).cuda()), GOLDEN[dtype]
        )
        for name, compute in _golden_cases(dtype).items()
    ]  # fmt: skip


def _golden_cases(dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    video, mask = make_input("small", (2, 3, 4, 64, 64)), make_mask("smallmask", 2, 4, 16, 0.8)
    larger = make_input("interp", (1, 3, 8, 96, 96))
    cases: dict[str, Callable[[], Tensor]] = {}

    def add(name: str, part: int, taps: int = 1, **settings: Any) -> None:
        options = {"image_size": 64, "num_frames": 4, "pool": "cls+avg", **settings}
        student = {key: options.pop(key) for key in ("interval", "last_tap") if key in options}
        given = {key: options.pop(key) for key in ("mask", "keep_temporal") if key in options}
        clip = larger if options["num_frames"] == 8 else video
        config = VideoMambaConfig(
            width=64, num_layers=4, student=StudentConfig(teacher_dim=32, num_taps=taps, **student), **options
        )

        @torch.no_grad()
        def compute() -> Tensor:
            model = VideoMamba(config, backend="triton").eval()
            load_upstream(model, small_encoder_weights(taps))
            model = model.cuda().cast_products(dtype)
            on_gpu = {key: value.cuda() if isinstance(value, Tensor) else value for key, value in given.items()}
            result = model(clip.transpose(1, 2).cuda(), **on_gpu)[part]
            assert isinstance(result, Tensor)
            return result

        cases[name] = compute

    for pool in ("cls", "avg", "cls+avg", "cls_cat_avg"):
        add(f"{pool}.keep0", 1, pool=pool)
        add(f"{pool}.keep1", 1, pool=pool, keep_temporal=True)
        add(f"{pool}.masked", 1, pool=pool, mask=mask)
    for taps, interval in ((1, 1), (2, 2), (3, 1)):
        add(f"ret{taps}x{interval}.student", 2, taps, interval=interval, mask=mask)
    add("unfused.embeds", 0, last_tap="after_last_layer", mask=mask)
    add("unfused.student", 2, last_tap="after_last_layer", mask=mask)
    add("small96x8.pooled", 1, image_size=96, num_frames=8, keep_temporal=True)
    return cases


def _cast(inputs: ScanInputs) -> list[Tensor | None]:
    return [None if t is None else t.double() for t in inputs]


def _errors_of_gradients(ours: list[Tensor | None], exact: list[Tensor | None]) -> list[float]:
    pairs = [(a, e) for a, e in zip(ours, exact, strict=True) if a is not None and e is not None]
    return [relative_l2(a.grad, e.grad) for a, e in pairs]


def _worst(errors: list[float]) -> float:
    """The greatest error; NaN if there is one, which `max` could ignore."""
    return float(torch.tensor(errors, dtype=torch.float64).max())


def _case(name: str, error: float, limit: float) -> Case:
    return {"name": name, "error": error, "limit": limit}
