"""Requests that fit the description of the API, and some that do not: no answer is a failure.

All of them, about a minute and a half:

    python -m pytest -q -m slow tests/integration/test_serve_schema.py
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

import vmr
from tests.services import serving

BUSY = {503, 504}
"""What may be answered as well while many requests are on their way."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def address(footage: Path, tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[str]:
    """A service with everything that it can do, for two videos."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "videos" / "uploads").mkdir(parents=True)
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(footage / "carphone_pristine.mp4", folder / "videos" / name)
    vmr.build_index(folder / "videos", folder / "index", "videomamba-nano-shapes", window_s=2)
    options = ("--allow-indexing", str(folder / "videos"), "--upload-dir", str(folder / "videos" / "uploads"))
    with serving(folder / "index", *options, log=log) as address:
        yield address


def send_cases(address: str, log: Path, cases: int) -> Counter[int]:
    """Send about so many requests, as many to each route: some of them malformed, some about what is there."""
    description = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in description.get_all_operations()]
    statuses: Counter[int] = Counter()
    for operation in operations:
        ways: list[dict[str, Any]] = [{"generation_mode": GenerationMode.POSITIVE}]
        if operation.path_parameters:
            ways.append({"path_parameters": {each.name: 1 for each in operation.path_parameters}})
        if operation.body or list(operation.iter_parameters()):
            ways.append({"generation_mode": GenerationMode.NEGATIVE})
        for way in ways:

            @settings(
                max_examples=max(1, cases // len(operations) // len(ways)),
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(**way))
            def send(case: Any) -> None:
                answer = case.call(timeout=600)
                statuses[answer.status_code] += 1
                assert answer.status_code < 500 or answer.status_code in BUSY, (case.as_curl_command(), answer.text)
                if answer.status_code >= 400 and answer.headers["content-type"] == ["application/json"]:
                    (line,) = json.loads(answer.text)["detail"].splitlines()
                    assert line.isprintable()

            send()
    assert log.read_text() == f"vmr-serve: {address}/\n"
    return statuses


def test_a_few_hundred_requests(address, log):
    statuses = send_cases(address, log, 300)
    assert statuses.total() > 150
    assert statuses[200] > 20 and statuses[422] > 20  # neither are all refused, nor none


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_2000_requests(address, log):
    statuses = send_cases(address, log, 2800)
    print(sorted(statuses.items()))
    assert statuses.total() >= 2000
