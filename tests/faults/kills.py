"""Kills a process that changes an index, again and again, and looks each time at what it left.

`python -m tests.faults.kills FOLDER KILLS SEED [early]` prints one JSON object: `during`, how many kills interrupted
what; `acknowledged`, how many operations had been; `further`, how often the one that was under way was there all the
same; and `wrong`, a line for each kill after which the index was not right. With `early`, operations are acknowledged
before they are done, which must be noticed.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults import children
from tests.faults.history import Held, check_search, expected, is_named, is_unfinished, open_writer, operations, seen
from vmr.retrieval.storage.connection import holds_index
from vmr.retrieval.storage.verify import verify

MOST_OPERATIONS = 40  # that a process is left to acknowledge
LONGEST_S = 0.005  # from then on to the kill; some operations
CREATION_S = 0.03  # from the start to the kill of a process that makes the index; twice as long as it takes
KILLS_OF_AN_INDEX = 10  # before another one is begun


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    is_early = sys.argv[4:] == ["early"]
    chance = random.Random(seed)
    held: Held | None = None  # no index
    during: Counter[str] = Counter()
    acknowledged, further, wrong = 0, 0, []
    for number in range(kills):
        if number % KILLS_OF_AN_INDEX == 0:
            shutil.rmtree(folder, ignore_errors=True)
            held = None
        at_least = 0 if held is None else chance.randint(0, MOST_OPERATIONS)
        pause_s = (CREATION_S if held is None else LONGEST_S) * chance.random()
        count = killed(folder, seed + number, held, at_least, pause_s, is_early)
        before, after = itertools.islice(history(seed + number, held), count, count + 2)
        during[after[0]] += 1
        acknowledged += count
        try:
            found = children.call(lambda: look(folder))
            held = state_of(found, before[1], after[1])
        except (children.ChildError, AssertionError) as error:
            wrong.append(f"kill {number} during {after[0]}: {error}")
            held = None
            shutil.rmtree(folder)
            continue
        further += held != before[1]
        held = held or Held()  # looking at it has made an index
    print(json.dumps({"during": during, "acknowledged": acknowledged, "further": further, "wrong": wrong}))


def history(seed: int, held: Held | None) -> Iterator[tuple[str, Held | None]]:
    """Names of what a process does one after the other, with what is held after each; the first is what is there."""
    yield "", held
    yield "create" if held is None else "open", held or Held()
    yield from ((operation.name, operation.held) for operation in operations(seed, held or Held()))


def killed(folder: Path, seed: int, held: Held | None, at_least: int, pause_s: float, is_early: bool) -> int:
    """Start a process that changes the index, and kill it.

    Args:
        folder: of the index.
        seed: of what it does.
        held: what the index holds before.
        at_least: how many operations it may acknowledge.
        pause_s: how long it goes on after that.
        is_early: whether it acknowledges an operation before it does it.

    Returns:
        How many operations it had acknowledged.
    """
    read_end, write_end = os.pipe()

    def change() -> None:
        with open_writer(folder) as writer:
            os.write(write_end, b".")
            for operation in operations(seed, held or Held()):
                if is_early:
                    os.write(write_end, b".")
                operation.run(writer)
                if not is_early:
                    os.write(write_end, b".")

    child = children.start(change)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        count = len(pipe.read(at_least))
        time.sleep(pause_s)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), "the process ended before it was killed"
        return count + len(pipe.read())


def look(folder: Path) -> dict[str, Any] | None:
    """What is there: as a reader finds it, which must be what a writer finds; None if there is no finished index."""
    found = None
    if holds_index(folder) and not is_unfinished(folder):
        faults = verify(folder)
        assert not faults, f"before a writer: {faults}"
        found = seen(folder)
        check_search(folder)
    with open_writer(folder):
        assert seen(folder) == (found or expected(Held())), "a writer finds something else than a reader"
    faults = verify(folder)
    assert not faults, f"after a writer: {faults}"
    left = [file.name for file in folder.iterdir() if not is_named(folder, file.name)]
    assert not left, f"left over: {left}"
    return found


def state_of(found: dict[str, Any] | None, *allowed: Held | None) -> Held | None:
    """Return the state, of those that are allowed, that was found."""
    for held in allowed:
        if found == (None if held is None else expected(held)):
            return held
    raise AssertionError(f"it is neither what was acknowledged nor one operation more: {str(found)[:500]}")


if __name__ == "__main__":
    main()
