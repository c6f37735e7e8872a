"""`vmr-index export`, `import` and `meta`: vectors and metadata for other programs, and from them."""

import sys
from pathlib import Path

from vmr.cli.common import Commands
from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.upkeep.import_options import ImportOptions


def export(
    index: str,
    parquet: str | None = None,
    npz: str | None = None,
    csv: str | None = None,
    vectors: bool = False,
    space: str | None = None,
    where: str | None = None,
) -> None:
    """Write the windows of an index and their vectors into a file for other programs.

    Args:
        index: folder of the index
        parquet: write this file, with the columns video, window, start_s, end_s and vector
        npz: write this file, with the same as arrays of NumPy
        csv: write this file, without vectors
        vectors: write the vectors into the CSV file too, in the columns v0, v1, ...
        space: name of the vector space, if the index has several
        where: only these videos, such as 'folder = "cam07" and duration > 5 min'
    """
    from vmr.retrieval.storage.where import Where
    from vmr.retrieval.upkeep.exporting import export_vectors

    if (parquet, npz, csv).count(None) != 2:
        raise VmrError("name one file to write: --parquet FILE, --npz FILE or --csv FILE")
    if vectors and csv is None:
        raise VmrError("--vectors is for --csv: the other files hold vectors in any case")
    condition = None if where is None else Where.parse(where)
    if parquet is not None:
        to, count = parquet, export_vectors(Path(index), Path(parquet), "parquet", space=space, where=condition)
    elif npz is not None:
        to, count = npz, export_vectors(Path(index), Path(npz), "npz", space=space, where=condition)
    else:
        to = str(csv)
        count = export_vectors(Path(index), Path(to), "csv", space=space, where=condition, with_vectors=vectors)
    print(f"{to}: {count} windows")


def import_(index: str, file: str, *, options: ImportOptions) -> None:
    """Put vectors that were made elsewhere into an index, which is made if there is none.

    The file has the columns (or arrays) video, start_s, end_s and vector, as vmr-index export writes them.

    Args:
        index: folder of the index
        file: a .parquet or .npz file
    """
    from vmr.retrieval.upkeep.importing import import_vectors

    done = import_vectors(Path(index), Path(file), options, progress=True)
    known = f", {done.num_known} of the videos were there already" if done.num_known else ""
    print(f"{index}: {done.num_windows} windows of {done.num_videos} videos in the vector space {done.space}{known}")


def meta(index: str, table: str) -> None:
    """Give videos metadata from a table, to select videos by: meta.KEY in an expression of --where.

    Args:
        index: folder of the index
        table: a .csv or .parquet file, or a .json list of objects; video is a path or name of a video, the others
            columns are keys
    """
    give_metadata(index, table)


def give_metadata(index: str, table: str) -> None:
    """Give videos of an index the metadata of a table, and print what was done.

    Raises:
        VmrError: see `set_metadata`.
    """
    from vmr.retrieval.upkeep.metadata import set_metadata

    done = set_metadata(Path(index), Path(table))
    for name in done.unknown:
        print(printable(f"not in the index: {name}"), file=sys.stderr)
    print(f"{index}: metadata of {done.num_videos} videos, {len(done.unknown)} names are not in the index")


COMMANDS: Commands = {
    "export": (export, ["index"], "vmr-index export index --parquet vectors.parquet"),
    "import": (import_, ["index", "file"], "vmr-index import index vectors.parquet"),
    "meta": (meta, ["index", "table"], "vmr-index meta index cameras.csv"),
}
