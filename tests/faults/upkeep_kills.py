"""Kills `vmr-index upgrade`, `copy`, `compact` and `import` again and again, and looks each time at what is left.

`python -m tests.faults.upkeep_kills FOLDER COMMAND SHARE` kills it at every SHARE-th instant, and prints one JSON
object: `kills`, how often the command was killed; `states`, how often it had been done and how often not; and `wrong`,
a line for each kill after which something was not right. The command is killed before files that it opens, makes,
renames or removes, and at instants between them.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.old_indexes import content_of, old_index
from vmr.cli.index import main as vmr_index
from vmr.retrieval.legacy import is_old_index, open_reader
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.upkeep import compacting, copying, exporting, importing, upgrade  # before any fork

TIMED_KILLS = 10
MOST_CALLS = 30  # before which it is killed, evenly over all
CALLS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "sqlite3.connect"}
LOADED = (compacting, copying, exporting, importing, upgrade)


def make(folder: Path, num_rows: int) -> None:
    """Make the folder `index` that a command is given: an old index, and for other commands one that was upgraded."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    spans = [(f"{i * 40 // num_rows:04d}.mp4", float(i), i + 1.0) for i in range(num_rows)]
    for name in sorted({span[0] for span in spans})[:20]:
        (videos / name).write_bytes(name.encode() * 100)
        os.utime(videos / name, (1_700_000_000, 1_700_000_000))
    vectors = np.random.default_rng(0).normal(size=(len(spans), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    old_index(folder / "index", spans, vectors, root=str(videos), remarks=[])


def command_line(command: str, folder: Path) -> list[str]:
    more = {"copy": [str(folder / "copy")], "import": [str(folder.parent / "vectors.npz")]}
    return [command, str(folder / "index"), *more.get(command, [])]


def run(arguments: list[str], kill_at: int | None = None, report: int | None = None) -> int:
    """Run a command in a fork. It kills itself before a call, or at its end, or reports how many calls it made."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    count = 0

    def see(event: str, _: Any) -> None:
        nonlocal count
        if event in CALLS:
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    try:
        vmr_index(arguments)
    except BaseException as error:
        print(f"{error!r}", file=sys.stderr)
        os._exit(1)
    if report is not None:
        os.write(report, str(count).encode())
    if kill_at is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def counted(arguments: list[str]) -> tuple[int, float]:
    """Run a command to its end; return its calls and its seconds."""
    read_end, write_end = os.pipe()
    started = time.monotonic()
    child = run(arguments, report=write_end)
    assert os.waitpid(child, 0)[1] == 0, "the command failed"
    took_s = time.monotonic() - started
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        return int(pipe.read()), took_s


def in_a_fork(look: Callable[[], str]) -> str:
    """Call a function in a process of its own, so that no database is open when the next fork is made."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = look()
        except BaseException as error:
            said = f"wrong {error!r}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def look(command: str, folder: Path, original: Path) -> str:
    """Look at what a killed command left, then run it again; return "done" or "not done"."""
    expected = content_of(open_reader(original))
    index, copy = folder / "index", folder / "copy"
    assert content_of(open_reader(index)) == expected, "the index is another one"
    is_done = {"upgrade": not is_old_index(index), "copy": copy.exists(), "compact": bool([*index.glob("gen-*")])}[
        command
    ]
    if command != "upgrade":
        assert verify(index) == [], verify(index)
    if copy.exists():
        assert verify(copy) == [], verify(copy)
        assert content_of(open_reader(copy)) == expected, "the copy is another one"
        shutil.rmtree(copy)
    vmr_index(command_line(command, folder))
    for each in (index, *([copy] if command == "copy" else [])):
        assert verify(each) == [], verify(each)
        assert content_of(open_reader(each)) == expected, "it is another one after the command was repeated"
    with IndexReader(index) as reader, reader.snapshot() as snapshot:
        named = {generation.file for generation in snapshot.generations()}
    left = {file.name for file in index.iterdir()} - named - {f"index.db{end}" for end in ("", "-wal", "-shm")}
    assert left == {"seal", ".lock"}, f"left over: {left}"
    return "done" if is_done else "not done"


def look_at_import(folder: Path, original: Path) -> str:
    """Look at what a killed import left, then repeat it; return "done" if some of it was there."""
    index, held = folder / "index", {}
    expected = content_of(open_reader(original))["vectors"]
    if is_finished(index):
        assert verify(index) == [], verify(index)
        held = content_of(open_reader(index))["vectors"]
        assert held.items() <= expected.items(), "it holds something else"
    vmr_index(command_line("import", folder))
    assert verify(index) == [], verify(index)
    assert content_of(open_reader(index))["vectors"] == expected, "something is missing after it was repeated"
    return "done" if held else "not done"


def main() -> None:
    folder, command, share = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    original = folder / "original"
    # From 5000 rows on there is a file of FAISS, and from 4096 on an import takes more than one commit.
    make(folder, 5200 if command in ("compact", "import") else 800)
    (folder / "index").rename(original)
    trial = folder / "trial"

    def again() -> Path:
        shutil.rmtree(trial, ignore_errors=True)
        if command == "import":
            trial.mkdir()
            return trial
        shutil.copytree(original, trial / "index")
        if command != "upgrade":
            counted(["upgrade", str(trial / "index")])
        return trial

    if command == "import":
        counted(["export", str(original), "--npz", str(folder / "vectors.npz")])
    num_calls, took_s = counted(command_line(command, again()))
    chance = random.Random(0)
    states: Counter[str] = Counter()
    wrong = []
    instants = [(number, 0.0) for number in range(1, num_calls + 1, 1 + share * num_calls // MOST_CALLS)]
    instants += [(0, took_s * chance.random()) for _ in range(TIMED_KILLS // share)]
    instants.append((num_calls + 1, 0.0))  # at its end, when all is done
    for number, pause_s in instants:
        child = run(command_line(command, again()), kill_at=number or None)
        if not number:
            time.sleep(pause_s)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if command == "import":
            said = in_a_fork(lambda: look_at_import(trial, original))
        else:
            said = in_a_fork(lambda: look(command, trial, original))
        if said.startswith("wrong"):
            wrong.append(f"call {number}, {pause_s:.4f} s: {said}")
        states[said[:8]] += 1
    print(json.dumps({"kills": len(instants), "states": states, "wrong": wrong}))


if __name__ == "__main__":
    main()
