"""The processes in which the service decodes files: what goes wrong in one of them ends no request but its own."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from vmr.errors import VideoError
from vmr.retrieval.service import processes as service_processes
from vmr.retrieval.service.processes import BusyError, Processes, TimeLimitError


@pytest.fixture(scope="module")
def processes():
    some = Processes(1, PATIENCE_S)
    yield some
    some.close()


def run(processes: Processes, function: str, request: dict | None = None, **options):
    return asyncio.run(processes.run(f"tests.service_work:{function}", request or {}, "clip.mp4", **options))


def test_values_and_pictures_come_back(processes):
    answer = run(processes, "double", {"number": 21})
    assert answer.values["number"] == 42 and answer.values["process"] != os.getpid()
    assert [picture.shape for picture in answer.pictures] == [(2, 3, 4), (5,)]
    assert answer.pictures[1].tobytes() == b"bytes" and (answer.pictures[0] == 7).all()


@pytest.mark.parametrize(
    ("function", "reason"),
    [("refuse", "is no video"), ("crash", "signal 11|SIGSEGV"), ("fill_memory", "MemoryError|memory")],
)
def test_a_file_that_fails_fails_alone(processes, function, reason):
    with pytest.raises(VideoError, match=rf"^clip\.mp4: .*({reason})"):
        run(processes, function)
    assert run(processes, "double", {"number": 1}).values["number"] == 2


def test_no_more_bytes_than_were_asked_for(processes):
    assert len(run(processes, "send_much", max_bytes=1000).pictures[0]) == 1000
    with pytest.raises(VideoError, match="not valid"):
        run(processes, "send_much", max_bytes=999)


def test_a_failure_keeps_the_process(processes):
    first = run(processes, "double", {"number": 1}).values["process"]
    with pytest.raises(VideoError):
        run(processes, "refuse")
    assert run(processes, "double", {"number": 1}).values["process"] == first


def test_a_run_that_hangs_is_killed(tmp_path: Path):
    processes = Processes(1, 4)
    try:
        run(processes, "double", {"number": 1})
        started = time.monotonic()
        with pytest.raises(TimeLimitError, match=r"^clip\.mp4: took longer than 4 s to read$"):
            run(processes, "hang", {"began": str(tmp_path / "began")})
        assert time.monotonic() - started < PATIENCE_S
        assert run(processes, "double", {"number": 2}).values["number"] == 4
    finally:
        processes.close()


def test_whoever_gives_up_frees_the_process(processes, tmp_path: Path):
    began = tmp_path / "began"

    async def give_up() -> None:
        task = asyncio.create_task(processes.run("tests.service_work:hang", {"began": str(began)}, "clip.mp4"))
        while not began.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    started = time.monotonic()
    assert run(processes, "double", {"number": 3}).values["number"] == 6
    assert time.monotonic() - started < PATIENCE_S / 2


def test_a_crowd_is_told_to_come_later(processes, monkeypatch):
    monkeypatch.setattr(processes, "_most_waiting", 2)

    async def many() -> list:
        runs = [processes.run("tests.service_work:double", {"number": n}, "clip.mp4") for n in range(5)]
        return await asyncio.gather(*runs, return_exceptions=True)

    results = asyncio.run(many())
    assert [getattr(result, "values", {}).get("number") for result in results[:2]] == [0, 2]
    assert all(isinstance(result, BusyError) for result in results[2:])
    assert run(processes, "double", {"number": 4}).values["number"] == 8
    assert service_processes._MEMORY_BYTES < 10 * 2**30
