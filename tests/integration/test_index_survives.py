"""An index after kills, power cuts and damage, and while it is read.

The programs of `tests.faults` that these tests start print what happened. A few trials run by default;
`pytest -m slow -s tests/integration/test_index_survives.py` makes a thousand kills, 400 power cuts and 500 changes of
files, and prints the counts. It takes some minutes on two cores.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import finish, launch

FEW_OR_MANY = [pytest.param(False, id="few"), pytest.param(True, id="many", marks=pytest.mark.slow)]


def counts(program: str, *arguments: object) -> dict[str, Any]:
    """What a program of `tests.faults` has counted; printed as well."""
    printed = finish(launch("-m", f"tests.faults.{program}", *arguments), timeout_s=3000)
    found = json.loads(printed)
    print(program, *arguments[1:], {**found, "wrong": len(found["wrong"])})
    return found


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_a_killed_writer_leaves_what_it_acknowledged(tmp_path: Path, many: bool):
    kills = 1000 if many else 25
    found = counts("kills", tmp_path / "index", kills, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert sum(found["during"].values()) == kills
    assert found["acknowledged"] > 2 * kills, "the writer was killed before it did anything"
    assert 0 < found["further"] < kills


def test_kills_notice_a_writer_that_acknowledges_too_early(tmp_path: Path):
    assert counts("kills", tmp_path / "index", 40, 1, "early")["wrong"]


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which records system calls")


@needs_strace
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_a_power_cut_leaves_what_was_acknowledged(tmp_path: Path, many: bool):
    found = counts("power_cuts", tmp_path, 400 if many else 30, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["images"].keys() == {"acknowledged", "one more"}
    assert min(found["calls"][kind] for kind in ("create", "write", "size", "sync", "unlink")) > 0


@needs_strace
@pytest.mark.parametrize("not_flushed", ["index.db-wal", "index.db", "index"])
def test_power_cuts_notice_that_something_is_not_flushed(tmp_path: Path, not_flushed: str):
    """The log, the database, and the names in the folder: without each, many images must be wrong."""
    assert len(counts("power_cuts", tmp_path, 20, 1, not_flushed)["wrong"]) > 5


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_changed_files_are_noticed(tmp_path: Path, many: bool):
    found = counts("damage", tmp_path, 800 if many else 60, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    for file, told in (found["flips"] | found["cuts"]).items():
        assert told["verify"] > 0, file
    log = found["flips"]["index.db-wal"]
    assert log["opening"] == log["all"]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_readers_beside_a_writer(tmp_path: Path, many: bool):
    """No answer is wrong or stale, and searches end while a commit is under way."""
    found = counts("together", tmp_path / "index", *((60, 8) if many else (5, 3)), 1)
    assert not found["wrong"], "\n".join(found["wrong"][:20])
    assert found["commits"] > 20
    assert found["files"] > 0
    assert found["inside"] > 50
