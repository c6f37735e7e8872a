"""The columns of a report: which kinds of score there are, and how each was computed. Imports no torch."""

from dataclasses import dataclass

from vmr.errors import VmrError

INDEX_PREFIX = "index:"
CONTROL_KINDS = ("static", "shuffled")
"""Columns that are not results, but show how much of a result needs no motion; see `vmr.eval.controls`."""


@dataclass(frozen=True)
class ColumnInfo:
    """A description of the scores of a column.

    Attributes:
        about: how they were computed, in words.
        uses_other_queries: whether the answer to a query depends on the other queries of the test set. A search, which
            gets one query at a time, cannot do that.
        approximate: whether the search may miss items.
    """

    about: str
    uses_other_queries: bool = False
    approximate: bool = False

    @property
    def marks(self) -> str:
        """Words that must be shown beside the column's name; often empty."""
        marks = ("uses the other test queries", self.uses_other_queries), ("approximate search", self.approximate)
        return ", ".join(mark for mark, is_so in marks if is_so)


_NORMALISED = {
    "dsl": "normalised by a dual softmax over all test queries (DSL)",
    "qbnorm": "normalised against a bank of all test queries (QB-Norm)",
}
_PLAIN = {
    "embedding": "dot products of text vectors and video vectors",
    "static": "embeddings of videos that are one frame repeated: what this scores needs no motion",
    "shuffled": "embeddings of videos whose frames are out of order: what this scores needs no order",
}


def column_info(kind: str, rerank_depth: int = 0) -> ColumnInfo:
    """Describe a column.

    Args:
        kind: the name of the column: `embedding`; `vtm`, the best by embedding re-ranked by matching; `static` and
            `shuffled`, embeddings without motion; `index:FACTORY`, embeddings searched through a FAISS index of that
            kind; or any of them followed by `+dsl` or `+qbnorm`.
        rerank_depth: how many candidates of each query were re-ranked, for `vtm`.

    Raises:
        VmrError: there is no such column.
    """
    base, *normalised = kind.split("+")
    unknown = [name for name in normalised if name not in _NORMALISED]
    if base.startswith(INDEX_PREFIX):
        factory = base.removeprefix(INDEX_PREFIX)
        about = f"embeddings, searched through a FAISS index {factory}"
    elif base == "vtm":
        about = f"raw matching logits (VTM) of the {rerank_depth} best candidates by embedding, the others below them"
    elif base in _PLAIN:
        about = _PLAIN[base]
    else:
        unknown.append(base)
    if unknown:
        known = ", ".join(("vtm", *_PLAIN, f"{INDEX_PREFIX}FACTORY"))
        raise VmrError(f"unknown kind of score '{kind}': known: {known}, with +dsl or +qbnorm")
    return ColumnInfo(
        "; ".join((about, *(_NORMALISED[name] for name in normalised))),
        uses_other_queries=bool(normalised),
        approximate=base.startswith(INDEX_PREFIX) and base != f"{INDEX_PREFIX}Flat",
    )
