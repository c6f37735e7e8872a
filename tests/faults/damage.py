"""Changes bits of the files of an index and cuts the files, and looks who notices.

`python -m tests.faults.damage FOLDER TRIALS SEED` makes two indexes: one that was closed, and one whose writer was
killed, whose write-ahead log is still needed. It prints one JSON object. `flips` and `cuts` count by file:

    all         trials
    harmless    nothing that the index holds has changed: the bytes are not in use
    opening     opening the index failed
    reading     reading all of it failed
    searching   a search failed
    using       something else failed that a user can ask
    misled      a search did not find a window by its own vector, and said nothing
    verify      verify said so

`wrong` has a line for each trial in which something had changed and verify did not say so, damage to the log was not
noticed when the index was opened, something else than a VmrError was raised, vectors were read that were never written,
a search was misled by a file of FAISS that had been read once, or an index that was right could not be changed.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import vmr
from tests.faults import children
from tests.faults.history import THRESHOLDS, Held, Item, file_names, metadata, open_writer, operations, put, seen, texts
from vmr.errors import VmrError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date, remove_orphans
from vmr.retrieval.vectors.space_store import SpaceStore

VIDEOS = 250  # besides those of the history, so that most bytes are in use
OPERATIONS = 60
FURTHER = 15  # that are only in the log
LOG = "index.db-wal"
SHARES = {"index.db": 10, LOG: 4, "seal": 1, "faiss": 4}  # of the trials, by file
CUTS = 0.2  # of the trials: the others change a bit
HEADER_BYTES = 200  # of a FAISS file: half of its damage is there, where sizes are
QUERIES = ("door", "person", "walks to", "1043")


class Content(NamedTuple):
    """What a database holds.

    Attributes:
        digest: of everything, found without the code that is tested.
        blocks: vectors as they are read.
        own: space, window and vector of some windows.
    """

    digest: str
    blocks: set[bytes]
    own: list[tuple[int, int, np.ndarray]]


def main() -> None:
    folder, trials, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
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
        _make_files(writer)
        with writer.commit() as changes:
            for video in list(changes.snapshot.videos())[:9]:
                changes.remove_video(video.id)
    remove_orphans(folder, file_names(folder))


def _make_files(writer: IndexWriter) -> None:
    with writer.reader.snapshot() as snapshot:
        spaces = snapshot.spaces()
    for space in spaces:
        bring_up_to_date(writer, space.id, thresholds=THRESHOLDS)


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
    size = min(HEADER_BYTES, len(data)) if file.suffix == ".faiss" and chance.random() < 0.5 else len(data)
    at = chance.randrange(8 * size)
    data[at // 8] ^= 1 << at % 8
    file.write_bytes(data)
    return f"bit {at % 8} of byte {at // 8} of {file.name}"


def cut(file: Path, chance: random.Random) -> str:
    """Make a file shorter."""
    size = chance.randrange(file.stat().st_size)
    os.truncate(file, size)
    return f"{file.name} cut to {size} bytes"


# Who notices


def probe(file: Path, known: Content) -> dict[str, Any]:
    """Say who notices that a file of an index was changed; the keys are those of the program's counts, and `wrong`."""
    folder = file.parent
    told: dict[str, Any] = {"wrong": []}
    try:
        digest = content(folder).digest
    except (sqlite3.Error, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        digest = repr(error)
    is_empty_seal = file.name == "seal" and not file.stat().st_size  # as after a power cut: it says nothing
    is_harmless = digest == known.digest and file.suffix != ".faiss" and (file.name != "seal" or is_empty_seal)
    attempts: dict[str, Callable[[], object]] = {
        "opening": lambda: IndexReader(folder).close(),
        "reading": lambda: _check_vectors(seen(folder), known.blocks),
        "searching": lambda: _search(folder, known.own, told, file.suffix == ".faiss"),
        "using": lambda: _use(folder, known.own),
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


def _search(folder: Path, own: list[tuple[int, int, np.ndarray]], told: dict[str, Any], is_faiss: bool) -> None:
    """Search for windows by their own vectors, before and after the files of FAISS were read once."""
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        stores = {space.id: SpaceStore(folder, space, exact_rows=5) for space in snapshot.spaces()}
        for is_read in (False, True):
            for thread in threading.enumerate() if is_read else ():
                if thread.name == "vmr-check-index":
                    thread.join()
            for space_id, window, vector in own:
                stores[space_id].refresh(snapshot)
                _, found = stores[space_id].search(vector[None], 1)
                if found[0, 0] != window:
                    told["misled"] = True
                    if is_faiss and is_read:
                        raise AssertionError(f"window {window} is not found")


class Own:
    """An encoder of the first space; a text is the place of a vector in `Content.own`."""

    name, about, embed_dim, fingerprint = "tiny", "for tests", 16, "f00d"
    preprocess = vmr.Preprocess(4, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)

    def __init__(self, own: list[tuple[int, int, np.ndarray]]) -> None:
        self._own = own

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._own[int(text)][2] for text in texts]))

    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def _use(folder: Path, own: list[tuple[int, int, np.ndarray]]) -> None:
    """Whatever a user asks an index; each question gets an answer or a VmrError."""
    with closing(vmr.open_index(folder, Own(own))) as index:
        questions: list[Callable[[], object]] = [
            *(partial(index.search, str(place), 3) for place, (_, _, vector) in enumerate(own) if len(vector) == 16),
            lambda: (index.info, len(index), index.is_exact),
            lambda: (index.windows, index.videos),
            lambda: index.vectors,
            lambda: (index.failures, index.remarks, index.other_files),
        ]
        refused = []
        for question in questions:
            try:
                question()
            except VmrError as error:
                refused.append(error)
        if refused:
            raise refused[0]


def _raise(faults: list[Any]) -> None:
    if faults:
        raise VmrError("; ".join(map(str, faults)))


def _change_it(folder: Path) -> None:
    """An index that is right must be so after it was changed."""
    with IndexWriter(folder) as writer:
        _one_more(writer, 2 * VIDEOS)
    faults = verify(folder)
    assert not faults, f"it was right until it was changed: {faults}"


def content(folder: Path) -> Content:
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
    query = "SELECT s.id, s.dim, s.dtype, v.first_window, v.data FROM vectors v JOIN spaces s ON s.id = v.space_id"
    blocks = [
        (space, first, np.frombuffer(data, stored[dtype]).astype(np.float32).reshape(-1, dim))
        for space, dim, dtype, first, data in database.execute(query)
    ]
    database.close()
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    own = [(space, first, block[0]) for space, first, block in blocks[:: len(blocks) // 20]]
    return Content(digest, {block.tobytes() for _, _, block in blocks}, own)


if __name__ == "__main__":
    main()
