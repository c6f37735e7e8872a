"""`vmr-index verify`, `compact`, `copy`, `move-root` and `upgrade`: looking after an index."""

import sys
from pathlib import Path
from typing import Literal

from vmr.cli.common import Commands
from vmr.progress import printable

FAULTY = 1
"""The exit status of `vmr-index verify` if something is wrong with the index."""


def verify(index: str) -> None:
    """Check every row, every vector and every file of an index. Exit with status 1 if something is wrong.

    Args:
        index: folder of the index, which may be in use
    """
    from vmr.retrieval.embedding.token_files import TOKENS
    from vmr.retrieval.legacy import is_old_index, open_reader
    from vmr.retrieval.storage.verify import verify as faults_of
    from vmr.retrieval.updating.keeping import damaged_files

    folder = Path(index)
    faults = [] if is_old_index(folder) else faults_of(folder)
    for fault in faults:
        remedy = ": vmr-index compact makes it again" if fault.is_derived else ""
        print(printable(f"{fault.where}: {fault.what}{remedy}"))
    if faults:
        sys.exit(FAULTY)
    with open_reader(folder) as reader, reader.snapshot() as snapshot:
        damaged = damaged_files(folder, snapshot)
        for name in damaged:
            print(f"{TOKENS}/{name}: is damaged: vmr-index compact removes it, and it is made again when it is needed")
        if damaged:
            sys.exit(FAULTY)
        counts = (snapshot.num_videos(), snapshot.num_windows(), snapshot.num_texts())
    print("{}: {} videos, {} windows, {} texts: no fault".format(index, *counts))


def compact(index: str) -> None:
    """Make an index as small as it can be: give back the room of what was removed, and make its FAISS files anew.

    Args:
        index: folder of the index, which others may be reading
    """
    from vmr.retrieval.upkeep.compacting import compact_index

    compacted = compact_index(Path(index))
    print(f"{index}: {_megabytes(compacted.before)} before, {_megabytes(compacted.after)} now")


def copy(index: str, to: str) -> None:
    """Copy an index as it is at one moment, also while it is being written, and check the copy.

    Args:
        index: folder of the index
        to: folder to make
    """
    from vmr.retrieval.upkeep.copying import copy_index

    copied = copy_index(Path(index), Path(to))
    for fault in copied.missing:
        print(printable(f"{fault.where}: {fault.what}: vmr-index compact {to} makes it again"), file=sys.stderr)
    print(f"{to}: {copied.num_videos} videos, {copied.num_windows} windows, {_megabytes(copied.num_bytes)}")


def move_root(index: str, old: str, new: str, force: bool = False) -> None:
    """Tell an index that a folder of videos was moved or renamed. No video is read.

    Args:
        index: folder of the index
        old: the folder of videos as the index knows it; vmr-index info shows it
        new: where it is now
        force: also if none of the videos is there, for a disk that is not mounted now
    """
    from vmr.retrieval.upkeep import roots

    moved = roots.move_root(Path(index), Path(old), Path(new), force=force)
    print(f"{index}: {moved.num_found} of {moved.num_videos} videos are in {new}")


def upgrade(index: str, dtype: Literal["float32", "float16"] = "float32") -> None:
    """Convert an index of an earlier version of vmr, in its folder and without embedding a video.

    Args:
        index: folder of the index
        dtype: how vectors are stored; float16 halves the index and changes scores in the fourth digit
    """
    from vmr.retrieval.upkeep.upgrade import upgrade_index

    upgraded = upgrade_index(Path(index), dtype, progress=True)
    if upgraded is None:
        print(f"{index}: is of this version already, there is nothing to do")
        return
    print(f"{index}: {upgraded.num_videos} videos, {upgraded.num_windows} windows: upgraded")
    if upgraded.num_unknown:
        print(
            f"the files of {upgraded.num_unknown} videos are not there or were changed since the index was made: the "
            "next build embeds those that it finds"
        )


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


COMMANDS: Commands = {
    "verify": (verify, ["index"], "vmr-index verify index"),
    "compact": (compact, ["index"], "vmr-index compact index"),
    "copy": (copy, ["index", "to"], "vmr-index copy index /backup/index"),
    "move-root": (move_root, ["index", "old", "new"], "vmr-index move-root index /videos /mnt/videos"),
    "upgrade": (upgrade, ["index"], "vmr-index upgrade index"),
}
