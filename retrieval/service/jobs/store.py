"""The jobs on the disk, in a database in the folder of the index."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from vmr.errors import VmrError
from vmr.files import write_errors
from vmr.progress import printable
from vmr.retrieval.service.jobs.records import Job, JobFailure, JobProgress
from vmr.retrieval.storage.connection import as_damage
from vmr.retrieval.storage.paths import JOBS, JOBS_DATABASE

MAX_WAITING = 1000
"""How many jobs may wait."""
MAX_ENDED = 200
"""How many jobs that have ended are remembered."""
MAX_FAILURES = 1000
"""How many failures of a job are remembered."""

_VERSION = 1
_BUSY_S = 10.0  # another server of the same index writes only for a moment
_AFTER_RESTART = 1_000_000  # events that a server which was killed may have told, and not written
_TABLES = """
CREATE TABLE jobs(id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
  is_cancelling INTEGER NOT NULL, created_at REAL NOT NULL, started_at REAL, ended_at REAL, progress TEXT NOT NULL,
  num_embedded INTEGER NOT NULL, num_failed INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
CREATE TABLE failures(job INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, revision INTEGER NOT NULL,
  path TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (job, revision)) STRICT, WITHOUT ROWID;
"""


class JobStore:
    """The jobs of an index: `jobs/jobs.db` in its folder. Threads and processes may share it.

    A job that was added is on the disk when the method returns. Every method raises VmrError, naming the file, if it
    cannot be read or written.

    Args:
        index: the folder of the index.
    """

    def __init__(self, index: Path) -> None:
        self.folder = index / JOBS
        self._path = self.folder / JOBS_DATABASE
        self._lock = threading.Lock()
        with write_errors(self._path):
            self.folder.mkdir(exist_ok=True)
        with self._errors():
            self._database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA foreign_keys = ON")
        try:
            self._make_tables()
        except BaseException:
            self.close()
            raise

    def add(self, path: str) -> Job:
        """Add a job that waits.

        Args:
            path: the file or folder that is to be added to the index, absolute.

        Raises:
            HTTPException: too many jobs wait.
        """
        with self._transaction() as database:
            (waiting,) = database.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= MAX_WAITING:
                raise HTTPException(429, f"{waiting} jobs wait already: try again later, or add a whole folder at once")
            row = (os.fsencode(path), "queued", "", 0, _now(), JobProgress().model_dump_json(), 0, 0, 1)
            added = database.execute(
                "INSERT INTO jobs(path, state, message, is_cancelling, created_at, progress, num_embedded, num_failed, "
                "revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            database.execute(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state NOT IN ('queued', 'running') "
                "ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (MAX_ENDED,),
            )
            job = self._found(added.lastrowid)
        assert job is not None
        return job

    def jobs(self) -> list[Job]:
        """Return all jobs, the newest first."""
        with self._reading() as database:
            return [_job(row) for row in database.execute("SELECT * FROM jobs ORDER BY id DESC")]

    def get(self, number: int) -> Job | None:
        """Return a job; None if there is none with this id."""
        with self._reading():
            return self._found(number)

    def failures(self, number: int, after: int = 0) -> list[JobFailure]:
        """Return what a job could not add, and was told by an event later than `after`."""
        query = "SELECT path, reason, revision FROM failures WHERE job = ? AND revision > ? ORDER BY revision"
        with self._reading() as database:
            return [JobFailure(**dict(row)) for row in database.execute(query, (number, after))]

    def begin(self) -> tuple[Job, str] | None:
        """Begin the job that has waited longest. Only one server may do this.

        Returns:
            The job, which is running now, and its path; None if none waits.
        """
        oldest = "SELECT id, path FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1"
        with self._reading() as database:  # nothing is locked while there is nothing to do
            if database.execute(oldest).fetchone() is None:
                return None
        with self._transaction() as database:
            row = database.execute(oldest).fetchone()
            if row is None:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?), revision = revision + 1 "
                "WHERE id = ?",
                (_now(), row["id"]),
            )
            job = self._found(row["id"])
        assert job is not None
        return job, os.fsdecode(row["path"])

    def save(self, job: Job, failures: Sequence[JobFailure] = ()) -> None:
        """Write what has become of a job that was begun, and files that it could not add."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = :state, message = :message, ended_at = :ended, progress = :progress, "
                "num_embedded = :num_embedded, num_failed = :num_failed, revision = :revision, "
                "is_cancelling = iif(:state = 'running', is_cancelling, 0) WHERE id = :id",
                {
                    **job.model_dump(include={"id", "state", "message", "num_embedded", "num_failed", "revision"}),
                    "ended": None if job.ended_at is None else job.ended_at.timestamp(),
                    "progress": job.progress.model_dump_json(),
                },
            )
            database.executemany(
                "INSERT OR IGNORE INTO failures(job, revision, path, reason) VALUES (?, ?, ?, ?)",
                [(job.id, each.revision, each.path, each.reason) for each in failures],
            )

    def cancel(self, number: int) -> None:
        """Cancel a job that waits, or note that one that runs is to end."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'cancelled', ended_at = ?, revision = revision + 1 "
                "WHERE id = ? AND state = 'queued'",
                (_now(), number),
            )
            database.execute("UPDATE jobs SET is_cancelling = 1 WHERE id = ? AND state = 'running'", (number,))

    def take_back(self) -> None:
        """Let jobs wait again that a server has begun which has ended meanwhile. Only one server may do this.

        What they have put into the index stays there. Files that failed are told again.
        """
        with self._transaction() as database:
            database.execute(
                "DELETE FROM failures WHERE job IN (SELECT id FROM jobs WHERE state = 'running' AND NOT is_cancelling)"
            )
            database.execute(
                "UPDATE jobs SET state = iif(is_cancelling, 'cancelled', 'queued'), "
                "ended_at = iif(is_cancelling, ?, NULL), num_failed = iif(is_cancelling, num_failed, 0), "
                "is_cancelling = 0, revision = revision + ? WHERE state = 'running'",
                (_now(), _AFTER_RESTART),
            )

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _make_tables(self) -> None:
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _TABLES.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise VmrError(
                    f"{self._path} is of version {version}, not {_VERSION}: remove it, or install a newer vmr"
                )

    def _found(self, number: int | None) -> Job | None:
        with closing(self._database.execute("SELECT * FROM jobs WHERE id = ?", (number,))) as rows:
            row = rows.fetchone()
        return None if row is None else _job(row)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as raised:
            error = as_damage(raised)
            if isinstance(error, sqlite3.OperationalError):
                raise VmrError(f"{self._path}: cannot be written: {error}") from error
            raise VmrError(f"{self._path} is damaged ({error}): remove it; the index does not need it") from error


def _now() -> float:
    return datetime.now(timezone.utc).timestamp()


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = dict(row)
    values["path"] = printable(os.fsdecode(values["path"]))
    values["progress"] = JobProgress.model_validate_json(values["progress"])
    for name in ("created_at", "started_at", "ended_at"):
        values[name] = _time(values[name])
    return Job(**values)
