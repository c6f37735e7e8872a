"""Records what a process that changes an index does to the disk, and looks at what a power cut may leave of it.

`python -m tests.faults.power_cuts FOLDER IMAGES SEED [PATTERN]` prints one JSON object: `calls`, how many were recorded
by kind; `images`, how many were looked at by what they held; and `wrong`, a line for each that was not right. With a
pattern, calls that flush a file whose name fits it are left out of the record, which must be noticed.
"""

import itertools
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from tests.faults import children
from tests.faults.disk import images
from tests.faults.history import Held, open_writer, operations
from tests.faults.kills import history, look, state_of
from tests.faults.system_calls import Call, record

OPERATIONS = 120  # that are recorded
LOG_PAGES = 40  # after which the log is emptied, far fewer than usual, so that this happens as well


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    calls = recorded(folder, seed)
    if sys.argv[4:]:
        calls = [call for call in calls if call.kind != "sync" or not re.fullmatch(sys.argv[4], Path(call.path).name)]
    states = [held for _, held in itertools.islice(history(seed, None), OPERATIONS + 2)]
    kinds: Counter[str] = Counter()
    place, wrong = folder / "image", []
    for cut, files in images(calls, folder / "index", {}, count, seed):
        told = sum(call.kind == "told" for call in calls[:cut])
        lay_out(files, place)
        try:
            held = state_of(children.call(lambda: look(place)), *states[told : told + 2])
        except (children.ChildError, AssertionError) as error:
            wrong.append(f"power cut after {cut} calls and {told} operations: {error}")
        else:
            kinds["acknowledged" if held is states[told] else "one more"] += 1
    print(json.dumps({"calls": Counter(call.kind for call in calls), "images": kinds, "wrong": wrong}))


def lay_out(files: dict[str, bytes], place: Path) -> None:
    """Make a folder of files anew."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)


def recorded(folder: Path, seed: int) -> list[Call]:
    """The calls of a process that makes an index and changes it."""
    arguments = ["-m", __spec__.name, "change", folder / "index", folder / "told", seed]
    return record(arguments, folder / "index", folder / "told")


def change(folder: Path, told: Path, seed: int) -> None:
    """Make an index, change it, and tell after each operation that it is done."""
    folder.mkdir()
    with told.open("wb", buffering=0) as file, open_writer(folder) as writer:
        writer._database.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        file.write(b".")
        for operation in itertools.islice(operations(seed, Held()), OPERATIONS):
            operation.run(writer)
            file.write(b".")


if __name__ == "__main__":
    if sys.argv[1] == "change":
        change(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
