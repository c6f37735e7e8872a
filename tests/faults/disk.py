"""What may be on a disk after a power cut.

A write to a file is certainly on the disk only after the file has been flushed, and the name of a file only after its
folder has been. Anything later may be there, or not, or in part, and in any order.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.faults.system_calls import Call

SECTOR = 512  # bytes that a disk writes as one


class Disk:
    """A folder on a disk, while calls change it.

    Args:
        folder: calls name its files by their paths.
        files: what it holds at first, by name; it is certainly on the disk.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self._folder = str(folder)
        self._names: dict[str, int] = {}  # as running programs see them: path -> number of a file
        self._lasting_names: dict[str, int] = {}
        self._new_names: list[dict[str, int | None]] = []  # changes that may be lost; None: the name is gone
        self._contents: list[bytearray] = []  # what is certainly there
        self._changes: list[list[Call]] = []  # of each file: what may be lost
        for name, content in files.items():
            self._lasting_names[str(folder / name)] = self._names[str(folder / name)] = len(self._contents)
            self._contents.append(bytearray(content))
            self._changes.append([])

    def apply(self, call: Call) -> None:
        """Do what a call does."""
        if call.kind == "create" and call.path not in self._names:
            self._names[call.path] = len(self._contents)
            self._contents.append(bytearray())
            self._changes.append([])
            self._new_names.append({call.path: self._names[call.path]})
        elif call.kind in ("write", "size"):
            self._changes[self._names[call.path]].append(call)
        elif call.kind == "rename":
            file = self._names.pop(call.path)
            self._names[call.target] = file
            self._new_names.append({call.path: None, call.target: file})
        elif call.kind == "unlink":
            del self._names[call.path]
            self._new_names.append({call.path: None})
        elif call.kind == "sync" and call.path == self._folder:
            for change in self._new_names:
                _rename(self._lasting_names, change)
            self._new_names.clear()
        elif call.kind == "sync":
            file = self._names[call.path]
            for change in self._changes[file]:
                _change(self._contents[file], change)
            self._changes[file].clear()

    def after_a_power_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return the name and content of every file, as they may be found."""
        names = dict(self._lasting_names)
        keeps_order = chance.random() < 0.5  # as a file system with a journal does
        kept = chance.randint(0, len(self._new_names))
        for number, change in enumerate(self._new_names):
            if number < kept if keeps_order else chance.random() < 0.5:
                _rename(names, change)
        return {Path(path).name: self._found(file, chance) for path, file in names.items()}

    def _found(self, file: int, chance: random.Random) -> bytes:
        content = bytearray(self._contents[file])
        changes = self._changes[file]
        how = chance.choice(["all", "none", "first", "some"])
        kept = chance.randint(0, len(changes))
        for number, change in enumerate(changes):
            is_there = {"all": True, "none": False, "first": number < kept, "some": chance.random() < 0.5}[how]
            end = change.offset + len(change.data)
            is_torn = change.kind == "write" and chance.random() < 0.3
            if is_there:
                for part in _sectors(change) if is_torn else [change]:
                    if not is_torn or chance.random() < 0.5:
                        _change(content, part)
            elif change.kind == "write" and len(content) < end and chance.random() < 0.5:
                content.extend(bytes(end - len(content)))  # the file has grown, the data is not there
        return bytes(content)


def images(
    calls: Sequence[Call], folder: Path, files: Mapping[str, bytes], count: int, seed: int
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield what may be on the disk after power cuts at random instants.

    Args:
        calls: what was recorded.
        folder: the folder that was recorded.
        files: what it held at first, by name.
        count: how many images to yield.
        seed: decides the instants and what is lost.

    Yields:
        The number of calls before the power cut, and content by name.
    """
    chance = random.Random(seed)
    disk, done = Disk(folder, files), 0
    for cut in sorted(chance.randint(0, len(calls)) for _ in range(count)):
        for call in calls[done:cut]:
            disk.apply(call)
        done = cut
        yield cut, disk.after_a_power_cut(chance)


def _sectors(write: Call) -> Iterator[Call]:
    """The parts of a write that a disk writes one by one."""
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        size = min(end, start - start % SECTOR + SECTOR) - start
        at = start - write.offset
        yield Call("write", write.path, start, write.data[at : at + size])
        start += size


def _rename(names: dict[str, int], change: dict[str, int | None]) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _change(content: bytearray, change: Call) -> None:
    start, end = change.offset, change.offset + len(change.data)
    if change.kind == "size":
        del content[start:]
    if len(content) < start:
        content.extend(bytes(start - len(content)))
    if change.kind == "write":
        content[start:end] = change.data
