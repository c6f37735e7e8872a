"""Changes an index on a disk of 3 MB until it is full, and goes on when there is room; needs the right to mount one.

`python -m tests.faults.full_disk FOLDER` prints one JSON object: `acknowledged`, how many videos were before the disk
was full; `refused`, what changes said while it was; `wrong`, a line for each thing that was wrong. Exit status 3: no
file system can be mounted.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import children
from tests.faults.history import Held, Item, check_search, expected, open_writer, put, seen
from vmr.errors import VmrError
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.upkeep.copying import copy_index
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds

MOST = 3000  # videos; far more than there is room for


def main() -> None:
    disk = Path(sys.argv[1])
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=False).returncode:
        sys.exit(3)
    try:
        print(json.dumps(children.call(lambda: fill(disk), 200)))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> dict[str, Any]:
    folder = disk / "index"
    told: dict[str, Any] = {"refused": {}, "wrong": []}
    with open_writer(folder) as writer:
        held = add(writer, Held(), 0)
        told["acknowledged"] = len(held.items)
        attempts: dict[str, Callable[[], object]] = {
            "add": lambda: add(writer, held, MOST, 1),
            "FAISS file": lambda: bring_up_to_date(writer, 1, thresholds=Thresholds(file_rows=1), force=True),
            "compact": writer.compact,
            "copy": lambda: copy_index(folder, disk / "copy"),
        }
        for name, attempt in attempts.items():
            told["refused"][name] = refusal(attempt)
            told["wrong"] += look(folder, held, name)
        names = sorted(file.name for file in disk.iterdir())
        if names != ["index"]:
            told["wrong"].append(f"left over: {names}")
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        held = add(writer, held, MOST, 1)
        for name, attempt in attempts.items():
            if name != "add" and (line := refusal(attempt)):
                told["wrong"].append(f"{name}, with room: {line}")
        told["wrong"] += look(folder, held, "with room")
    told["wrong"] += look(folder, held, "closed") + look(disk / "copy", held, "copied")
    return told


def add(writer: IndexWriter, held: Held, first: int, count: int = MOST) -> Held:
    """Add videos, and return what is held when they are there or the disk is full."""
    items = dict(held.items)
    for number in range(first, first + count):
        item, name = Item(number, number), f"a/{number}.mp4"
        try:
            with writer.commit() as changes:
                put(changes, held, name, item)
        except VmrError:
            if count == 1:
                raise
            break
        items[name] = item
    return Held(items=items)


def refusal(attempt: Callable[[], object]) -> str:
    """What an attempt says when it is refused; "" if it is not."""
    try:
        attempt()
    except VmrError as error:
        return str(error)
    return ""


def look(folder: Path, held: Held, when: str) -> list[str]:
    """What is wrong with an index."""
    found = [str(fault) for fault in verify(folder)]
    if seen(folder) != expected(held):
        found.append("it does not hold what was acknowledged")
    check_search(folder)
    return [f"{when}: {line}" for line in found]


if __name__ == "__main__":
    main()
