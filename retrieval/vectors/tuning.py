"""How thoroughly an approximate kind must be searched: measured on the index itself."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmr.checks import whole_number
from vmr.errors import VmrError
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import sample_rows
from vmr.retrieval.vectors.kinds import Thoroughness, has_lists, is_graph, without_lists
from vmr.retrieval.vectors.ranking import rounding_margin
from vmr.retrieval.vectors.space_store import SpaceStore
from vmr.retrieval.vectors.store import Vectors

NUM_QUERIES = 200

_WARM_UP = 5  # searches before the time is taken


@dataclass(frozen=True)
class Measured:
    """What a setting is worth.

    Attributes:
        thoroughness: the setting.
        recall: the share of the k best rows that were found, the mean over the queries.
        cpu_ms: milliseconds of one CPU that a query took.
    """

    thoroughness: Thoroughness
    recall: float
    cpu_ms: float


@dataclass(frozen=True)
class Tuning:
    """What was measured, and what was chosen.

    Attributes:
        factory: the kind of FAISS file.
        k: for how many results.
        num_queries: how many queries were asked.
        measured: every setting that was tried.
        chosen: the cheapest that reaches the recall.
    """

    factory: str
    k: int
    num_queries: int
    measured: tuple[Measured, ...]
    chosen: Measured

    @property
    def effort(self) -> str:
        """What the effort of this kind is called."""
        return "lists read" if has_lists(self.factory) else "efSearch" if is_graph(self.factory) else "effort"


def tune(
    writer: IndexWriter, space_id: int, *, recall: float, k: int = 10, queries: Vectors | None = None, seed: int = 0
) -> Tuning:
    """Find the cheapest setting with which a search of a space finds enough of the best rows, and keep it in the index.

    Args:
        writer: the writer of the index, outside a commit.
        space_id: the space.
        recall: the share of the k best rows that must be found, above 0 and at most 1.
        k: how many results a search asks for.
        queries: float32 (Q, D), such as vectors of texts; None for NUM_QUERIES stored vectors with as much noise added
            as they are long. Such queries are nearer to the rows than texts are.
        seed: of the choice of rows, and of the noise.

    Raises:
        VmrError: an argument is out of range, no setting reaches the recall, or the space is searched exactly. The
            index is unchanged then.
        IndexFileError: a block of vectors is damaged.
    """
    k = whole_number("k", k)
    if not 0 < recall <= 1:
        raise VmrError(f"recall is {recall}, but must be above 0 and at most 1")
    with writer.reader.snapshot() as snapshot:
        space = next((each for each in snapshot.spaces() if each.id == space_id), None)
        if space is None:
            raise VmrError(f"the index has no space with number {space_id}")
        store = SpaceStore(writer.folder, space)
        store.refresh(snapshot)
        if store.generation is None or store.is_exact:
            raise VmrError(f"{writer.folder}: all rows are compared with a query: the recall is 1, and nothing to tune")
        k = min(k, len(store))
        if queries is None:
            queries = _noisy_rows(snapshot, space, len(store), seed)
        worst = _worst_scores(snapshot, space, queries, k)
        measured = tuple(_measure_all(store, queries, k, worst, recall))
        factory, num_rows = store.generation.kind, len(store)
        store.close()
    enough = [each for each in measured if each.recall >= recall]
    if not enough:
        best = max(measured, key=lambda each: each.recall)
        raise VmrError(
            f"{writer.folder}: no setting of {factory} finds {recall:g} of the {k} best rows: the best finds "
            f"{best.recall:.3f}, in {best.cpu_ms:.2f} ms a query: ask for less, or build the index with another --kind"
        )
    chosen = min(enough, key=lambda each: each.cpu_ms)
    with writer.commit() as changes:
        kept = {
            "factory": without_lists(factory),
            "effort": chosen.thoroughness.effort,
            "rescore": chosen.thoroughness.rescore,
            "recall": round(chosen.recall, 4),
            "k": k,
            "cpu_ms": round(chosen.cpu_ms, 3),
            "num_queries": len(queries),
            "num_rows": num_rows,
        }
        changes.set_space(space_id, search=kept)
    return Tuning(factory, k, len(queries), measured, chosen)


def _noisy_rows(snapshot: Snapshot, space: Space, num_rows: int, seed: int) -> Vectors:
    rows = sample_rows(snapshot.blocks(space.id), num_rows, NUM_QUERIES, space.dim, seed=seed)
    noise = np.random.default_rng(seed).normal(size=rows.shape) / np.sqrt(space.dim)
    return np.asarray(rows + noise * np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _worst_scores(snapshot: Snapshot, space: Space, queries: Vectors, k: int) -> NDArray[np.float32]:
    """For each query, the score that a row must have to be one of the k best, less what rounding may change."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    largest_norm = 0.0
    for block in snapshot.blocks(space.id):
        both = np.concatenate([best, queries @ block.vectors.T], axis=1)
        best = -np.partition(-both, k - 1, axis=1)[:, :k]
        largest_norm = max(largest_norm, float(np.linalg.norm(block.vectors, axis=1).max(initial=0)))
    margins = np.array([rounding_margin(query, largest_norm) for query in queries], np.float32)
    worst: NDArray[np.float32] = best.min(axis=1) - margins
    return worst


def _measure_all(
    store: SpaceStore, queries: Vectors, k: int, worst: NDArray[np.float32], recall: float
) -> Iterator[Measured]:
    """Try settings, from the cheapest on; more effort than reaches the recall is not tried."""
    assert store.generation is not None
    factory, count = store.generation.kind, store.generation.count
    only_graph = is_graph(factory) and not has_lists(factory)
    most = min(count, 4096) if only_graph else store.num_lists
    efforts = [2**power for power in range(4 if only_graph else 0, 12) if 2**power < most] + [most]
    for rescore in (4, 10, 30) if "RaBitQ" in factory else (2, 4, 10):
        for effort in efforts:
            measured = _measure(store, queries, k, worst, Thoroughness(effort, rescore))
            yield measured
            if measured.recall >= recall:
                break


def _measure(
    store: SpaceStore, queries: Vectors, k: int, worst: NDArray[np.float32], thoroughness: Thoroughness
) -> Measured:
    for query in queries[:_WARM_UP]:
        store.search(query[None], k, thoroughness=thoroughness)
    start = time.thread_time()  # not the time of the thread that checks the file
    scores = [store.search(query[None], k, thoroughness=thoroughness)[0][0] for query in queries]
    cpu_ms = (time.thread_time() - start) / len(queries) * 1000
    is_right = np.stack(scores) >= worst[:, None]
    return Measured(thoroughness, float(is_right.sum(axis=1).mean()) / k, cpu_ms)
