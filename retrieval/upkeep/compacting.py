"""Making an index as small as it can be."""

from dataclasses import dataclass
from pathlib import Path

from vmr.retrieval.embedding.token_files import TokenFolder
from vmr.retrieval.legacy import require_database
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.keeping import remove_others
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
    """Make the FAISS files anew, give back the room of what was removed, and remove files that nothing needs.

    Tokens that are damaged are removed as well: they are made again when they are needed.

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
        with writer.reader.snapshot() as snapshot:
            remove_others(folder, snapshot, and_damaged=True)
        remove_old_files(folder)
    return Compacted(before, _num_bytes(folder))


def _num_bytes(folder: Path) -> int:
    own = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return own + TokenFolder(folder).num_bytes()
