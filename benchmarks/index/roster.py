"""The indexes that are compared, by name. A process imports only the package that it measures."""

import importlib.util

from benchmarks.index import databases, ours, peer
from benchmarks.index.peer import Peer

OURS = "vmr"
ROSTER: dict[str, type[Peer]] = {
    OURS: ours.Vmr,
    "faiss Flat": peer.FaissFlat,
    "faiss IVF,Flat": peer.FaissLists,
    "faiss IVF,SQ8": peer.FaissBytes,
    "faiss HNSW32": peer.FaissGraph,
    "hnswlib": peer.Hnswlib,
    "usearch": peer.Usearch,
    "LanceDB": databases.LanceDB,
    "LanceDB IVF_FLAT": databases.LanceLists,
    "sqlite-vec": databases.SqliteVec,
}
LARGE = ("faiss IVF,SQ8", "faiss HNSW32")  # also compared at the full size, if asked for


def make(name: str) -> Peer:
    """Make an index.

    Args:
        name: of ROSTER.

    Returns:
        One that is neither built nor open.
    """
    return ROSTER[name]()


def missing(name: str) -> str:
    """Tell why an index cannot be compared.

    Args:
        name: of ROSTER.

    Returns:
        The reason; empty if it can.
    """
    modules = [package.partition(".")[0] for package in ROSTER[name].packages]
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""
