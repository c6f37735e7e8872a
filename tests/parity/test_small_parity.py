"""Classification, self-distillation, masked pre-training, frames, crops, scores and schedules equal upstream's.

The checkers and their golden values lie beside the repository, in shared/parity_sm; without them these tests are
skipped. The published sizes take a minute: pytest -m slow tests/parity/test_small_parity.py
"""

import importlib
import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.parity.adapter_sm import Adapter
from tests.paths import PARITY_SM
from vmr.ops import available_backends
from vmr.ops.backend import Backend

PLAN: dict[str, Any] = json.loads((PARITY_SM / "plan.json").read_text()) if PARITY_SM.is_dir() else {}
LARGE = {"image_tiny", "image_small", "video_tiny", "video_tiny_16_from_8_frames"}
EXACT = [
    "sparse_indices", "dense_indices", "ssv2_indices", "ssv2_raw_frames", "trimmed", "crops", "masks", "mask_counts",
    "merge", "merge_regression", "param_groups", "lr_schedule", "mix", "cutmix_box", "repeated_sampler",
    "masked_checkpoint",
]  # fmt: skip
CLASSIFIERS = [
    name
    for name, (function, _) in PLAN.items()
    if (function.endswith("_logits") and "vit" not in name) or function == "distillation"
]


@pytest.fixture(scope="module")
def checkers() -> tuple[ModuleType, ModuleType]:
    if not PLAN:
        pytest.skip(f"needs the golden values in {PARITY_SM}")
    sys.path.insert(0, str(PARITY_SM))
    try:
        return importlib.import_module("check"), importlib.import_module("check_exact")
    finally:
        sys.path.remove(str(PARITY_SM))


def differences(check: ModuleType, case: str, adapter: Adapter) -> list[Any]:
    noise = json.loads((PARITY_SM / "noise.json").read_text())
    found, _ = check.compare(case, check.C.run(case, adapter), np.load(PARITY_SM / "golden.npz"), noise, 30.0)
    return found


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in PLAN or ["golden"]]
)
def test_golden_values(checkers: tuple[ModuleType, ModuleType], case: str) -> None:
    assert differences(checkers[0], case, Adapter()) == []


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", [name for name in CLASSIFIERS if name not in LARGE] or ["golden"])
def test_classifiers_on_every_backend(checkers: tuple[ModuleType, ModuleType], case: str, backend: Backend) -> None:
    if not available_backends()[backend].startswith("available"):
        pytest.skip(available_backends()[backend])
    adapter = Adapter()
    adapter.backend = backend
    assert differences(checkers[0], case, adapter) == []


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(checkers: tuple[ModuleType, ModuleType], name: str) -> None:
    exact = checkers[1]
    assert set(exact.CHECKS) == set(EXACT)  # so that none is forgotten
    assert exact.CHECKS[name](Adapter()) == []
