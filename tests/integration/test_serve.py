"""`vmr-serve` as a user starts it."""

from pathlib import Path

import httpx
import pytest

import vmr
from tests.services import serving


@pytest.fixture(scope="module")
def index(footage: Path, tmp_path_factory: pytest.TempPathFactory, offline) -> Path:
    folder = tmp_path_factory.mktemp("served") / "index"
    vmr.build_index(footage, folder, offline, window_s=4)
    return folder


def test_the_service_answers(index: Path):
    with serving(index) as address:
        assert httpx.get(f"{address}/api/v1/healthz").json() == {"status": "ok"}
