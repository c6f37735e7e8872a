"""The log of a re-ranking: the logits of every finished video, on disk as soon as they are known."""

import sqlite3
from pathlib import Path

import numpy as np

from vmr.errors import VmrError
from vmr.retrieval.reranking.candidates import Scores

LOG_FILE = "rerank.sqlite"

_BUSY_S = 600.0  # how long to wait for other processes, which write only for a moment
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, tokens_at_once INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS logits (run TEXT, video INTEGER, logits BLOB NOT NULL, PRIMARY KEY (run, video));
"""


class RerankLog:
    """Logits by run and video, in `rerank.sqlite` of a folder; a kill loses at most one video, a transaction.

    Processes may share the file. Other runs in it are left alone. Every method raises VmrError, naming the file, if it
    cannot be written or is damaged.

    Args:
        folder: where the file lies; it is created if it does not exist.
        run: a hash of everything that the logits depend on.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._path, self._run = folder / LOG_FILE, run
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=_BUSY_S)
            self._connection.executescript(_TABLES)
        except (sqlite3.Error, OSError) as error:
            raise self._refusal(error) from error

    def fix_batch_size(self, tokens_at_once: int) -> int:
        """Return the batch size that this run began with, so that all its logits are equal to the last bit.

        Args:
            tokens_at_once: the batch size that fits into memory now. If the run began with a larger one, it starts
                anew.
        """
        try:
            row = self._connection.execute("SELECT tokens_at_once FROM runs WHERE run = ?", (self._run,)).fetchone()
            if row is not None and row[0] <= tokens_at_once:
                return int(row[0])
            with self._connection:
                self._connection.execute("DELETE FROM logits WHERE run = ?", (self._run,))
                self._connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?)", (self._run, tokens_at_once))
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        return tokens_at_once

    def read(self) -> dict[int, Scores]:
        """Return the logits of every finished video."""
        try:
            rows = self._connection.execute("SELECT video, logits FROM logits WHERE run = ?", (self._run,)).fetchall()
            return {int(video): np.frombuffer(data, "<f4").astype(np.float32) for video, data in rows}
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._refusal(error) from error

    def append(self, video: int, logits: Scores) -> None:
        """Write the logits of a video; they are on disk when this method returns."""
        try:
            with self._connection:
                row = (self._run, video, logits.astype("<f4").tobytes())
                self._connection.execute("INSERT OR REPLACE INTO logits VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close the file; nothing is lost if this is never called."""
        self._connection.close()

    def _refusal(self, error: Exception) -> VmrError:
        remedy = "make room on its disk, or remove it to start anew"
        return VmrError(f"{self._path}: cannot be used as the log of re-ranking: {error}; {remedy}")
