"""Running jobs side by side, each in a process of its own on one core; what is done already is not done again."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.fair.plan import Folder
from vmr.errors import VmrError
from vmr.files import AppendedFile

_POLL_S = 0.2
_DIES_WITH_PARENT = 1  # of prctl(2), Linux


@dataclass(frozen=True)
class Job:
    """Something that a process does, and the file that shows that it is done.

    Attributes:
        name: what it is called in logs.
        result: a file that is written last, in one step; it exists when the job is done, and not before.
        command: returns the command line; called when all that the job needs is there.
        needs: the results of other jobs.
        finish: called after the command has succeeded; makes `result` where the command does not.
    """

    name: str
    result: Path
    command: Callable[[], Sequence[str]]
    needs: tuple[Path, ...] = ()
    finish: Callable[[], None] | None = None


@dataclass
class _Lane:
    """One core, and the job that runs on it."""

    core: int | None
    job: Job | None = None
    process: subprocess.Popen[bytes] | None = None
    began: float = field(default_factory=time.monotonic)


def run_jobs(
    jobs: Sequence[Job], lanes: int, folder: Folder, say: Callable[[str], None], check: Callable[[], None]
) -> None:
    """Do all jobs that are not done, in their order as far as what they need is there.

    Args:
        jobs: the jobs; what one needs is the result of another, or exists.
        lanes: how many run at once.
        folder: where logs and times are written.
        say: shows a line to the user.
        check: called before each job and after the last; raises a VmrError if none may start any more.

    Raises:
        VmrError: a process failed, a job needs what no other makes, or `check` found a reason. The other processes are
            stopped first, and go on where they were when the same comparison is started again.
    """
    cores: list[int | None] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    running = [_Lane(cores[number % len(cores)]) for number in range(lanes)]
    waiting = [job for job in jobs if not job.result.exists()]
    num_done = len(jobs) - len(waiting)
    try:
        while waiting or any(lane.job for lane in running):
            for lane in running:
                ready = next((job for job in waiting if all(need.exists() for need in job.needs)), None)
                if lane.job is None and ready is not None:
                    check()
                    waiting.remove(ready)
                    _start(lane, ready, folder)
            if not any(lane.job for lane in running):
                missing = next(need for need in waiting[0].needs if not need.exists())
                raise VmrError(f"{waiting[0].name}: {missing} is missing, and no job makes it")
            time.sleep(_POLL_S)
            for lane in running:
                if lane.job is not None and _has_ended(lane, folder):
                    num_done += 1
                    say(f"{num_done} of {len(jobs)}: {lane.job.name}, {time.monotonic() - lane.began:.0f} s")
                    lane.job = lane.process = None
        check()
    finally:
        _stop([lane.process for lane in running if lane.process is not None])


def _start(lane: _Lane, job: Job, folder: Folder) -> None:
    log = folder.log(job.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    job.result.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("ab") as output:
        lane.process = subprocess.Popen(
            list(job.command()),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the others
            preexec_fn=partial(_prepare, lane.core),  # noqa: PLW1509 - this process has no threads
        )
    lane.job, lane.began = job, time.monotonic()


def _prepare(core: int | None) -> None:
    """In the new process: keep to one core, and end when the parent is killed."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)


def _has_ended(lane: _Lane, folder: Folder) -> bool:
    """Tell whether the process of a lane has ended, and record its times. Raises VmrError if it failed."""
    assert lane.process is not None
    assert lane.job is not None
    found, status, usage = os.wait4(lane.process.pid, os.WNOHANG)
    if not found:
        return False
    lane.process.returncode = os.waitstatus_to_exitcode(status)
    record = {
        "job": lane.job.name,
        "status": lane.process.returncode,
        "wall_s": round(time.monotonic() - lane.began, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }
    times = AppendedFile(folder.processes)
    times.append(json.dumps(record))
    times.close()
    log = folder.log(lane.job.name)
    if lane.process.returncode == 0 and lane.job.finish is not None:
        lane.job.finish()
    if lane.process.returncode != 0 or not lane.job.result.exists():
        lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
        raise VmrError(f"{lane.job.name} failed with status {lane.process.returncode}: {lines[-1]} (see {log})")
    return True


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop processes; `vmr-train` writes a checkpoint first."""
    alive = [process for process in processes if process.returncode is None]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in alive:
        process.wait()
