"""Looks at what a power cut may leave of an index that is made anew, compacted or converted.

`python -m tests.faults.command_cuts FOLDER IMAGES SEED COMMAND` prints one JSON object: `images`, how many held what
was there before, and how many what the command makes; and `wrong`, a line for each that held something else, or not
the latter although the command had ended.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults import children, index_cases
from tests.faults.disk import images
from tests.faults.index_cases import INDEX
from tests.faults.power_cuts import lay_out
from tests.faults.system_calls import record

Folder = Callable[[Path], object]
COMMANDS: dict[str, tuple[Folder, Folder, Folder]] = {
    "replace": (
        lambda folder: index_cases.build(folder / INDEX, 1),
        lambda folder: index_cases.build(folder / INDEX, 2),
        lambda folder: index_cases.read(folder / INDEX),
    ),
    "compact": (
        index_cases.begin_index,
        lambda folder: index_cases.compact(folder, 1),
        index_cases.read_index,
    ),
    "upgrade": (
        index_cases.begin_old,
        lambda folder: index_cases.upgrade(folder, 1),
        index_cases.read_upgraded,
    ),
}
"""What is there before, what is done, and how to read what is there then."""


def main() -> None:
    folder, count, seed, command = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    begin, run, read = COMMANDS[command]
    children.call(lambda: begin(folder))
    files = {file.name: file.read_bytes() for file in (folder / INDEX).iterdir() if not file.name.endswith("-shm")}
    before = children.call(lambda: read(folder))
    calls = record(["-m", __spec__.name, "run", folder, command], folder / INDEX, folder / "told")
    after = children.call(lambda: read(folder))
    held: Counter[str] = Counter()
    wrong = []
    for cut, left in images(calls, folder / INDEX, files, count, seed):
        place = folder / "image"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        lay_out(left, place / INDEX)
        try:
            found = children.call(lambda: look(folder / "image", read, run))
        except children.ChildError as error:
            wrong.append(f"power cut after {cut} calls: {error}")
            continue
        is_over = any(call.kind == "told" for call in calls[:cut])
        if found != after and (is_over or found != before):
            wrong.append(f"power cut after {cut} of {len(calls)} calls: {str(found)[:300]}")
        held["after" if found == after else "before"] += 1
    print(json.dumps({"images": held, "wrong": wrong}))


def look(folder: Path, read: Folder, run: Folder) -> object:
    """What is there; the same command must be able to go on."""
    found = read(folder)
    run(folder)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "run":
        COMMANDS[sys.argv[3]][1](Path(sys.argv[2]))
        (Path(sys.argv[2]) / "told").write_bytes(b".")
    else:
        main()
