"""Copies an index while another process changes it: with vmr, and file by file, which cannot be right each time.

`python -m tests.faults.copies FOLDER COPIES SEED` prints one JSON object: `files`, how many copies file by file were
`right`, `noticed` when they were opened, found by `verify`, or could not be made because a file `vanished`; `index`,
how many copies of `vmr-index copy` were right; and `wrong`, a line for each copy that nobody noticed, or that vmr made.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import children
from tests.faults.history import Held, expected, open_writer, operations, seen
from tests.faults.power_cuts import LOG_PAGES
from vmr.errors import VmrError
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.upkeep.copying import copy_index

PAUSE_S = 0.001  # of the writer after each operation
LONGEST_S = 0.02  # between two files


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    index, copy = folder / "index", folder / "copy"
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def change() -> None:
        with open_writer(index) as writer:
            writer._database.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            for operation in operations(seed, Held()):
                os.write(write_end, b".")
                operation.run(writer)
                time.sleep(PAUSE_S)

    child = children.start(change)
    done = 0

    def acknowledged() -> int:
        nonlocal done
        try:
            while more := len(os.read(read_end, 4096)):
                done += more
        except BlockingIOError:
            pass
        return done

    while acknowledged() < 30:
        time.sleep(0.01)
    plan, states = operations(seed, Held()), [Held()]  # what is held after so many operations
    told: dict[str, Any] = {"files": Counter(), "index": Counter(), "wrong": []}
    for number in range(count):
        kind = "files" if number % 2 else "index"
        before = acknowledged() - 1
        try:
            if kind == "files":
                copy_files(index, copy, chance)
            else:
                children.call(lambda: copy_index(index, copy))
        except (FileNotFoundError, children.ChildError) as error:
            told[kind]["vanished"] += 1
            if kind == "index":
                told["wrong"].append(f"copy {number}: {error}")
            shutil.rmtree(copy, ignore_errors=True)
            continue
        (copy / "index.db-shm").unlink(missing_ok=True)  # as on another computer
        states += [operation.held for operation in itertools.islice(plan, acknowledged() + 1 - len(states))]
        found = children.call(partial(judge, copy, states[before:]))
        told[kind][found] += 1
        if found == "wrong" or (kind == "index" and found != "right"):
            told["wrong"].append(f"copy {number} of {kind} is {found}")
        shutil.rmtree(copy)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(json.dumps(told))


def copy_files(index: Path, copy: Path, chance: random.Random) -> None:
    """Copy file by file, in any order, and slowly, as if they were large."""
    copy.mkdir()
    files = sorted(index.iterdir())
    for file in chance.sample(files, len(files)):
        shutil.copy(file, copy)
        time.sleep(chance.random() * LONGEST_S)


def judge(copy: Path, states: list[Held]) -> str:
    """What a copy is: "right" if it holds one of the states."""
    try:
        found = seen(copy)
    except VmrError:
        return "noticed"
    except (AssertionError, KeyError):
        found = None
    if [fault for fault in verify(copy) if not fault.is_derived]:
        return "found by verify"
    return "right" if any(found == expected(held) for held in states) else "wrong"


if __name__ == "__main__":
    main()
