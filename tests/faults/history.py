"""A history of random changes to an index, and what the index must hold after each of them.

Everything follows from a seed and from what is held before, so two processes agree on it without a word.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.remark import Remark
from vmr.errors import IndexFileError
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FailedFile, FileState, IndexSettings, NewVideo, Space, Text
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.faiss_store import require_faiss
from vmr.retrieval.vectors.generations import bring_up_to_date, remove_orphans
from vmr.retrieval.vectors.kinds import Thresholds
from vmr.retrieval.vectors.space_store import SpaceStore

require_faiss()  # once, and not in every child of a program
SETTINGS = IndexSettings(window_s=8.0, stride_s=4.0)
DIMENSIONS = {"half": 16, "whole": 6}
SPACES = {
    "half": Space(0, "half", "tiny", "f00d", 16, "float16", {"num_frames": 4, "reader": "pyav"}),
    "whole": Space(0, "whole", "small", "beef", 6, "float32", {"num_frames": 8, "reader": "pyav"}),
}
THRESHOLDS = Thresholds(
    file_rows=10, list_rows=80, flat_delta=5, delta=5, delta_share=0.02, removed_share=0.05, growth=2.0
)
NAMES = [f"{root}/{number}.mp4" for root in "ab" for number in range(12)] + ["a/\udcff \n.mp4", "b/é%.mp4"]


@dataclass(frozen=True)
class Item:
    """A video of an index: all about it follows from these numbers.

    Attributes:
        version: of its content.
        look: when the file was looked at for the last time.
        note: what its metadata holds; None for no metadata.
        texts: of which its texts are made; None for no texts.
        is_whole: whether it has vectors in the second space.
    """

    version: int
    look: int
    note: int | None = None
    texts: int | None = None
    is_whole: bool = True


@dataclass(frozen=True)
class Held:
    """What an index holds.

    Attributes:
        roots: letter that the names of videos begin with -> folder.
        items: name of a video -> what it is.
        failures: name of a file -> why, as a number.
        others: folder's letter -> count of other files.
    """

    roots: Mapping[str, str] = field(default_factory=lambda: {"a": "/videos/a", "b": "/videos/b"})
    items: Mapping[str, Item] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)

    def place(self, name: str) -> tuple[str, str]:
        """The root of a name, and the path below it."""
        return self.roots[name[0]], name[2:]


Change = Callable[[Changes], object]
Step = tuple[Change, Held]
"""A change within a commit, and what is held after it."""


@dataclass(frozen=True)
class Operation:
    """Something that a writer is asked to do, and that is acknowledged as a whole.

    Attributes:
        name: what it is.
        run: does it.
        held: what the index holds afterwards.
    """

    name: str
    run: Callable[[IndexWriter], object]
    held: Held


def prepare(changes: Changes, held: Held) -> None:
    """Make the roots and spaces of an index that holds nothing."""
    for root in held.roots.values():
        changes.add_root(root)
    for space in SPACES.values():
        changes.add_space(space)


@contextmanager
def open_writer(folder: Path) -> Iterator[IndexWriter]:
    """Open a writer, which makes the index if there is none, and remove FAISS files that a kill left."""
    with IndexWriter(folder, SETTINGS, lambda changes: prepare(changes, Held())) as writer:
        remove_orphans(folder, file_names(folder))
        yield writer


def operations(seed: int, held: Held) -> Iterator[Operation]:
    """Yield changes without end."""
    chance = random.Random(seed)
    number = seed * 1000
    kinds = {kind: weight for kind, (weight, _) in STEPS.items()}
    wholes: dict[str, float] = {"several": 4, "clear": 0.2, "file": 4, "file anew": 1, "compact": 0.5}
    while True:
        number += 1
        kind = chance.choices([*kinds, *wholes], [*kinds.values(), *wholes.values()])[0]
        if kind == "clear":
            held = replace(Held(), roots=held.roots)
            yield Operation(kind, lambda writer, held=held: _clear(writer, held), held)
            continue
        if kind == "compact":
            yield Operation(kind, lambda writer: writer.compact(), held)
            continue
        if kind.startswith("file"):
            name = chance.choice([*SPACES])
            yield Operation(kind, partial(_bring_up_to_date, name=name, force=kind == "file anew"), held)
            continue
        steps = []
        for each in (
            chance.choices([*kinds], [*kinds.values()], k=chance.randint(2, 5)) if kind == "several" else [kind]
        ):
            number += 1
            change, held = STEPS[each][1](held, chance, number)
            steps.append(change)
        yield Operation(kind, lambda writer, steps=tuple(steps): _commit(writer, steps), held)


def _commit(writer: IndexWriter, steps: tuple[Change, ...]) -> None:
    with writer.commit() as changes:
        for step in steps:
            step(changes)


def _clear(writer: IndexWriter, held: Held) -> None:
    with writer.commit() as changes:
        changes.clear(SETTINGS)
        prepare(changes, held)


def put(changes: Changes, held: Held, name: str, item: Item) -> int:
    """Put in a video without metadata and texts; returns its number."""
    ids = {space.name: space.id for space in changes.snapshot.spaces()}
    made = {ids[space]: each for space, each in vectors(item).items()}
    root, path = held.place(name)
    content, state, windows = content_hash(item), file_state(item), spans(item)
    return changes.put_video(NewVideo(root, path, content, state, windows[-1][1], remarks(item), windows, made))


def _bring_up_to_date(writer: IndexWriter, name: str, force: bool) -> None:
    """Make a FAISS file of a space, or merge the newer rows into it, or do without one if the space is small."""
    with writer.reader.snapshot() as snapshot:
        (space,) = (space for space in snapshot.spaces() if space.name == name)
    bring_up_to_date(writer, space.id, thresholds=THRESHOLDS, force=force)


# Steps: from what is held, the change and what is held afterwards.


def _put(held: Held, chance: random.Random, number: int) -> Step:
    name = chance.choice(NAMES)
    before = held.items.get(name)
    item = Item(number, number, None if before is None else before.note, None, chance.random() < 0.8)
    after = replace(held, items={**held.items, name: item}, failures=_without(held.failures, name))
    return lambda changes: put(changes, held, name, item), after


def _remove(held: Held, chance: random.Random, number: int) -> Step:
    if not held.items:
        return _put(held, chance, number)
    name = chance.choice(sorted(held.items))
    return _of_video(held, name, lambda changes, video: changes.remove_video(video), None)


def _move(held: Held, chance: random.Random, number: int) -> Step:
    free = sorted({*NAMES} - held.items.keys())
    if not held.items or not free:
        return _remove(held, chance, number)
    old, new = chance.choice(sorted(held.items)), chance.choice(free)
    item = replace(held.items[old], look=number)
    state = file_state(item)
    after = replace(held, items={**_without(held.items, old), new: item}, failures=_without(held.failures, new))
    root, path = held.place(new)
    return _of_video(held, old, lambda changes, video: changes.move_video(video, root, path, state), item)[0], after


def _look(held: Held, chance: random.Random, number: int) -> Step:
    if not held.items:
        return _put(held, chance, number)
    name = chance.choice(sorted(held.items))
    item = replace(held.items[name], look=number)
    state, content = file_state(item), content_hash(item)
    return _of_video(held, name, lambda changes, video: changes.set_state(video, state, content), item)


def _note(held: Held, chance: random.Random, number: int) -> Step:
    if not held.items:
        return _put(held, chance, number)
    name = chance.choice(sorted(held.items))
    item = replace(held.items[name], note=number)
    return _of_video(held, name, lambda changes, video: changes.set_metadata(video, metadata(item)), item)


def _texts(held: Held, chance: random.Random, number: int) -> Step:
    if not held.items:
        return _put(held, chance, number)
    name = chance.choice(sorted(held.items))
    item = replace(held.items[name], texts=number)
    return _of_video(held, name, lambda changes, video: changes.set_texts(video, texts(item)), item)


def _complete(held: Held, chance: random.Random, number: int) -> Step:
    """Add the vectors of the second space to a video that has none."""
    partial = sorted(name for name, item in held.items.items() if not item.is_whole)
    if not partial:
        return _put(held, chance, number)
    name = chance.choice(partial)
    item = replace(held.items[name], is_whole=True)

    def change(changes: Changes, video: int) -> None:
        (space,) = (space.id for space in changes.snapshot.spaces() if space.name == "whole")
        changes.add_vectors(video, space, vectors(item)["whole"])

    return _of_video(held, name, change, item)


def _fail(held: Held, chance: random.Random, number: int) -> Step:
    absent = sorted({*NAMES} - held.items.keys())
    if not absent:
        return _remove(held, chance, number)
    name = chance.choice(absent)
    if name in held.failures:
        after = replace(held, failures=_without(held.failures, name))
        return lambda changes: changes.remove_failure(*held.place(name)), after
    failed = FailedFile(*held.place(name), failure_state(number), f"broken {number}")
    return lambda changes: changes.put_failure(failed), replace(held, failures={**held.failures, name: number})


def _others(held: Held, chance: random.Random, number: int) -> Step:
    letter = chance.choice("ab")
    after = replace(held, others={**held.others, letter: number})
    return lambda changes: changes.set_other_files(held.roots[letter], {"picture": number}), after


def _move_root(held: Held, chance: random.Random, number: int) -> Step:
    letter = chance.choice("ab")
    new = f"/moved/{letter}{number}"
    after = replace(held, roots={**held.roots, letter: new})
    return lambda changes: changes.move_root(held.roots[letter], new), after


STEPS: dict[str, tuple[float, Callable[[Held, random.Random, int], Step]]] = {
    "put": (12, _put),
    "remove": (6, _remove),
    "move": (3, _move),
    "look": (1, _look),
    "note": (2, _note),
    "texts": (3, _texts),
    "complete": (2, _complete),
    "fail": (1, _fail),
    "others": (1, _others),
    "move root": (1, _move_root),
}
"""Kinds of changes with how often they come, in proportion."""


def _of_video(held: Held, name: str, change: Callable[[Changes, int], object], item: Item | None) -> Step:
    """A change of one video, which becomes `item`, or is gone."""
    file = "/".join(held.place(name))

    def run(changes: Changes) -> None:
        video = changes.snapshot.video_at(file)
        assert video is not None, file
        change(changes, video.id)

    items = _without(held.items, name) if item is None else {**held.items, name: item}
    return run, replace(held, items=items)


def _without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


# What follows from an item


def content_hash(item: Item) -> bytes:
    return hashlib.sha256(str(item.version).encode()).digest()


def file_state(item: Item) -> FileState:
    return FileState(1000 + item.version, 10**18 + item.look, item.version, 2 * 10**18 + item.look)


def failure_state(number: int) -> FileState | None:
    return FileState(number, number, number, number) if number % 2 else None


def spans(item: Item) -> tuple[tuple[float, float], ...]:
    return tuple((4.0 * window, 4.0 * window + 8.0) for window in range(1 + item.version % 9))


def remarks(item: Item) -> tuple[Remark, ...]:
    return (Remark("damage", f"noticed {item.version}"),) if item.version % 3 == 0 else ()


def metadata(item: Item) -> dict[str, Any]:
    return {} if item.note is None else {"note": item.note, "place": "\u00fc" * (item.note % 5)}


def texts(item: Item) -> list[Text]:
    if item.texts is None:
        return []
    words = [f"a person walks to door {item.texts} at {window}" for window in range(1 + item.texts % 4)]
    return [Text(None, None, "title", words[0]), *(Text(0.0, 4.0, "subtitle", each) for each in words)]


def vectors(item: Item) -> dict[str, np.ndarray]:
    """Name of a space -> float32 (n, D), as they are given to the index."""
    chance = np.random.default_rng(item.version)
    made = {name: chance.normal(size=(len(spans(item)), dim)).astype(np.float32) for name, dim in DIMENSIONS.items()}
    made = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in made.items()}
    return made if item.is_whole else {"half": made["half"]}


# What an index holds, in the same form as it is expected


def expected(held: Held) -> dict[str, Any]:
    """What a reader must see."""
    kept = {"half": np.float16, "whole": np.float32}
    return {
        "roots": sorted(held.roots.values()),
        "others": {"picture": sum(held.others.values())} if held.others else {},
        "failures": {
            held.place(name): (failure_state(number), f"broken {number}") for name, number in held.failures.items()
        },
        "videos": {
            held.place(name): {
                "content": content_hash(item),
                "state": file_state(item),
                "duration": spans(item)[-1][1],
                "remarks": remarks(item),
                "metadata": metadata(item),
                "spans": spans(item),
                "vectors": {
                    space: each.astype(kept[space]).astype(np.float32).tobytes()
                    for space, each in vectors(item).items()
                },
                "texts": texts(item),
            }
            for name, item in held.items.items()
        },
    }


def seen(folder: Path) -> dict[str, Any]:
    """What a reader sees."""
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        return seen_in(snapshot)


def check_search(folder: Path) -> None:
    """Check that a search of each space finds the windows that it has, and each by its own vector."""
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        for space in snapshot.spaces():
            store = SpaceStore(folder, space, exact_rows=5)
            store.refresh(snapshot)
            blocks = list(snapshot.blocks(space.id))
            ids = [block.first_window + row for block in blocks for row in range(len(block.vectors))]
            _, found = store.search(np.ones((1, space.dim), np.float32), len(ids) + 10)
            assert sorted(found[0, : len(ids)].tolist()) == sorted(ids), "a search sees other rows than the database"
            assert (found[0, len(ids) :] == -1).all()
            for block in blocks[:5]:
                scores, found = store.search(block.vectors[:1], 1)
                assert found[0, 0] == block.first_window, f"window {block.first_window} is not found: {scores}"
            names = [generation.file for generation in snapshot.generations(space.id)]
            used = [] if store.generation is None else [store.generation.file]
            assert used == names, "the FAISS file is not used"
            store.close()


def is_unfinished(folder: Path) -> bool:
    """Whether there is no index yet: its making was interrupted."""
    try:
        IndexReader(folder).close()
    except IndexFileError as error:
        return "not a finished index" in str(error)
    return False


def is_named(folder: Path, name: str) -> bool:
    """Whether a file belongs to an index."""
    return name in file_names(folder) | {"index.db", "index.db-wal", "index.db-shm", "seal", ".lock"}


def file_names(folder: Path) -> set[str]:
    """The FAISS files that an index names."""
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        return {generation.file for generation in snapshot.generations()}


def seen_in(snapshot: Snapshot) -> dict[str, Any]:
    """What a reader sees in a snapshot."""
    blocks = {
        space.name: {block.first_window: block.vectors for block in snapshot.blocks(space.id)}
        for space in snapshot.spaces()
    }
    windows: dict[str, list[tuple[float, float]]] = {}
    for window in snapshot.windows():
        windows.setdefault(window.file, []).append((window.start_s, window.end_s))
    videos = {}
    for video in snapshot.videos():
        assert (video.root, video.path) not in videos
        videos[video.root, video.path] = {
            "content": video.content_hash,
            "state": video.state,
            "duration": video.duration_s,
            "remarks": video.remarks,
            "metadata": dict(video.metadata),
            "spans": tuple(windows.pop(video.file)),
            "vectors": {
                name: found.pop(video.first_window).tobytes()
                for name, found in blocks.items()
                if video.first_window in found
            },
            "texts": list(snapshot.texts(video.id)),
        }
    assert not windows, "windows of no video"
    assert not any(blocks.values()), "vectors of no video"
    return {
        "roots": sorted(snapshot.roots().values()),
        "others": snapshot.other_files(),
        "failures": {(failed.root, failed.path): (failed.state, failed.reason) for failed in snapshot.failures()},
        "videos": videos,
    }
