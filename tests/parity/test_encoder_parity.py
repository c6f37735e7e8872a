"""The encoder equals upstream's up to rounding.

`encoder_golden.npz` holds what upstream computes in float64 from the weights and inputs of `fill.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity.adapter import Adapter
from tests.parity.fill import make_input, make_mask, small_encoder_weights
from vmr.ops import available_backends
from vmr.ops.backend import Backend

SMALL = {"embed_dim": 64, "depth": 4, "img_size": 64, "num_frames": 4, "clip_output_dim": 32}
GOLDEN = np.load(Path(__file__).with_name("encoder_golden.npz"))


@pytest.fixture
def adapter() -> Adapter:
    return Adapter()


@pytest.fixture
def video() -> Tensor:
    return make_input("small", (2, 3, 4, 64, 64))


@pytest.fixture
def mask() -> Tensor:
    return make_mask("smallmask", 2, 4, 16, 0.8)


def assert_golden(name: str, result: Tensor | None) -> None:
    assert result is not None
    golden = torch.from_numpy(GOLDEN[name])
    assert result.shape == golden.shape
    error = result - golden
    assert error.norm() <= 3e-6 * golden.norm(), name
    assert error.abs().max() <= 1e-5 * golden.abs().max(), name


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_backend(backend: Backend, video: Tensor, mask: Tensor) -> None:
    if not available_backends()[backend].startswith("available"):
        pytest.skip(available_backends()[backend])
    encode = Adapter(backend).encoder({**SMALL, "clip_return_layer": 3}, small_encoder_weights(3))
    assert_golden("cls+avg.keep1", encode(video, keep_temporal=True)[1])
    assert_golden("ret3x1.student", encode(video, mask=mask)[2])


@pytest.mark.parametrize("pool", ["cls", "avg", "cls+avg", "cls_cat_avg"])
def test_pooling(adapter: Adapter, pool: str, video: Tensor, mask: Tensor) -> None:
    encode = adapter.encoder({**SMALL, "pool_type": pool}, small_encoder_weights())
    assert_golden(f"{pool}.keep0", encode(video)[1])
    assert_golden(f"{pool}.keep1", encode(video, keep_temporal=True)[1])
    assert_golden(f"{pool}.masked", encode(video, mask=mask)[1])


@pytest.mark.parametrize(("taps", "interval"), [(1, 1), (2, 2)])
def test_student_taps(adapter: Adapter, taps: int, interval: int, video: Tensor, mask: Tensor) -> None:
    config: dict[str, Any] = {**SMALL, "clip_return_layer": taps, "clip_student_return_interval": interval}
    encode = adapter.encoder(config, small_encoder_weights(taps))
    assert_golden(f"ret{taps}x{interval}.student", encode(video, mask=mask)[2])


def test_last_tap_after_the_last_layer(adapter: Adapter, video: Tensor, mask: Tensor) -> None:
    encode = adapter.encoder({**SMALL, "fused_add_norm": False}, small_encoder_weights())
    tokens, _, student = encode(video, mask=mask)
    assert_golden("unfused.embeds", tokens)
    assert_golden("unfused.student", student)


def test_weights_interpolated_to_a_larger_and_longer_input(adapter: Adapter) -> None:
    larger = {**SMALL, "img_size": 96, "num_frames": 8}
    encode = adapter.encoder(larger, small_encoder_weights())
    _, pooled, _ = encode(make_input("interp", (1, 3, 8, 96, 96)), keep_temporal=True)
    assert_golden("small96x8.pooled", pooled)
