"""Copying an index while it is in use."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vmr.errors import IndexFileError
from vmr.files import Put, new_folder
from vmr.retrieval.embedding.token_files import TOKENS, TokenFolder
from vmr.retrieval.legacy import require_database
from vmr.retrieval.storage.connection import new_copy
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Fault, Generation
from vmr.retrieval.storage.schema import DATABASE
from vmr.retrieval.storage.seal import SEAL, sealed
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.updating.keeping import needed_files

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Attributes:
        num_videos: videos of the copy.
        num_windows: windows of the copy.
        num_bytes: size of its files.
        missing: what is wrong with FAISS files, as it is in the index that was copied: they can be made again.
    """

    num_videos: int
    num_windows: int
    num_bytes: int
    missing: tuple[Fault, ...]


def copy_index(folder: Path, to: Path) -> Copied:
    """Copy an index as it is at one moment; another process may be writing it.

    The copy is checked as by `vmr-index verify`, and then gets its name.

    Args:
        folder: the folder of the index.
        to: the folder to make.

    Raises:
        IndexFileError: there is no index, it is of schema 1 or damaged, or `to` exists.
        VmrError: the copy cannot be written. Nothing of it is left.
    """
    if to.exists() or to.is_symlink():
        raise IndexFileError(f"{to} exists: name a new folder for the copy")
    require_database(folder)
    with IndexReader(folder) as reader, new_folder(to) as (temporary, put):
        counts = _copy(reader, temporary, to, put)
        faults = verify(temporary)
        for fault in faults:
            if not fault.is_derived:
                said = fault.what.replace(str(temporary), str(to))
                raise IndexFileError(f"{folder} is damaged, or its copy is: {fault.where}: {said}")
        for end in ("wal", "shm"):  # of the check
            (temporary / f"{DATABASE}-{end}").unlink(missing_ok=True)
        num_bytes = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    return Copied(*counts, num_bytes, tuple(faults))


def _copy(reader: IndexReader, temporary: Path, to: Path, put: Put) -> tuple[int, int]:
    """Copy what an index holds at one moment into an empty folder; return how many videos and windows that are."""
    earlier: list[Generation] | None = None
    while True:
        with ExitStack() as files, reader.snapshot() as snapshot:
            generations = snapshot.generations()
            opened = {each.file: _opened(reader.folder / each.file, files) for each in generations}
            if None in opened.values() and generations != earlier:  # the writer may just have replaced a file
                earlier = generations
                continue
            for name, file in opened.items():
                if file is not None:
                    put(name, partial(_write_pieces, file))
            with new_copy(temporary, to) as database:
                reader.copy_to(database)
            put(SEAL, sealed(snapshot.meta("commit")))
            if (tokens := TokenFolder(reader.folder)).names():
                _copy_tokens(tokens, needed_files(snapshot), put)
            return snapshot.num_videos(), snapshot.num_windows()


def _copy_tokens(tokens: TokenFolder, names: Iterable[str], put: Put) -> None:
    """Copy the tokens that an index keeps of what is copied, as far as they are there."""
    for name in tokens.names().intersection(names):
        with ExitStack() as files:
            file = _opened(tokens.folder / name, files)
            if file is not None:
                put(f"{TOKENS}/{name}", partial(_write_pieces, file))


def _opened(path: Path, files: ExitStack) -> BinaryIO | None:
    try:
        return files.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _write_pieces(file: BinaryIO, out: BinaryIO) -> None:
    while piece := file.read(_PIECE_BYTES):
        out.write(piece)
