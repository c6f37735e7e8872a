"""Changes bits of the files of an index and cuts the files, and looks who notices.

`python -m tests.faults.damage FOLDER TRIALS SEED` makes two indexes: one that was closed, and one whose writer was
killed, whose write-ahead log is still needed. It prints one JSON object. `flips` and `cuts` count by file:

    all         trials
    harmless    nothing that the index holds has changed: the bytes are not in use
    opening     opening the index failed
    reading     reading all of it failed
    verify      verify said so

`wrong` has a line for each trial in which something had changed and verify did not say so, damage to the log was not
noticed when the index was opened, something else than a VmrError was raised, vectors were read that were never written,
or an index to which no harm was done could not be changed afterwards.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import children
from tests.faults.history import Held, Item, metadata, open_writer, operations, put, seen, texts
from vmr.errors import VmrError
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter

VIDEOS = 250  # besides those of the history, so that most bytes are in use
OPERATIONS = 60
FURTHER = 15  # that are only in the log
LOG = "index.db-wal"
SHARES = {"index.db": 10, LOG: 4, "seal": 1, "faiss": 4}  # of the trials, by file
CUTS = 0.2  # of the trials: the others change a bit
QUERIES = ("door", "person", "walks to", "1043")


def main() -> None:
    folder, trials, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    closed, killed = folder / "closed", folder / "killed"
    children.call(lambda: make(closed, seed))
    shutil.copytree(closed, killed)
    make_log(killed, seed)
    known = {place: children.call(partial(content, place)) for place in (closed, killed)}
    files = [closed / "index.db", killed / LOG, closed / "seal", *closed.glob("*.faiss")]
    counts: dict[str, dict[str, Counter[str]]] = {"flips": defaultdict(Counter), "cuts": defaultdict(Counter)}
    wrong = []
    for number in range(trials):
        (file,) = chance.choices(files, [SHARES.get(file.name, SHARES["faiss"]) for file in files])
        damaged = Path(shutil.copytree(file.parent, folder / "damaged", dirs_exist_ok=True)) / file.name
        kind = "cuts" if chance.random() < CUTS else "flips"
        where = f"trial {number}, {cut(damaged, chance) if kind == 'cuts' else flip(damaged, chance)}"
        counted = counts[kind][file.name if file.name in SHARES else "faiss"]
        try:
            found = children.call(partial(probe, damaged, known[file.parent]))
        except children.ChildError as error:
            wrong.append(f"{where}: {error}")
        else:
            counted.update(["all", *(name for name in found if name != "wrong")])
            wrong += [f"{where}: {line}" for line in found["wrong"]]
        shutil.rmtree(damaged.parent)
    print(json.dumps({**counts, "wrong": wrong}))


# Two indexes


def make(folder: Path, seed: int) -> None:
    """Make an index and close it."""
    held = Held()
    with open_writer(folder) as writer:
        for operation in islice(operations(seed, held), OPERATIONS):
            operation.run(writer)
            held = operation.held
        with writer.commit() as changes:
            for number in range(VIDEOS):
                item = Item(number, number, number, number)
                video = put(changes, held, f"a/many/{number}.mp4", item)
                changes.set_metadata(video, metadata(item))
                changes.set_texts(video, texts(item))


def make_log(folder: Path, seed: int) -> None:
    """Change an index in a process that is killed, and remove the file that lies in memory: it dies with a computer."""

    def change() -> None:
        with IndexWriter(folder) as writer:
            for number in range(FURTHER):
                _one_more(writer, VIDEOS + number)
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(children.start(change), 0)
    (folder / "index.db-shm").unlink()


def _one_more(writer: IndexWriter, number: int) -> None:
    with writer.commit() as changes:
        put(changes, Held(), f"b/more/{number}.mp4", Item(number, number))


# Damage


def flip(file: Path, chance: random.Random) -> str:
    """Change one bit of a file."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(8 * len(data))
    data[at // 8] ^= 1 << at % 8
    file.write_bytes(data)
    return f"bit {at % 8} of byte {at // 8} of {file.name}"


def cut(file: Path, chance: random.Random) -> str:
    """Make a file shorter."""
    size = chance.randrange(file.stat().st_size)
    os.truncate(file, size)
    return f"{file.name} cut to {size} bytes"


# Who notices


def probe(file: Path, known: tuple[str, set[bytes]]) -> dict[str, Any]:
    """Say who notices that a file of an index was changed; the keys are those of the program's counts, and `wrong`."""
    folder = file.parent
    told: dict[str, Any] = {"wrong": []}
    try:
        digest = content(folder)[0]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        digest = repr(error)
    is_empty_seal = file.name == "seal" and not file.stat().st_size  # as after a power cut: it says nothing
    is_harmless = digest == known[0] and file.suffix != ".faiss" and (file.name != "seal" or is_empty_seal)
    attempts: dict[str, Callable[[], object]] = {
        "opening": lambda: IndexReader(folder).close(),
        "reading": lambda: _check_vectors(seen(folder), known[1]),
        "verify": lambda: _raise(verify(folder)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except VmrError as error:
            told[name] = str(error)
            if "\n" in str(error):
                told["wrong"].append(f"{name} says more than a line: {error}")
        except Exception as error:
            own = traceback.extract_tb(error.__traceback__)[-1].filename == seen.__code__.co_filename
            if not own:  # what is read may not fit together if a row was changed
                told["wrong"].append(f"{name} raises {error!r} {traceback.format_exc()}")
    if is_harmless:
        told["harmless"] = True
    elif "verify" not in told:
        told["wrong"].append("verify does not notice it")
    elif file.name == LOG and "opening" not in told:
        told["wrong"].append("opening does not notice it")
    if is_harmless and "verify" not in told:
        _change_it(folder)
    return told


def _check_vectors(found: dict[str, Any], written: set[bytes]) -> None:
    read = {data for video in found["videos"].values() for data in video["vectors"].values()}
    if not read <= written:
        raise ValueError("vectors were read that were never written")


def _raise(faults: list[Any]) -> None:
    if faults:
        raise VmrError("; ".join(map(str, faults)))


def _change_it(folder: Path) -> None:
    """An index that is right must be so after it was changed."""
    with IndexWriter(folder) as writer:
        _one_more(writer, 2 * VIDEOS)
    faults = verify(folder)
    assert not faults, f"it was right until it was changed: {faults}"


def content(folder: Path) -> tuple[str, set[bytes]]:
    """A digest of all that a database holds, without the code that is tested, and all vectors as they are read."""
    database = sqlite3.connect(f"file:{folder}/index.db?mode=ro", uri=True)
    rows = [database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()]
    tables = [name for kind, name, *_ in rows[0] if kind == "table" and not name.startswith("texts_fts")]
    rows += [database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]
    rows += [
        database.execute(
            "SELECT rowid, rank FROM texts_fts WHERE texts_fts MATCH ? ORDER BY rowid", (query,)
        ).fetchall()
        for query in QUERIES
    ]
    for column in ("content_hash", "first_window"):  # by their indexes
        query = f"SELECT id FROM videos WHERE {column} = ? ORDER BY id"
        values = database.execute(f"SELECT DISTINCT {column} FROM videos NOT INDEXED ORDER BY 1").fetchall()
        rows += [database.execute(query, value).fetchall() for value in values]
    stored = {"float16": "<f2", "float32": "<f4"}
    blocks = database.execute("SELECT s.dtype, v.data FROM vectors v JOIN spaces s ON s.id = v.space_id").fetchall()
    read = {np.frombuffer(data, stored[dtype]).astype(np.float32).tobytes() for dtype, data in blocks}
    database.close()
    return hashlib.sha256(repr(rows).encode()).hexdigest(), read


if __name__ == "__main__":
    main()
