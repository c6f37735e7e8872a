"""The writers of an index, for `tests.faults.cases`: each writes version 1 or 2 of an index, and says what is there."""

from pathlib import Path
from typing import Any

from tests.faults import history
from tests.faults.history import Held, Item
from tests.old_indexes import content_of, old_index
from vmr.errors import IndexFileError
from vmr.retrieval.legacy import is_old_index, open_reader
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FailedFile
from vmr.retrieval.storage.schema import DATABASE
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.updating.folder import UpdatedFolder
from vmr.retrieval.upkeep.compacting import compact_index
from vmr.retrieval.upkeep.copying import copy_index
from vmr.retrieval.upkeep.upgrade import upgrade_index
from vmr.retrieval.vectors.generations import bring_up_to_date

INDEX, COPY = "index", "copy"  # folders of cases that need more than one


def change(folder: Path, version: int) -> None:
    """Every kind of change to an index, in one commit; to do it twice is to do it once."""
    with history.open_writer(folder) as writer, writer.commit() as changes:
        held = Held({"a": f"/moved/{version}", "b": "/videos/b"})
        if version == 1:
            changes.clear(history.SETTINGS)
            history.prepare(changes, held)
        for root in {*changes.snapshot.roots().values()} - {*held.roots.values()}:
            changes.move_root(root, held.roots["a"])
        for number in range(5):
            _put(changes, held, f"a/{number}.mp4", Item(100 * version + number, number, number, number))
        there = {video.path: video.id for video in changes.snapshot.videos()}
        if version == 2:
            changes.remove_video(there["0.mp4"])
            if "moved.mp4" in there:
                changes.remove_video(there["moved.mp4"])
            changes.move_video(there["1.mp4"], "/videos/b", "moved.mp4", history.file_state(Item(1, 1)))
        changes.put_failure(FailedFile("/videos/b", "broken.mp4", None, f"broken {version}"))
        changes.set_other_files("/videos/b", {"picture": version})


def build(folder: Path, version: int) -> None:
    """An index that is made, or made anew in the place of another one."""
    held = Held()

    def fill(changes: Changes) -> None:
        history.prepare(changes, held)
        for number in range(3):
            _put(changes, held, f"a/{number}.mp4", Item(100 * version + number, number, number, number))

    with UpdatedFolder(folder, history.SETTINGS, overwrite=True) as updated:
        updated.commit(fill)


def begin_damaged(folder: Path) -> None:
    (folder / DATABASE).write_bytes(b"no database" * 1000)


def begin(folder: Path) -> None:
    """An index with enough rows for a FAISS file."""
    with history.open_writer(folder) as writer, writer.commit() as changes:
        for number in range(8):
            _put(changes, Held(), f"a/{number}.mp4", Item(number + 4, number, number, number))


def make_a_file(folder: Path, version: int) -> None:
    """New rows, and a FAISS file of all rows, one commit after the other."""
    with history.open_writer(folder) as writer:
        with writer.commit() as changes:
            _put(changes, Held(), "b/last.mp4", Item(100 + version, version, version, version))
        with writer.reader.snapshot() as snapshot:
            space, _ = snapshot.spaces()
        bring_up_to_date(writer, space.id, thresholds=history.THRESHOLDS, force=True)


def begin_index(folder: Path) -> None:
    """An index with a FAISS file, and room that is not used any more."""
    begin(folder / INDEX)
    make_a_file(folder / INDEX, 1)
    with history.open_writer(folder / INDEX) as writer, writer.commit() as changes:
        for video in list(changes.snapshot.videos())[:3]:
            changes.remove_video(video.id)


def compact(folder: Path, version: int) -> None:
    del version
    compact_index(folder / INDEX)


def copy(folder: Path, version: int) -> None:
    del version
    copy_index(folder / INDEX, folder / COPY)


def begin_old(folder: Path) -> None:
    old_index(folder / INDEX)


def upgrade(folder: Path, version: int) -> None:
    del version
    if is_old_index(folder / INDEX):
        open_reader(folder / INDEX).close()
    upgrade_index(folder / INDEX)


def _put(changes: Changes, held: Held, name: str, item: Item) -> None:
    video = history.put(changes, held, name, item)
    changes.set_metadata(video, history.metadata(item))
    changes.set_texts(video, history.texts(item))


# What is there


def read(folder: Path) -> object:
    """What a reader sees; None if it holds nothing yet, as after the commit that makes it."""
    if not is_finished(folder):
        return None
    faults = verify(folder)
    assert not faults, faults
    history.check_search(folder)
    found = history.seen(folder)
    return found if found["videos"] else None


def read_unless_damaged(folder: Path) -> object:
    try:
        return read(folder)
    except IndexFileError:
        return None


def read_parts(folder: Path) -> dict[str, Any]:
    """The rows, and what the FAISS file holds."""
    rows = read(folder)
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        files = [(each.space_id, each.kind, each.count) for each in snapshot.generations()]
    return {"rows": rows, "files": files}


def read_index(folder: Path) -> object:
    return read(folder / INDEX)


def read_copy(folder: Path) -> object:
    assert read(folder / INDEX) is not None
    return read(folder / COPY) if (folder / COPY).exists() else None


def read_upgraded(folder: Path) -> object:
    """Whether it is still an old index, and what it holds."""
    return is_old_index(folder / INDEX), content_of(open_reader(folder / INDEX))
