"""The kinds of score that a report keeps apart, and what each of them owes to what. Imports no torch."""

from dataclasses import dataclass

from vmr.errors import VmrError

INDEX_PREFIX = "index:"
CONTROL_KINDS = ("static", "shuffled")
"""Columns that are no results, but say what of one needs no motion: `vmr.eval.controls` makes them."""


@dataclass(frozen=True)
class ColumnInfo:
    """What the scores of a column are.

    about: in words. uses_other_queries: whether the answer to a query depends on which other queries the test set
    holds, which no system that is asked one question at a time can do. approximate: whether the search behind it may
    miss items.
    """

    about: str
    uses_other_queries: bool = False
    approximate: bool = False

    @property
    def marks(self) -> str:
        """What must stand beside the column's name wherever its numbers are shown; empty for an ordinary column."""
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
    """What a column of this kind is.

    The kinds: `embedding`; `vtm`, the rerank_depth best by embedding re-ranked by matching; `static` and `shuffled`,
    embeddings without motion; `index:FACTORY`, embeddings searched through a FAISS index of that kind; and any of them
    followed by `+dsl` or `+qbnorm`. Raises VmrError for another.
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
