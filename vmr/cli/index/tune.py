"""`vmr-index tune`: how thoroughly an index must be searched."""

from pathlib import Path

from jsonargparse.typing import PositiveFloat, PositiveInt

from vmr.cli.common import Commands
from vmr.cli.output import print_table
from vmr.errors import VmrError


def tune(
    index: str,
    recall: PositiveFloat = 0.98,
    k: PositiveInt = 10,
    queries: str | None = None,
    space: str | None = None,
) -> None:
    """Find how thoroughly an index must be searched to find most of the best moments, and keep that in the index.

    Only an index with an approximate kind of FAISS file needs this. The queries are vectors of the index with noise,
    unless texts are given, which are better.

    Args:
        index: folder of the index
        recall: the share of the best moments that must be found, above 0 and at most 1
        k: how many best moments count
        queries: a text file with one query per line, such as people ask; default, vectors of the index with noise
        space: which vector space, if the index has several; default, the first
    """
    import vmr
    from vmr.progress import spinner
    from vmr.retrieval.storage.writer import IndexWriter
    from vmr.retrieval.texts import embed_texts
    from vmr.retrieval.vectors import tuning

    if recall > 1:
        raise VmrError(f"--recall is {recall:g}, but all moments are a recall of 1")
    opened = vmr.open_index(index, space=space)
    vectors = None if queries is None else embed_texts(_lines(queries), opened.encoder)
    with spinner(True, "measuring"), IndexWriter(Path(index)) as writer:
        found = tuning.tune(writer, opened.space.id, recall=recall, k=k, queries=vectors)
    rows = [
        (
            str(each.thoroughness.effort),
            str(each.thoroughness.num_candidates(found.k)),
            f"{each.recall:.3f}",
            f"{each.cpu_ms:.2f}",
            "chosen" if each == found.chosen else "",
        )
        for each in found.measured
    ]
    columns = (found.effort, "scored again", f"recall@{found.k}", "CPU ms a query", "")
    print_table(f"{index}: {found.factory}, {found.num_queries} queries", columns, rows)


def _lines(file: str) -> list[str]:
    """The lines of a text file that hold something."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise VmrError(f"{file}: cannot be read: {reason}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise VmrError(f"{file} holds no query: write one per line")
    return lines


COMMANDS: Commands = {"tune": (tune, ["index"], "vmr-index tune index --recall 0.98")}
