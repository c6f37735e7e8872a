"""Making an index as small as it can be."""

from dataclasses import dataclass
from pathlib import Path

from vmr.retrieval.legacy import require_database
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.upkeep.upgrade import remove_old_files
from vmr.retrieval.vectors.generations import make_files


@dataclass(frozen=True)
class Compacted:
    """What was gained.

    Attributes:
        before: bytes of the folder before.
        after: bytes of the folder now.
    """

    before: int
    after: int


def compact_index(folder: Path) -> Compacted:
    """Make the FAISS files anew, remove those that are not needed, and give back the room of what was removed.

    Killed at any moment, the index holds what it held before. Readers go on.

    Args:
        folder: the folder of the index.

    Raises:
        IndexFileError: there is no index, it is damaged, or another process is writing it.
        VmrError: it cannot be written. It still holds what it held before.
    """
    require_database(folder)
    with IndexWriter(folder) as writer:
        before = _num_bytes(folder)
        make_files(writer, force=True)
        writer.compact()
        remove_old_files(folder)
    return Compacted(before, _num_bytes(folder))


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
