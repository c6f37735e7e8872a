"""The peers that are databases: they keep the vectors on the disk, with columns by which a search can be filtered."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.index.data import BLOCK, COLUMNS, WINDOWS, Data, Filter, K, Rows, Vectors
from benchmarks.index.peer import NUM_PROBES, Peer

LOADS_EXTENSIONS = hasattr(sqlite3.Connection, "enable_load_extension")
NO_PLACE = 2**31  # of videos that are added later: no filter keeps them


class LanceDB(Peer):
    """LanceDB without an index of the vectors, which compares every pair."""

    packages, lasting = ("lancedb", "pyarrow"), True
    kind: ClassVar[str] = ""

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        import lancedb

        table = None
        for start, block in blocks(data):
            rows = lance_rows(block, start, {name: data.places(name) for name in COLUMNS})
            if table is None:
                table = lancedb.connect(folder).create_table("windows", rows)
            else:
                table.add(rows)
        assert table is not None
        if self.kind:
            table.create_index(metric="dot", index_type=self.kind, **self.shape(data.num_rows))
            for name in COLUMNS:
                table.create_scalar_index(name)

    def shape(self, num_rows: int) -> dict[str, Any]:
        """Give the options of the index."""
        return {}

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        import lancedb

        self._table = lancedb.connect(folder).open_table("windows")

    def select(self, data: Data, only: Filter) -> Any:
        """See `Peer.select`."""
        return f"{only.column} < {data.end(only)}"

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        asked = self._table.search(query[0]).distance_type("dot").limit(K).select(["id", "_distance"])
        if setting:
            asked = asked.nprobes(setting)
        if selected:
            asked = asked.where(selected, prefilter=True)
        return np.asarray(asked.to_arrow()["id"].to_numpy(), np.int64)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        self._table.add(lance_rows(vectors, first, {}))

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        self._table.delete(f"id >= {first} and id < {first + count}")


class LanceLists(LanceDB):
    """LanceDB with lists of uncompressed vectors, and indexes of the columns."""

    settings, kind = NUM_PROBES, "IVF_FLAT"

    def shape(self, num_rows: int) -> dict[str, Any]:
        """See `LanceDB.shape`."""
        return {"num_partitions": round(num_rows**0.5)}


def blocks(data: Data) -> Iterator[tuple[int, Vectors]]:
    """Give all vectors block by block, with the number of the first row of each."""
    for start in range(0, data.num_rows, BLOCK):
        yield start, np.ascontiguousarray(data.vectors[start : start + BLOCK])


def lance_rows(vectors: Vectors, first: int, places: dict[str, Rows]) -> Any:
    """Make rows of a table of LanceDB."""
    import pyarrow

    ids = np.arange(first, first + len(vectors))
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    columns = {name: places[name][ids // WINDOWS] if places else np.full(len(ids), NO_PLACE) for name in COLUMNS}
    return pyarrow.table({"id": ids, "vector": lists, **columns})


class SqliteVec(Peer):
    """sqlite-vec, which compares every pair; by apsw where Python's own sqlite3 cannot load extensions."""

    packages, lasting = ("sqlite_vec", *(() if LOADS_EXTENSIONS else ("apsw",))), True

    def build(self, data: Data, folder: Path) -> None:
        """See `Peer.build`."""
        self.open(folder)
        columns = ", ".join(f"{name} INTEGER" for name in COLUMNS)
        vectors = f"embedding float[{data.vectors.shape[1]}] distance_metric=cosine"
        self._run(f"CREATE VIRTUAL TABLE windows USING vec0(id INTEGER PRIMARY KEY, {columns}, {vectors})")
        for start, block in blocks(data):
            self._insert(start, block, {name: data.places(name) for name in COLUMNS})

    def open(self, folder: Path) -> None:
        """See `Peer.open`."""
        import sqlite_vec

        self._database: Any
        if LOADS_EXTENSIONS:
            self._database = sqlite3.connect(folder / "windows.db", isolation_level=None)
            self._database.enable_load_extension(True)
            self._database.load_extension(sqlite_vec.loadable_path())
        else:
            import apsw

            self._database = apsw.Connection(str(folder / "windows.db"))
            self._database.enable_load_extension(True)
            self._database.load_extension(sqlite_vec.loadable_path())
        self._run("PRAGMA journal_mode=WAL")
        self._run("PRAGMA synchronous=FULL")

    def select(self, data: Data, only: Filter) -> Any:
        """See `Peer.select`."""
        return f"AND {only.column} < {data.end(only)}"

    def search(self, query: Vectors, setting: int, selected: Any = None) -> Rows:
        """See `Peer.search`."""
        asked = f"SELECT id FROM windows WHERE embedding MATCH ? AND k = {K} {selected or ''}"
        return np.array([row[0] for row in self._run(asked, (query[0].tobytes(),))], np.int64)

    def add(self, first: int, vectors: Vectors) -> None:
        """See `Peer.add`."""
        self._insert(first, vectors, {})

    def remove(self, first: int, count: int) -> None:
        """See `Peer.remove`."""
        self._run("DELETE FROM windows WHERE id >= ? AND id < ?", (first, first + count))

    def _insert(self, first: int, vectors: Vectors, places: dict[str, Rows]) -> None:
        self._run("BEGIN IMMEDIATE")
        into = f"INSERT INTO windows(id, embedding, {', '.join(COLUMNS)}) VALUES (?, ?{', ?' * len(COLUMNS)})"
        for number, vector in enumerate(vectors, first):
            values = [int(places[name][number // WINDOWS]) if places else NO_PLACE for name in COLUMNS]
            self._database.execute(into, (number, vector.tobytes(), *values))
        self._run("COMMIT")

    def _run(self, command: str, values: tuple[object, ...] = ()) -> list[Any]:
        return list(self._database.execute(command, values))
