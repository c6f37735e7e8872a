"""An index after kills, power cuts and damage, and while it is read.

The programs of `tests.faults` that these tests start print what happened. A few trials run by default;
`pytest -m slow -s tests/integration/test_index_survives.py` makes a thousand kills, 400 power cuts, 800 changes of
files and 100 kills of updates, searches for a minute in eight processes, and prints the counts. It takes some minutes
on two cores.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import finish, launch
from tests.patience import PATIENCE_S

FEW_OR_MANY = [pytest.param(False, id="few"), pytest.param(True, id="many", marks=pytest.mark.slow)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is such a thing: a disk would only make the tests slower."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def counts(program: str, *arguments: object) -> dict[str, Any]:
    """What a program of `tests.faults` has counted; printed as well."""
    printed = finish(launch("-m", f"tests.faults.{program}", *arguments))
    found = json.loads(printed.splitlines()[-1])  # after what was said on stderr
    print(program, *arguments[1:], {**found, "wrong": len(found["wrong"])})
    return found


@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_a_killed_writer_leaves_what_it_acknowledged(place: Path, many: bool):
    kills = 1000 if many else 25
    found = counts("kills", place / "index", kills, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert sum(found["during"].values()) == kills
    assert found["acknowledged"] > 2 * kills, "the writer was killed before it did anything"
    assert found["further"] < kills
    assert found["further"] > 0 or not many  # few kills may all miss the instant between a commit and its notice


def test_kills_notice_a_writer_that_acknowledges_too_early(place: Path):
    assert counts("kills", place / "index", 40, 1, "early")["wrong"]


@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_a_killed_update_goes_on(place: Path, many: bool):
    """Videos are added, replaced, renamed and removed, decoded and embedded."""
    found = counts("updates", place, 100 if many else 5, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["ended"] > 0
    assert found["told"] > 0


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which records system calls")


@needs_strace
@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_a_power_cut_leaves_what_was_acknowledged(place: Path, many: bool):
    found = counts("power_cuts", place, 400 if many else 30, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["images"].keys() == {"acknowledged", "one more"}
    assert min(found["calls"][kind] for kind in ("create", "write", "size", "sync", "unlink")) > 0


@needs_strace
@pytest.mark.parametrize("many", FEW_OR_MANY)
@pytest.mark.parametrize("command", ["replace", "compact", "upgrade"])
def test_a_power_cut_leaves_what_a_command_found_or_made(place: Path, many: bool, command: str):
    found = counts("command_cuts", place, 200 if many else 15, 1, command)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert command == "compact" or found["images"].keys() == {"before", "after"}


@needs_strace
@pytest.mark.parametrize("not_flushed", ["index.db-wal", "index.db", "index"])
def test_power_cuts_notice_that_something_is_not_flushed(place: Path, not_flushed: str):
    """The log, the database, and the names in the folder: without each, many images must be wrong."""
    assert len(counts("power_cuts", place, 20, 1, not_flushed)["wrong"]) > 5


@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_changed_files_are_noticed(place: Path, many: bool):
    found = counts("damage", place, 800 if many else 60, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    for file, told in (found["flips"] | found["cuts"]).items():
        assert told["verify"] > 0, file
    log = found["flips"]["index.db-wal"]
    assert log["opening"] == log["all"]


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="needs the right to mount a disk")
def test_an_index_goes_on_when_a_full_disk_has_room_again(tmp_path: Path):
    process = launch("-m", "tests.faults.full_disk", tmp_path)
    printed, _ = process.communicate(timeout=PATIENCE_S)
    if process.returncode == 3:
        pytest.skip("needs the right to mount a disk")
    assert process.returncode == 0, printed
    found = json.loads(printed)
    assert not found["wrong"], found["wrong"]
    assert found["acknowledged"] > 3
    for name, line in found["refused"].items():
        assert str(tmp_path) in line, f"{name} is not refused"


@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_readers_beside_a_writer(place: Path, many: bool):
    """No answer is wrong or stale, and searches end while a commit is under way."""
    found = counts("together", place / "index", *((60, 8) if many else (5, 3)), 1)
    assert not found["wrong"], "\n".join(found["wrong"][:20])
    assert found["commits"] > 20
    assert found["files"] > 0
    assert found["inside"] > 50


@pytest.mark.parametrize("many", FEW_OR_MANY)
def test_copies_that_are_made_beside_a_writer(place: Path, many: bool):
    """Those of vmr are right; of those that are made file by file, opening or verify notices the wrong ones."""
    count = 200 if many else 12
    found = counts("copies", place, count, 1)
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["index"] == {"right": count // 2}
