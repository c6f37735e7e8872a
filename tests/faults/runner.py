"""Runs the writers of `tests.faults.cases` with one failing call after another; started with LD_PRELOAD=faults.so.

Every case is a fork of one process that has imported everything. Prints one JSON object per case: `functions`, those of
vmr that an unharmed run calls, and `runs`, one object for each run with a fault.
"""

import ctypes
import errno
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.faults import cases
from tests.faults.cases import CASES, Case, silent, use_video
from tests.paths import REPOSITORY
from vmr.errors import VmrError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)
CALL, SHORT, FULL = 0, 1, 2  # as in faults.c
SECONDS = 60  # for one run
# Files that may be there: locks, what SQLite needs for itself, TensorBoard's file of each run, spooled clips in use.
PASSING = r"\.lock$|-(wal|shm|journal)$|\.tfevents\.|vmr-clips-\w+/0\.mp4$"
PLACE = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where flushing takes no time

SHIM = ctypes.CDLL(None)
SHIM.faults_hit.restype = ctypes.c_char_p
SHIM.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]

Fault = tuple[str, Callable[[Path], None], Callable[[], str]]
"""Its name, what brings it about, and what ends it and returns the call that failed."""


def call_fault(mode: int, number: int) -> Fault:
    """The call of this number fails, in a way of faults.c."""

    def end() -> str:
        hit = SHIM.faults_hit().decode()
        SHIM.faults_disarm()
        return hit

    name = f"{('call', 'short write', 'write and all later ones')[mode]} {number}"
    return name, lambda folder: SHIM.faults_arm(bytes(folder), number, ERRORS[number % len(ERRORS)], mode), end


def size_limit(size: int) -> Fault:
    """No file may be larger than `size` bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def end() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        return f"limit {size}"

    return f"limit {size}", lambda folder: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard)), end


FAULTS = [[call_fault(mode, number) for number in range(1, 300)] for mode in (CALL, SHORT, FULL)]
FAULTS.append([size_limit(size) for size in (0, 100, 1000, 10_000)])


class State:
    """What is in a folder: the value that a case reads, and the names of the files."""

    def __init__(self, case: Case, folder: Path) -> None:
        try:
            self.value = case.read(folder)
        except Exception as error:
            self.value = f"damaged: {error!r}"
        names = [str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()]
        names = [name for name in names if not re.search(PASSING, name)]
        self.files = Counter(re.sub(r"[0-9a-f]{16,}", "HASH", name) for name in names)


def run_case(case: Case) -> dict[str, Any]:
    """Run a writer without a fault, then with every fault, into a new folder and over the old content."""
    functions: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(REPOSITORY)):
            functions.add((os.path.realpath(frame.f_code.co_filename), frame.f_code.co_name))

    runs = []
    with tempfile.TemporaryDirectory(dir=PLACE) as name, silent():
        place = Path(name).resolve()
        empty, old = place / "empty", place / "old"
        for folder in (empty, old):
            folder.mkdir()
            case.begin(folder)
        case.write(old, 1)
        for before, version in ((empty, 1), (old, 2)) if case.replaces else ((empty, 1),):
            folder = Path(shutil.copytree(before, place / "folder"))
            start = State(case, folder)
            sys.setprofile(note)
            case.write(folder, version)
            sys.setprofile(None)
            end = State(case, folder)
            for faults in FAULTS if before is old or not case.replaces else (FAULTS[0], FAULTS[-1]):
                for fault in faults[:: case.every]:
                    shutil.rmtree(folder)
                    shutil.copytree(before, folder)
                    run = harmed(case, folder, version, fault, start, end)
                    if not run["hit"]:
                        break  # the writer made fewer calls
                    runs.append({"into": before.name, **run})
            shutil.rmtree(folder)
    return {"functions": sorted(functions), "runs": runs}


def harmed(case: Case, folder: Path, version: int, fault: Fault, start: State, end: State) -> dict[str, Any]:
    """Run a writer with a fault, look at what is there, and run it again without."""
    signal.alarm(SECONDS)
    name, begin, stop = fault
    error: BaseException | None = None
    begin(folder)
    try:
        case.write(folder, version)
    except BaseException as raised:
        error = raised
    hit = stop()
    found, again = State(case, folder), ""
    try:
        case.write(folder, version)
    except Exception as raised:
        again = repr(raised)
    last = State(case, folder)
    allowed = start.files | end.files  # of each name, the larger number
    return {
        "fault": name,
        "hit": hit.replace(str(folder), "FOLDER"),
        "error": None if error is None else str(error).replace(str(folder), "FOLDER"),
        "kind": None if error is None else "VmrError" if isinstance(error, VmrError) else type(error).__name__,
        "is_old": found.value == start.value,
        "is_new": found.value == end.value,
        "is_whole": is_whole(case, found.value, start.value, end.value),
        "found": str(found.value)[:300],
        "left_over": sorted((found.files - allowed).elements()),
        "lost": [] if start.value is None else sorted(((start.files & end.files) - found.files).elements()),
        "again": again or ("" if last.value == end.value else f"finds {str(last.value)[:300]}"),
        "left_over_again": sorted((last.files - allowed).elements()),
    }


def is_whole(case: Case, found: Any, old: Any, new: Any) -> bool:
    """Whether all that was found is old or new; of a case in parts, each part by itself."""
    if not case.in_parts:
        return found in (old, new)
    parts = {*old, *new}
    return (
        isinstance(found, dict)
        and parts >= found.keys()
        and all(found.get(p) in (old.get(p), new.get(p)) for p in parts)
    )


def main() -> None:
    torch.set_num_threads(1)  # a fork of a process that has threads may hang
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryDirectory() as name:
        os.environ["VMR_CACHE"] = name
        cases.VIDEO = use_video(Path(name))
        for case in sys.argv[1:] or CASES:
            child = os.fork()
            if child == 0:
                try:
                    print(json.dumps({"case": case, **run_case(CASES[case])}), flush=True)
                except BaseException:
                    traceback.print_exc()
                os._exit(0)  # without leaving the folder, which would remove it
            os.waitpid(child, 0)  # a case that crashes prints nothing


if __name__ == "__main__":
    main()
